/**
 * What emojibase's list needs before it is a list of things to draw: what to leave out, better names,
 * and which subjects are kept from training. Plain data; the rules are in subjects.ts.
 */

/** Subgroups that show no thing (letters, arrows, ...) or are near-identical art (families, clock faces). */
export const DROPPED_SUBGROUPS: ReadonlySet<string> = new Set(["emotion", "family", "person-symbol", "place-map"]);

/** Labels left out: pictures that fill their square, mirror images, states of one thing, or pure symbols. */
export const DROPPED_LABELS: ReadonlySet<string> = new Set(
  `foggy|night with stars|cityscape|sunrise over mountains|sunrise|cityscape at dusk|sunset|bridge at night|milky way
  |backhand index pointing left|backhand index pointing right|backhand index pointing down|index pointing at the viewer
  |middle finger|rightwards hand|leftwards hand|leftwards pushing hand|rightwards pushing hand|left-facing fist
  |right-facing fist|raised back of hand|closed mailbox with lowered flag|open mailbox with lowered flag|hourglass not done
  |magnifying glass tilted right|skull and crossbones|muted speaker|speaker low volume|speaker medium volume
  |bell with slash|musical note|musical notes|musical score|mobile phone with arrow|e-mail|incoming envelope
  |envelope with arrow|spade suit|heart suit|diamond suit|club suit|no smoking|love hotel|hotel|bank|post office
  |Japanese post office|heart decoration|heart exclamation|two hearts|revolving hearts|beating heart|orange heart
  |pink heart|light blue heart|brown heart|grey heart|white heart|black heart|mending heart|heart with ribbon
  |new moon|waxing crescent moon|first quarter moon|waxing gibbous moon|waning gibbous moon|last quarter moon
  |waning crescent moon|new moon face|first quarter moon face|last quarter moon face|sun behind small cloud
  |sun behind large cloud|umbrella|umbrella on ground|snowman without snow|fog|dotted line face|yen banknote|euro banknote
  |pound banknote|chart increasing with yen|chart decreasing|low battery|page facing up|spiral calendar
  |tear-off calendar|linked paperclips|round pushpin|locked with pen|unlocked|oncoming bus|oncoming police car
  |oncoming taxi|oncoming automobile|airplane departure|airplane arrival|2nd place medal|3rd place medal
  |high-speed train|railway car|smiling face with open hands|frowning face with open mouth|grinning cat with smiling eyes
  |card index|motorway|railway track|wood|reminder ribbon|construction|admission tickets|hot springs|squat|mahjong red dragon
  |desert|volcano|mountain|national park|camping|beach with umbrella|flower playing cards|x-ray|wind face|cyclone|dizzy|notebook|ledger|hammer and pick|broken chain|chains
  |smiling face|head shaking horizontally|head shaking vertically|deaf person|person gesturing OK|person frowning
  |person pouting|person kneeling|person standing|person: blond hair|person: curly hair|person: white hair|person: bald
  |man: bald|woman: bald|man: curly hair|woman: white hair|person: red hair|woman: beard|man: beard|man: blond hair
  |pregnant man|pregnant person|person in steamy room|people wrestling|merperson|Mx Claus|Mrs. Claus|parking|oncoming fist
  |identification card|postal horn|vibration mode|studio microphone|level slider|control knobs|open file folder
  |front-facing baby chick|field hockey|cricket game|pool 8 ball|link|hamsa|kaaba|tanabata tree|moon viewing ceremony`
    .split("|")
    .map((s) => s.trim()),
);

/** Gendered people that are kept although a neutral one of the same kind may be there, because the art is another. */
export const KEPT_PEOPLE: ReadonlySet<string> = new Set([
  "woman dancing",
  "man dancing",
  "woman with headscarf",
  "mermaid",
]);

/** emojibase label -> the noun phrase of the captions, where lower-casing and dropping punctuation is not enough. */
export const NAMES: Readonly<Record<string, string>> = {
  automobile: "car",
  "sport utility vehicle": "jeep",
  "articulated lorry": "lorry",
  locomotive: "steam train",
  honeybee: "bee",
  "lady beetle": "ladybug",
  sauropod: "long necked dinosaur",
  "T-Rex": "tyrannosaurus",
  "flying saucer": "ufo",
  "person: beard": "bearded person",
  "man: red hair": "red haired man",
  "woman: red hair": "red haired woman",
  "woman: curly hair": "curly haired woman",
  "man: white hair": "white haired man",
  "woman: blond hair": "blond woman",
  "person gesturing NO": "person saying no",
  "1st place medal": "gold medal",
  "OK hand": "ok hand",
  "love-you gesture": "love you hand",
  "sign of the horns": "rock hand",
  "see-no-evil monkey": "monkey covering its eyes",
  "hear-no-evil monkey": "monkey covering its ears",
  "speak-no-evil monkey": "monkey covering its mouth",
  "jack-o-lantern": "halloween pumpkin",
  piñata: "pinata",
  "hourglass done": "hourglass",
  "magnifying glass tilted left": "magnifying glass",
  "closed mailbox with raised flag": "mailbox",
  "open mailbox with raised flag": "open mailbox",
  "ballot box with ballot": "ballot box",
  "speaker high volume": "speaker",
  "sheaf of rice": "rice plant",
  "leaf fluttering in wind": "green leaves",
  "leafy green": "lettuce",
  "fish cake with swirl": "fish cake",
  "shallow pan of food": "pan of food",
  "bottle with popping cork": "champagne bottle",
  "teacup without handle": "cup of tea",
  "hot beverage": "cup of coffee",
  "person in lotus position": "person meditating",
  "person in suit levitating": "man floating in a suit",
  "tram car": "streetcar",
  "optical disk": "compact disc",
  locked: "padlock",
  "locked with key": "padlock with key",
  "chart increasing": "rising chart",
  "breast-feeding": "mother with baby",
  "star-struck": "star struck face",
  "rolling on the floor laughing": "laughing face",
  "sad but relieved face": "relieved sad face",
  "index pointing up": "pointing finger",
  "backhand index pointing up": "backhand pointing up",
  "pouring liquid": "pouring glass",
  "performing arts": "theater masks",
  "meat on bone": "meat on a bone",
  "roll of paper": "paper roll",
  "palm down hand": "downward hand",
  "palm up hand": "upward hand",
  "palms up together": "palms up",
  headphone: "headphones",
  "money with wings": "winged banknote",
  "face with crossed-out eyes": "dizzy face",
  "face with symbols on mouth": "swearing face",
  "snow-capped mountain": "snowy mountain",
  "rescue worker’s helmet": "rescue helmet",
  "horse racing": "jockey",
  "flag in hole": "golf hole",
  "thong sandal": "flip flop",
  "classical building": "greek temple",
  "building construction": "building site",
  "diya lamp": "oil lamp",
  "pile of poo": "poo",
  "woman’s clothes": "blouse",
  "man’s shoe": "leather shoe",
  "woman’s sandal": "sandal",
  "woman’s boot": "boot",
  "woman’s hat": "sun hat",
  tennis: "tennis racket",
  bowling: "bowling ball",
  lacrosse: "lacrosse stick",
  "ping pong": "ping pong paddle",
  badminton: "badminton racket",
  "ice hockey": "hockey stick",
  cooking: "frying pan",
  wedding: "chapel",
  mate: "mate cup",
};

/** Whole subgroups that no part of the model is trained on: kinds of thing that are unseen. */
export const HELD_OUT_SUBGROUPS: ReadonlySet<string> = new Set([
  "animal-bug",
  "food-sweet",
  "musical-instrument",
  "transport-water",
  "face-costume",
  "dishware",
]);

/** Held-out subjects (by name) whose kin are trained. */
export const HELD_OUT_NAMES: readonly string[] =
  `fox|panda|giraffe|hedgehog|koala|zebra|chipmunk|kangaroo|pig face|black cat|owl|penguin|flamingo|parrot|turtle|dragon|octopus
  |crab|tropical fish|cactus|mushroom|tulip|potted plant|pineapple|strawberry|watermelon|avocado|carrot|broccoli|hamburger|pizza|taco|sushi
  |beer mug|bubble tea|castle|hut|ferris wheel|fire engine|taxi|tractor|bicycle|helicopter|rocket|alarm clock|snowman
  |basketball|teddy bear|magic wand|backpack|running shoe|dress|television|camera|red paper lantern|key|hammer|toolbox|microscope
  |couch and lamp|bathtub|moai|smiling face with sunglasses|nerd face|astronaut|cook|vampire|person surfing|victory hand`
    .split("|")
    .map((s) => s.trim());

/** Every how-many-th remaining subject is for validation. */
export const VALIDATION_EVERY = 21;

/** The class words: a broad word for each subgroup, all of them seen in training. First match wins. */
export const KINDS: readonly (readonly [RegExp, string])[] = [
  [/^(face-costume|cat-face|monkey-face)$/, "creature"],
  [/^face/, "face"],
  [/^hand/, "hand"],
  [/^body/, "body part"],
  [/^person/, "person"],
  [/^heart/, "heart"],
  [/^animal-bird/, "bird"],
  [/^animal/, "animal"],
  [/^plant-flower/, "flower"],
  [/^plant/, "plant"],
  [/^food-fruit/, "fruit"],
  [/^food-vegetable/, "vegetable"],
  [/^food/, "food"],
  [/^drink/, "drink"],
  [/^place/, "building"],
  [/^transport/, "vehicle"],
  [/^sky/, "weather"],
  [/^clothing/, "clothing"],
  [/^tool/, "tool"],
  [/^(sport|game|event)$/, "toy"],
  [/./, "object"],
];

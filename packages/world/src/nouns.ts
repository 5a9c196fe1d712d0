/** Articles and plurals of the subjects' names. Plain English, good enough for the names that there are. */

const MASS: ReadonlySet<string> = new Set(
  "bread bacon butter salt popcorn garlic lettuce yarn soap coral ice rice spaghetti oden sake dna bamboo corn food salad beans ginger lava fondue thread luggage broccoli clothing mount weather".split(
    " ",
  ),
);
/** Singular although they end in s. */
const SINGULAR_S: ReadonlySet<string> = new Set(
  "octopus cactus bus compass cross dress walrus abacus minibus trolleybus hibiscus lotus microbus tyrannosaurus circus santa glass rhinoceros hippopotamus".split(
    " ",
  ),
);
const IRREGULAR: Readonly<Record<string, string>> = {
  person: "people",
  man: "men",
  woman: "women",
  child: "children",
  mouse: "mice",
  snowman: "snowmen",
  moose: "moose",
  goose: "geese",
  foot: "feet",
  tooth: "teeth",
  leaf: "leaves",
  knife: "knives",
  sheep: "sheep",
  fish: "fish",
  deer: "deer",
  bison: "bison",
  squid: "squid",
  shrimp: "shrimp",
  wolf: "wolves",
  elf: "elves",
  calf: "calves",
  ox: "oxen",
  blowfish: "blowfish",
  jellyfish: "jellyfish",
  die: "dice",
  mosquito: "mosquitoes",
  potato: "potatoes",
  tomato: "tomatoes",
  mango: "mangoes",
  volcano: "volcanoes",
  tornado: "tornadoes",
};
/** Words that end the head of a noun phrase: "glass of milk", "face with tears of joy". */
const TAIL: ReadonlySet<string> = new Set(
  "of with without in on and behind from covering saying tipping raising bowing facepalming shrugging getting walking running climbing meditating taking feeding holding blowing savoring screaming vomiting exhaling floating wearing fencing golfing surfing rowing swimming bouncing lifting biking cartwheeling playing juggling dancing but pointing laughing".split(
    " ",
  ),
);

function head(name: string): { before: string; word: string; after: string } {
  const words = name.split(" ");
  let at = words.findIndex((w, i) => i > 0 && (TAIL.has(w) || (w === "mountain" && words[i - 1] === "person")));
  if (at < 0) at = words.length;
  return { before: words.slice(0, at - 1).join(" "), word: words[at - 1]!, after: words.slice(at).join(" ") };
}

/** A name that is a plural already, or of a stuff that is not counted. */
export function isUncounted(name: string): boolean {
  const { word } = head(name);
  return (
    MASS.has(word) ||
    isPlural(word) ||
    /^(santa claus|mount fuji|statue of liberty|tokyo tower|high voltage|clinking|thumbs|palms|skis)/.test(name)
  );
}

function isPlural(word: string): boolean {
  return (
    /^(people|men|women|children|feet|teeth|mice|leaves)$/.test(word) ||
    (/[^su]s$/.test(word) && !SINGULAR_S.has(word) && !/is$/.test(word))
  );
}

/** "fox" → "foxes", "glass of milk" → "glasses of milk". */
export function plural(name: string): string {
  const { before, word, after } = head(name);
  return [before, pluralWord(word), after].filter((s) => s !== "").join(" ");
}

function pluralWord(word: string): string {
  const irregular = IRREGULAR[word];
  if (irregular) return irregular;
  if (word.startsWith("<")) return word; // a placeholder stays one token
  if (/[^aeiou]y$/.test(word)) return `${word.slice(0, -1)}ies`;
  if (/(s|x|z|ch|sh)$/.test(word)) return `${word}es`;
  return `${word}s`;
}

/** "a fox", "an owl"; nothing before a name that is uncounted. `words` may have adjectives before the name. */
export function withArticle(words: string, name: string): string {
  if (isUncounted(name)) return words;
  return `${/^(hour|[aio](?!ne )|e(?!we)|u(?!ni|fo|k))/.test(words) ? "an" : "a"} ${words}`;
}

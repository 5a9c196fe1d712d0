import { PLACE_NAMES, PLAIN_NAMES, placeBy } from "./backgrounds.ts";
import { LOOKS, type Look } from "./looks.ts";
import { isUncounted, plural, withArticle } from "./nouns.ts";
import type { Random } from "./random.ts";
import { ITEMS, type Item, type Manner, type Position, type Scene, type Size } from "./scene.ts";
import type { Hand, Subject } from "./subjects.ts";
import type { Variant } from "./variants.ts";

/** The phrases of the captions; `*` stands for the subject with all that belongs to it. */
export const PHRASES = {
  photo: [
    "a photo of *",
    "a picture of *",
    "an image of *",
    "a close photo of *",
    "the picture shows *",
    "a nice photo of *",
  ],
  look: {
    none: [],
    "pixel-art": [
      "pixel art of *",
      "a pixel art picture of *",
      "*, pixel art",
      "* as pixel art",
      "* in pixel art style",
    ],
    "pencil-sketch": [
      "a pencil sketch of *",
      "a pencil drawing of *",
      "*, pencil sketch",
      "* as a pencil sketch",
      "a sketch of *",
    ],
    "black-and-white": [
      "a black and white photo of *",
      "* in black and white",
      "*, black and white",
      "a black and white picture of *",
    ],
    neon: ["a neon picture of *", "*, neon", "* as a neon sign", "* in neon lights", "a neon drawing of *"],
    watercolour: [
      "a watercolor painting of *",
      "a watercolor of *",
      "*, watercolor",
      "* as a watercolor painting",
      "* in watercolor",
    ],
    "stained-glass": [
      "a stained glass window of *",
      "stained glass of *",
      "*, stained glass",
      "* as a stained glass window",
      "* in stained glass",
    ],
  },
  size: {
    tiny: ["tiny", "very small"],
    small: ["small", "little"],
    normal: [],
    large: ["large", "big"],
    huge: ["huge", "giant", "very large"],
  },
  position: {
    center: ["in the middle", "in the center"],
    left: ["on the left", "on the left side", "to the left"],
    right: ["on the right", "on the right side", "to the right"],
    top: ["at the top", "in the upper part"],
    bottom: ["at the bottom", "in the lower part"],
  },
  count: { 2: ["two", "a pair of"], 3: ["three", "a group of three"] },
  worn: ["wearing *", "with *", "wearing *"],
  beside: ["with *", "next to *", "beside *", "and *"],
  item: {
    none: [],
    hat: ["a hat", "a top hat", "a black hat"],
    crown: ["a crown", "a golden crown"],
    glasses: ["glasses", "a pair of glasses"],
    scarf: ["a scarf"],
    flower: ["a flower", "a sunflower"],
    balloon: ["a balloon", "a red balloon"],
  },
  hand: { "fluent-3d": ["3d", "glossy 3d"], "fluent-flat": ["flat"], noto: ["cartoon"], twemoji: ["simple cartoon"] },
} as const satisfies {
  photo: readonly string[];
  look: Record<Look, readonly string[]>;
  size: Record<Size, readonly string[]>;
  position: Record<Position, readonly string[]>;
  count: Record<2 | 3, readonly string[]>;
  worn: readonly string[];
  beside: readonly string[];
  item: Record<Item, readonly string[]>;
  hand: Record<Hand, readonly string[]>;
};

interface Chances {
  readonly plain: number;
  readonly look: number;
  readonly item: number;
  readonly worn: number;
  readonly count: Readonly<Record<1 | 2 | 3, number>>;
  readonly size: Readonly<Record<Size, number>>;
  readonly position: Readonly<Record<Position, number>>;
  readonly told: number;
  readonly handTold: number;
  readonly kindTold: number;
}

/** How often each thing is seen. */
const CHANCES: Chances = {
  plain: 0.2,
  look: 0.35,
  item: 0.14,
  worn: 0.65,
  count: { 1: 0.82, 2: 0.11, 3: 0.07 },
  size: { normal: 0.76, tiny: 0.04, small: 0.08, large: 0.08, huge: 0.04 },
  position: { center: 0.82, left: 0.05, right: 0.05, top: 0.04, bottom: 0.04 },
  /** and how often it is told */
  told: 0.92,
  handTold: 0.06,
  kindTold: 0.06,
};

/** Of portraits: one large subject in the middle, mostly as it is, its hand told half of the time. */
const PORTRAITS: Chances = {
  ...CHANCES,
  plain: 0.4,
  look: 0.1,
  item: 0.04,
  count: { 1: 0.94, 2: 0.04, 3: 0.02 },
  size: { normal: 0.65, tiny: 0, small: 0, large: 0.35, huge: 0 },
  position: { center: 1, left: 0, right: 0, top: 0, bottom: 0 },
  handTold: 0.5,
};

export interface SceneOptions {
  readonly portrait?: boolean | undefined;
  /** Chance of a look; by default that of scenes, or of portraits. */
  readonly looks?: number | undefined;
  readonly variant?: Variant | undefined;
}

/** Draws a random scene of one of the subjects. */
export function randomScene(
  list: readonly Subject[],
  rng: Random,
  { portrait, looks, variant }: SceneOptions = {},
): Scene {
  const chances = portrait ? PORTRAITS : CHANCES;
  const subject = rng.pick(list);
  const item: Item = rng.chance(chances.item) ? rng.pick(ITEMS.slice(1)) : "none";
  const count = item !== "none" || isUncounted(subject.name) ? 1 : (Number(rng.weighted(chances.count)) as 1 | 2 | 3);
  const position: Position = item === "none" ? rng.weighted(chances.position) : "center";
  let size: Size = rng.weighted(chances.size);
  if (item !== "none" || (count > 1 && (size === "tiny" || size === "huge"))) size = "normal";
  if (position !== "center" && (size === "large" || size === "huge")) size = "small";
  const scene: Omit<Scene, "caption"> = {
    subject: subject.hexcode,
    hand: rng.pick(subject.hands),
    ...(variant && { variant: hasColour(subject.name) ? { ...variant, colour: undefined } : variant }),
    place: rng.chance(chances.plain) ? rng.pick(PLAIN_NAMES) : rng.pick(PLACE_NAMES),
    look: rng.chance(looks ?? chances.look) ? rng.pick(LOOKS.slice(1)) : "none",
    count,
    size,
    position,
    item,
    manner: item === "none" ? "beside" : mannerOf(item, subject, rng),
    seed: rng.uint(),
  };
  return { ...scene, caption: caption(scene, subject, rng, chances) };
}

/** A red apple is never a blue one. */
const hasColour = (name: string): boolean => name.split(" ").some((word) => PLAIN_NAMES.includes(word));

/** Hats and crowns go on anything, glasses and scarfs on what has a face, the rest stands beside. */
function mannerOf(item: Item, subject: Subject, rng: Random): Manner {
  const face = /^(face|cat-face|monkey-face|person)/.test(subject.subgroup) || subject.name.endsWith(" face");
  if (item === "hat" || item === "crown") return rng.chance(CHANCES.worn) ? "worn" : "beside";
  return (item === "glasses" || item === "scarf") && face && rng.chance(CHANCES.worn) ? "worn" : "beside";
}

/** Says what is to be seen, in one of many ways. Small things are left out now and then. */
export function caption(
  scene: Omit<Scene, "caption">,
  subject: Subject,
  rng: Random,
  chances: Chances = CHANCES,
): string {
  const told = (): boolean => rng.chance(chances.told);
  const name = rng.chance(chances.kindTold) && subject.kind !== "weather" ? subject.kind : subject.name;
  let text = nounPhrase(scene, name, rng, chances);
  if (scene.item !== "none" && told()) {
    text += ` ${rng.pick(PHRASES[scene.manner]).replace("*", rng.pick<string>(PHRASES.item[scene.item]))}`;
  }
  const position = scene.position !== "center" ? told() : rng.chance(0.02);
  if (position) text += ` ${rng.pick<string>(PHRASES.position[scene.position])}`;
  const place = placeBy(scene.place);
  const apart = rng.chance(0.15);
  if (told() && !apart) text += ` ${rng.pick(place.phrases)}`;
  else if (apart) text += `, ${rng.pick(place.nouns)}`;
  if (scene.look !== "none" && rng.chance(0.97)) text = rng.pick<string>(PHRASES.look[scene.look]).replace("*", text);
  else if (rng.chance(0.62)) text = rng.pick<string>(PHRASES.photo).replace("*", text);
  return text;
}

function nounPhrase(scene: Omit<Scene, "caption">, name: string, rng: Random, chances: Chances): string {
  const words: string[] = [];
  if (scene.size !== "normal" && rng.chance(chances.told)) words.push(rng.pick<string>(PHRASES.size[scene.size]));
  if (rng.chance(chances.handTold)) words.push(rng.pick<string>(PHRASES.hand[scene.hand]));
  if (scene.variant?.colour !== undefined && rng.chance(chances.told)) words.push(scene.variant.colour);
  if (scene.count > 1) {
    const count = rng.weighted({ "0": 0.75, "1": 0.25 }) === "0" ? 0 : 1;
    return [PHRASES.count[scene.count as 2 | 3][count], ...words, plural(name)].join(" ");
  }
  return withArticle([...words, name].join(" "), name);
}

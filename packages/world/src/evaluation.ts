/**
 * The set that personalization is judged with: a photo of each held-out subject, prompts with <S*>, what the judges choose
 * among, a plain picture of every sprite, and true scenes for the base model's prompts. `packages/personalization/src/evaluation/set.ts` says what the fields mean.
 */
import { writeSafetensors } from "@likeness/engine";
import { PLACE_NAMES, PLAIN_NAMES, placeBy } from "./backgrounds.ts";
import { type DatasetOptions, sceneAt } from "./dataset.ts";
import { PHRASES } from "./grammar.ts";
import { LOOKS, type Look } from "./looks.ts";
import { plural, withArticle } from "./nouns.ts";
import { Random } from "./random.ts";
import { paintPhoto, renderScene } from "./render.ts";
import type { Item, Scene } from "./scene.ts";
import type { Sprites } from "./sprites.ts";
import { type Split, type Subject, subjects, subjectsOf } from "./subjects.ts";

export interface EvaluationSetOptions {
  /** Whose photos. */
  readonly split: Split;
  readonly seed: number;
  /** At most so many subjects; all by default. */
  readonly subjects?: number;
  readonly prompts?: number;
  /** Prompts about trained subjects, for the base model, and how many names its judge chooses among. */
  readonly backbone?: number;
  readonly names?: number;
  /** Data sets whose captions the base model may have seen: none of them is a prompt. */
  readonly trained?: readonly Pick<DatasetOptions, "seed" | "count" | "portraits" | "looks" | "variants">[];
  /** Pixels a side; 64. */
  readonly size?: number;
  /** Whose sprites retrieval tells apart, and subjects are chosen from; all by default. */
  readonly among?: readonly Subject[];
}

/** What a prompt shows beside its subject. */
interface Asked {
  readonly place?: string;
  readonly look?: Exclude<Look, "none">;
  readonly count?: 2 | 3;
  readonly item?: Exclude<Item, "none">;
}

type Nouns = [string, string, string];
const nouns = (name: string): Nouns => [withArticle(name, name), `two ${plural(name)}`, `three ${plural(name)}`];

/** The first phrases of the grammar; `*` is the subject. */
function phrase({ place, look, item }: Asked, variant: (texts: readonly string[]) => string = first): string {
  let text = "*";
  if (item !== undefined) text += ` ${variant(PHRASES.worn).replace("*", variant(PHRASES.item[item]))}`;
  if (place !== undefined) text += ` ${variant(placeBy(place).phrases)}`;
  return variant(look === undefined ? PHRASES.photo : PHRASES.look[look]).replace("*", text);
}
const first = (texts: readonly string[]): string => texts[0]!;

/** What a judge is asked about a picture: each attribute that the prompt names, among all that the grammar has. */
function judged(asked: Asked): { caption: string; choices: object[] } {
  const about = (changes: Partial<Asked>, count: number = asked.count ?? 1): string =>
    phrase({ ...asked, ...changes }).replace("*", `{${count}}`);
  const places = [...PLACE_NAMES, ...PLAIN_NAMES];
  const choices: object[] = [];
  if (asked.place !== undefined)
    choices.push({
      attribute: "place",
      right: places.indexOf(asked.place),
      captions: places.map((place) => about({ place })),
      names: places,
    });
  if (asked.look !== undefined)
    choices.push({
      attribute: "look",
      right: LOOKS.indexOf(asked.look),
      captions: LOOKS.map((look) => {
        const { look: _, ...rest } = asked;
        return phrase(look === "none" ? rest : { ...rest, look }).replace("*", `{${asked.count ?? 1}}`);
      }),
      names: LOOKS,
    });
  if (asked.count !== undefined)
    choices.push({ attribute: "count", right: asked.count - 1, captions: [1, 2, 3].map((count) => about({}, count)) });
  return { caption: about({}), choices };
}

/** Kinds of prompts in the order in which a set has them; more than these begin again. */
const KINDS: readonly (readonly ("place" | "colour" | "look" | "count" | "item")[])[] = [
  ["place"],
  ["place", "look"],
  ["place"],
  ["place", "count"],
  ["colour"],
  ["look"],
  ["place", "item"],
  ["place"],
  ["colour", "look"],
  ["place"],
];

/** The i-th prompt of a set, whatever its count; places and looks go round before one comes again. */
function promptAt(seed: number, i: number): Asked {
  const kind = KINDS[i % KINDS.length]!;
  const before = (part: (typeof kind)[number]): number =>
    Array.from({ length: i }, (_, n) => KINDS[n % KINDS.length]!).filter((k) => k.includes(part)).length;
  const next = <T>(part: (typeof kind)[number], all: readonly T[]): T =>
    shuffled(all, new Random(seed, "prompts", part))[before(part) % all.length]!;
  return {
    ...(kind.includes("place") && { place: next("place", PLACE_NAMES) }),
    ...(kind.includes("colour") && { place: next("colour", PLAIN_NAMES) }),
    ...(kind.includes("look") && { look: next("look", LOOKS.slice(1) as Exclude<Look, "none">[]) }),
    ...(kind.includes("count") && { count: next("count", [2, 3] as const) }),
    ...(kind.includes("item") && { item: next("item", ["crown", "hat"] as const) }),
  };
}

/** All of a set but its pictures; `truths` are the scenes that the base model's prompts speak of. */
export function evaluationContent(options: EvaluationSetOptions) {
  const { seed, split, prompts = 10, among = subjects() } = options;
  const instances = instancesOf(among);
  const there = subjectsOf(split).filter((s) => among.includes(s));
  const chosen = shuffled(there, new Random(seed, "subjects", split)).slice(0, options.subjects);
  const { truths, ...backbone } = backboneOf(options);
  const handOf = (s: Subject) => new Random(seed, "hand", s.hexcode).pick(s.hands);
  return {
    seed,
    subjects: chosen.map((s) => ({
      name: `${s.name} by ${handOf(s)}`,
      instance: instances.indexOf(`${s.hexcode}/${handOf(s)}`),
      class_word: s.kind,
      nouns: nouns(s.kind),
    })),
    prompts: Array.from({ length: prompts }, (_, i) => {
      const asked = promptAt(seed, i);
      const subject = ["a <S*>", "two <S*>", "three <S*>"][(asked.count ?? 1) - 1]!;
      return { prompt: phrase(asked).replace("*", subject), ...judged(asked) };
    }),
    backbone,
    truths,
  };
}

function backboneOf({ seed, backbone = 500, names = 200, trained = [], among = subjects() }: EvaluationSetOptions) {
  const seen = new Set(
    trained.flatMap((d) => Array.from({ length: d.count }, (_, i) => sceneAt({ ...d, split: "train" }, i).caption)),
  );
  const there = subjectsOf("train").filter((s) => among.includes(s));
  const known = shuffled(there, new Random(seed, "names")).slice(0, names);
  const prompts = [];
  const truths: Scene[] = [];
  for (let i = 0; prompts.length < backbone; i++) {
    const rng = new Random(seed, "backbone", i);
    const name = rng.int(0, known.length - 1);
    const look = rng.chance(0.4) ? rng.pick(LOOKS.slice(1) as Exclude<Look, "none">[]) : undefined;
    const place = rng.pick([...PLACE_NAMES, ...PLAIN_NAMES]);
    const asked: Asked = { place, ...(look && { look }) };
    const prompt = phrase(asked, (texts) => rng.pick(texts)).replace("*", nouns(known[name]!.name)[0]);
    if (seen.has(prompt)) continue;
    prompts.push({ prompt, name, ...judged(asked) });
    const key = `${known[name]!.hexcode}/${rng.pick(known[name]!.hands)}`;
    truths.push({ ...plainScene(key), place, look: look ?? "none", seed: rng.uint() });
  }
  return { names: known.map((s) => nouns(s.name)), prompts, truths };
}

/** Writes the set as a .safetensors file. @throws RangeError if a sprite isn't there */
export function writeEvaluationSet(file: string, sprites: Sprites, options: EvaluationSetOptions): void {
  const { size = 64, seed, among = subjects() } = options;
  const { truths, ...content } = evaluationContent(options);
  const instances = instancesOf(among);
  const pictures = <T>(list: readonly T[], draw: (item: T) => Uint8Array) => {
    const data = new Uint8Array(list.length * size * size * 3);
    for (const [i, item] of list.entries()) data.set(draw(item), i * size * size * 3);
    return { dtype: "U8" as const, shape: [list.length, size, size, 3], data };
  };
  const photos = content.subjects.map(({ instance }) => {
    const { subject, hand } = parse(instances[instance]!);
    return paintPhoto(sprites.get(subject, hand), new Random(seed, "photo", instances[instance]!).uint(), size);
  });
  const covered = photos.flatMap(({ mask }) => Array.from(mask, (x) => Math.round(255 * x)));
  writeSafetensors(
    file,
    {
      images: pictures(instances, (key) => renderScene(sprites, plainScene(key), size)),
      photos: pictures(photos, (canvas) => canvas.bytes()),
      masks: { dtype: "U8", shape: [photos.length, size, size], data: Uint8Array.from(covered) },
      scenes: pictures(truths, (truth) => renderScene(sprites, truth, size)),
    },
    { made_by: "packages/world", split: options.split, evaluation: JSON.stringify(content) },
  );
}

/** "hexcode/hand" of every sprite. */
const instancesOf = (list: readonly Subject[]): string[] =>
  list.flatMap((s) => s.hands.map((h) => `${s.hexcode}/${h}`));

function parse(key: string): Pick<Scene, "subject" | "hand"> {
  const [subject, hand] = key.split("/") as [string, Scene["hand"]];
  return { subject, hand };
}

/** An instance on gray, alone, in the middle. */
const plainScene = (key: string): Scene => ({
  ...parse(key),
  ...{ place: "gray", look: "none", count: 1, size: "normal", position: "center", item: "none", manner: "beside" },
  ...{ seed: 1, caption: "" },
});

function shuffled<T>(list: readonly T[], rng: Random): T[] {
  const out = [...list];
  for (let i = out.length - 1; i > 0; i--) {
    const j = rng.int(0, i);
    [out[i], out[j]] = [out[j]!, out[i]!];
  }
  return out;
}

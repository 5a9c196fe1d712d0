import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import * as list from "./subject-list.ts";

/** An art hand: the same subject drawn by another artist. */
export type Hand = "fluent-3d" | "fluent-flat" | "noto" | "twemoji";
export const HANDS: readonly Hand[] = ["fluent-3d", "fluent-flat", "noto", "twemoji"];

export type Split = "train" | "validation" | "held-out";

export interface Subject {
  /** emojibase's code points, e.g. "1F98A" */
  readonly hexcode: string;
  /** lower-case noun phrase, e.g. "fox", "red apple" */
  readonly name: string;
  /** the class word: a broad word that training has seen, e.g. "animal" */
  readonly kind: string;
  readonly group: string;
  readonly subgroup: string;
  readonly split: Split;
  /** at least three */
  readonly hands: readonly Hand[];
  /** where each hand's art lies: a file, or an icon name in the Noto set */
  readonly art: Readonly<Partial<Record<Hand, string>>>;
}

interface Entry {
  label: string;
  hexcode: string;
  group?: number;
  subgroup?: number;
  order?: number;
  gender?: number;
}

const require = createRequire(import.meta.url);
const THINGS: ReadonlySet<string> = new Set([
  "smileys-emotion",
  "people-body",
  "animals-nature",
  "food-drink",
  "travel-places",
  "activities",
  "objects",
]);

let cached: readonly Subject[] | undefined;
let index: ReadonlyMap<string, Subject> | undefined;

/** Every subject that the renderer can draw, in emojibase's order. The same list on every machine. */
export function subjects(): readonly Subject[] {
  return (cached ??= build());
}

export function subjectsOf(split: Split): readonly Subject[] {
  return subjects().filter((s) => s.split === split);
}

/** The names of the subjects of each split. */
export function splitNames(): Record<Split, string[]> {
  const names = (split: Split): string[] => subjectsOf(split).map((s) => s.name);
  return { "held-out": names("held-out"), validation: names("validation"), train: names("train") };
}

/** @throws RangeError if there is no such subject */
export function subjectBy(key: string): Subject {
  index ??= new Map(subjects().flatMap((s) => [[s.hexcode, s] as const, [s.name, s] as const]));
  const found = index.get(key);
  if (!found) throw new RangeError(`no subject with the hexcode or name "${key}"`);
  return found;
}

function build(): Subject[] {
  const entries = [...(require("emojibase-data/en/data.json") as Entry[])].sort(
    (a, b) => (a.order ?? 0) - (b.order ?? 0),
  );
  const meta = require("emojibase-data/meta/groups.json") as {
    groups: Record<string, string>;
    subgroups: Record<string, string>;
  };
  const art = artFinder();
  const heldOut = new Set(list.HELD_OUT_NAMES);
  const names = new Set<string>();
  const out: Subject[] = [];
  let rest = 0;
  for (const entry of entries) {
    const group = meta.groups[String(entry.group)] ?? "";
    const subgroup = meta.subgroups[String(entry.subgroup)] ?? "";
    if (!THINGS.has(group) || !wanted(entry.label, subgroup)) continue;
    const found = art(entry);
    const hands = HANDS.filter((h) => found[h] !== undefined);
    const name = nameOf(entry.label);
    if (hands.length < 3 || names.has(name)) continue;
    names.add(name);
    const kind = list.KINDS.find(([pattern]) => pattern.test(subgroup))![1];
    let split: Split = "train";
    if (list.HELD_OUT_SUBGROUPS.has(subgroup) || heldOut.has(name)) split = "held-out";
    else if (!ITEM_NAMES.has(name) && rest++ % list.VALIDATION_EVERY === list.VALIDATION_EVERY - 1)
      split = "validation";
    out.push({ hexcode: entry.hexcode, name, kind, group, subgroup, split, hands, art: found });
  }
  return out;
}

/** Subjects that are also worn or stand beside others: always trained. */
const ITEM_NAMES: ReadonlySet<string> = new Set(["top hat", "crown", "glasses", "scarf", "sunflower", "balloon"]);

function wanted(label: string, subgroup: string): boolean {
  if (list.DROPPED_SUBGROUPS.has(subgroup) || list.DROPPED_LABELS.has(label)) return false;
  if (list.KEPT_PEOPLE.has(label)) return true;
  if (/^(man|woman|men|women) |facing right|(o’clock|-thirty)$/.test(label)) return false;
  if (/^(merman|deaf (man|woman)|pregnant (man|person))$/.test(label)) return false;
  return true;
}

function nameOf(label: string): string {
  const name = list.NAMES[label] ?? label;
  return name
    .toLowerCase()
    .normalize("NFD")
    .replace(/[\u0300-\u036f]/g, "")
    .replace(/[’'.]s?\b/g, (m) => (m.endsWith("s") ? "s" : ""))
    .replace(/[^a-z0-9]+/g, " ")
    .trim();
}

/** Finds the art of an entry in each hand: Fluent Flat by its English name, Noto by icon name, the others by code points. */
function artFinder(): (entry: Entry) => Partial<Record<Hand, string>> {
  const root = (name: string): string => dirname(require.resolve(`${name}/package.json`));
  const flat = join(root("fluentui-emoji"), "icons/flat");
  const solid = join(root("@lobehub/fluent-emoji-3d"), "assets");
  const twemoji = join(root("@twemoji/svg"), "");
  const noto = require("@iconify-json/noto/chars.json") as Record<string, string>;
  const first = (paths: readonly string[]): string | undefined => paths.find((p) => existsSync(p));
  return ({ label, hexcode }) => {
    const code = hexcode.toLowerCase();
    const bare = code.replace(/-fe0f/g, "");
    const slug = label
      .toLowerCase()
      .replace(/[’'.“”]/g, "")
      .replace(/ñ/g, "n")
      .replace(/[^a-z0-9]+/g, "-");
    const found: Partial<Record<Hand, string>> = {};
    const put = (hand: Hand, path: string | undefined): void => {
      if (path !== undefined) found[hand] = path;
    };
    put("fluent-3d", first([code, bare, `${bare}-fe0f`].map((c) => join(solid, `${c}.webp`))));
    put("fluent-flat", first([slug, `${slug}-default`].map((s) => join(flat, `${s}.svg`))));
    put("noto", noto[code] ?? noto[bare]);
    put("twemoji", first([code, bare, `${bare}-fe0f`].map((c) => join(twemoji, `${c}.svg`))));
    return found;
  };
}

import type { Look } from "./looks.ts";
import type { Hand } from "./subjects.ts";
import type { Variant } from "./variants.ts";

export type Size = "tiny" | "small" | "normal" | "large" | "huge";
export type Position = "center" | "left" | "right" | "top" | "bottom";
export type Item = "none" | "hat" | "crown" | "glasses" | "scarf" | "flower" | "balloon";
/** How an item goes with its subject. */
export type Manner = "worn" | "beside";

/** All that a scene is drawn from: the same spec gives the same bytes. */
export interface Scene {
  /** hexcode */
  readonly subject: string;
  readonly hand: Hand;
  /** of the art; as it was drawn if undefined */
  readonly variant?: Variant | undefined;
  /** of a place, or a colour for a plain background */
  readonly place: string;
  readonly look: Look;
  readonly count: 1 | 2 | 3;
  readonly size: Size;
  readonly position: Position;
  readonly item: Item;
  readonly manner: Manner;
  /** varies what the rest leaves open */
  readonly seed: number;
  readonly caption: string;
}

export const SIZES: readonly Size[] = ["tiny", "small", "normal", "large", "huge"];
export const POSITIONS: readonly Position[] = ["center", "left", "right", "top", "bottom"];
export const ITEMS: readonly Item[] = ["none", "hat", "crown", "glasses", "scarf", "flower", "balloon"];

/** The subject whose art is used for an item. */
export const ITEM_SUBJECTS: Readonly<Record<Exclude<Item, "none">, string>> = {
  hat: "top hat",
  crown: "crown",
  glasses: "glasses",
  scarf: "scarf",
  flower: "sunflower",
  balloon: "balloon",
};

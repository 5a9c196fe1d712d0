import { Canvas, type Rgb } from "./canvas.ts";
import { COLOURS } from "./colours.ts";
import type { Painter } from "./elements.ts";
import { PLACES } from "./places.ts";
import { PLACES_BUILT } from "./places-built.ts";
import { Random } from "./random.ts";

/** What stands behind a subject. */
export interface Place {
  /** e.g. "beach", or "red" for a plain background */
  readonly name: string;
  readonly plain: boolean;
  /** phrases that follow the subject: "on the beach" */
  readonly phrases: readonly string[];
  /** a noun alone: "beach" */
  readonly nouns: readonly string[];
  /** subjects stand on it (and throw a shadow), rather than float */
  readonly grounded: boolean;
  /** light that falls on the subject: colour and strength */
  readonly light: readonly [Rgb, number] | undefined;
  readonly paint: Painter;
}

function plain(name: string, rgb: Rgb): Place {
  const a = /^[aeiou]/.test(name) ? "an" : "a";
  return {
    name,
    plain: true,
    phrases: [`on ${a} ${name} background`, `against ${a} ${name} background`, `in front of ${a} ${name} wall`],
    nouns: [`${name} background`, `plain ${name} background`],
    grounded: true,
    light: undefined,
    paint: (canvas, rng) => {
      const vary = (c: number): number => Math.max(0, Math.min(255, c + rng.range(-14, 14)));
      const c: Rgb = [vary(rgb[0]), vary(rgb[1]), vary(rgb[2])];
      const top = rng.range(1, 1.1);
      const bottom = rng.range(0.86, 1);
      canvas.gradient(0, 1, [c[0] * top, c[1] * top, c[2] * top], [c[0] * bottom, c[1] * bottom, c[2] * bottom]);
    },
  };
}

const all: ReadonlyMap<string, Place> = new Map(
  [...PLACES, ...PLACES_BUILT, ...Object.entries(COLOURS).map(([name, rgb]) => plain(name, rgb))].map((p) => [
    p.name,
    p,
  ]),
);

/** The names of the drawn places. */
export const PLACE_NAMES: readonly string[] = [...all.values()].filter((p) => !p.plain).map((p) => p.name);
/** The names of the plain backgrounds: colours. */
export const PLAIN_NAMES: readonly string[] = [...all.values()].filter((p) => p.plain).map((p) => p.name);

/** @throws RangeError for an unknown name */
export function placeBy(name: string): Place {
  const place = all.get(name);
  if (!place) throw new RangeError(`no place "${name}"; there are ${[...all.keys()].join(", ")}`);
  return place;
}

/** Paints a place on a new canvas of size x size pixels; the seed varies its colours and elements. */
export function paintPlace(name: string, seed: number, size: number = 64): Canvas {
  const canvas = new Canvas(size);
  placeBy(name).paint(canvas, new Random(seed, "place", name));
  return canvas;
}

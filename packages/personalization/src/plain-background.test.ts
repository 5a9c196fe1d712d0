import { counterRandom } from "@likeness/engine";
import { expect, test } from "vitest";
import { plainBackgroundMask } from "./plain-background.ts";

const SIDE = 64;
type Rgb = readonly [number, number, number];
/** 1 inside, 0 outside, a pixel of both at the edge. */
const disc = (x: number, y: number, radius: number): number =>
  Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(x - 32, y - 30)));

function paint(colour: (x: number, y: number) => Rgb, noise: number = 0) {
  const random = counterRandom(4, "noise");
  const pixels = new Uint8Array(SIDE * SIDE * 3);
  for (let i = 0; i < SIDE * SIDE; i++) {
    const rgb = colour(i % SIDE, Math.floor(i / SIDE));
    for (const [c, v] of rgb.entries())
      pixels[3 * i + c] = Math.min(255, Math.max(0, Math.round(v + noise * (random.uniform(1)[0]! - 0.5))));
  }
  return { pixels, width: SIDE, height: SIDE };
}

const mixed = (share: number, a: Rgb, b: Rgb): Rgb =>
  [0, 1, 2].map((c) => share * a[c]! + (1 - share) * b[c]!) as unknown as Rgb;
/** A vignette, and a shadow below the disc. */
const backdrop = (x: number, y: number): Rgb => {
  const light = 1 - 0.0001 * ((x - 32) ** 2 + (y - 32) ** 2);
  const shadow = 1 - 0.3 * Math.max(0, 1 - Math.hypot((x - 32) / 20, (y - 52) / 4));
  return [90 * light * shadow, 160 * light * shadow, 210 * light * shadow];
};
const overlap = (mask: Uint8Array, truth: (x: number, y: number) => number): number => {
  let [both, either] = [0, 0];
  for (const [i, m] of mask.entries()) {
    const t = truth(i % SIDE, Math.floor(i / SIDE));
    both += Math.min(m / 255, t);
    either += Math.max(m / 255, t);
  }
  return both / either;
};

test.each([0, 8])("a disc on a soft gradient with a shadow is found, noise of ±%d/2", (noise) => {
  const photo = paint((x, y) => mixed(disc(x, y, 18), [220, 60, 40], backdrop(x, y)), noise);
  const mask = plainBackgroundMask(photo)!;
  expect(overlap(mask, (x, y) => disc(x, y, 18))).toBeGreaterThan(0.93);
  expect(mask[52 * SIDE + 32]).toBe(0); // the shadow
});

test("what the subject encloses is subject, whatever its colour", () => {
  const photo = paint((x, y) => mixed(disc(x, y, 18) * (1 - disc(x, y, 6)), [220, 60, 40], backdrop(x, y)));
  expect(plainBackgroundMask(photo)![30 * SIDE + 32]).toBe(255);
});

test("a subject that touches the edge a little is found", () => {
  const arm = (x: number, y: number): number => (y > 30 && Math.abs(x - 32) < 7 ? 1 : disc(x, y, 15));
  const photo = paint((x, y) => mixed(arm(x, y), [200, 180, 60], backdrop(x, y)));
  expect(overlap(plainBackgroundMask(photo)!, arm)).toBeGreaterThan(0.93);
});

test.each<[string, (x: number, y: number) => Rgb]>([
  ["stripes", (x) => (x % 16 < 8 ? [200, 60, 60] : [240, 240, 240])],
  ["sky above sand", (x, y) => mixed(disc(x, y, 15), [220, 60, 40], y < 32 ? [120, 180, 250] : [230, 210, 160])],
  ["nothing but background", backdrop],
  ["noise", (x, y) => [(x * 37 + y * 91) % 255, (x * 53 + y * 17) % 255, (x * 11 + y * 29) % 255]],
])("%s: no plain background with a subject on it", (_name, colour) => {
  expect(plainBackgroundMask(paint(colour))).toBeUndefined();
});

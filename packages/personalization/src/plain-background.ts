/** Where the subject of a photo is, if what is behind it is plain: one colour or a soft gradient, and perhaps a shadow. */
import type { Photo } from "./photo.ts";

/** A pixel is background up to this difference, of 255, or this many times what the border's own pixels are off. */
const LEAST_TOLERANCE = 10;
const DEVIATIONS = 3;
/** At most so many of the border's pixels may be something else: a subject may touch the edge. */
const OTHERS_ON_BORDER = 0.1;
/** A border whose plain pixels are further off than this isn't plain. */
const ROUGHEST = 4;
/** A shadow leaves at least this much of the background's light. */
const DARKEST_SHADOW = 0.6;
/** A subject covers at least and at most this much of the photo: else what was found is something else. */
const [LEAST_COVER, MOST_COVER] = [0.03, 0.9];

/**
 * A mask as `Photo.mask`: 255 on the subject, 0 on the background, between them at its edge. The background is a quadratic
 * in x and y for each channel, fitted to the border, and what has its colour, a shadow's included, and is connected with the border.
 * @returns undefined if the border isn't plain, or nearly nothing or nearly everything would be subject
 */
export function plainBackgroundMask({ pixels, width, height }: Photo): Uint8Array | undefined {
  const fitted = fitBorder(pixels, width, height);
  if (!fitted) return undefined;
  const { background, tolerance } = fitted;
  const off = differences(pixels, width, background);
  const behind = connectedWithBorder(off, width, height, tolerance);
  // a soft edge about the tolerance; what the background doesn't reach is subject, whatever its colour
  const mask = Uint8Array.from(off, (d, i) =>
    behind[i] ? 255 * Math.min(1, Math.max(0, (d - tolerance / 2) / tolerance)) : 255,
  );
  return coversSome(mask) ? mask : undefined;
}

/** Whether a mask is of some of a photo, neither of nearly nothing nor of nearly everything. */
export function coversSome(mask: Uint8Array): boolean {
  const covered = mask.reduce((sum, x) => sum + x, 0) / (255 * mask.length);
  return covered >= LEAST_COVER && covered <= MOST_COVER;
}

/** The three channels of the background at a pixel. */
type Background = (x: number, y: number) => readonly [number, number, number];

/** 1, x, y, x², xy, y² of a pixel, x and y in [−1, 1]. */
function terms(x: number, y: number, width: number, height: number): number[] {
  const [u, v] = [(2 * x) / (width - 1) - 1, (2 * y) / (height - 1) - 1];
  return [1, u, v, u * u, u * v, v * v];
}

/** How often pixels that are far off are left out and the rest is fitted. */
const ROUNDS = 4;

/** The background that the border agrees on, and up to which difference a pixel is of it; undefined if it isn't plain. */
function fitBorder(pixels: Uint8Array, width: number, height: number) {
  const border = borderOf(width, height);
  const off = (p: BorderPixel, colour: Colour): number => distanceTo(pixels, p.at, colour(p.terms));
  const nearest = (colour: Colour): BorderPixel[] => {
    const ranked = border.map((p) => ({ p, d: off(p, colour) })).sort((a, b) => a.d - b.d);
    return ranked.slice(0, Math.ceil((1 - OTHERS_ON_BORDER) * ranked.length)).map(({ p }) => p);
  };
  // medians first: where a subject touches the edge it mustn't pull the fit
  const medians = mediansOf(pixels, border);
  let colour: Colour = () => medians;
  let kept = border;
  for (let round = 0; round < ROUNDS; round++) {
    kept = nearest(colour);
    colour = fit(pixels, kept);
  }
  const deviation = Math.sqrt(kept.reduce((sum, p) => sum + off(p, colour) ** 2, 0) / kept.length);
  const tolerance = Math.max(LEAST_TOLERANCE, DEVIATIONS * deviation);
  const others = border.filter((p) => off(p, colour) > tolerance).length;
  if (deviation > ROUGHEST || others > OTHERS_ON_BORDER * border.length) return undefined;
  const background: Background = (x, y) => colour(terms(x, y, width, height));
  return { background, tolerance };
}

interface BorderPixel {
  /** Where its red is. */
  readonly at: number;
  readonly terms: readonly number[];
}

/** A pixel's colour by its terms. */
type Colour = (terms: readonly number[]) => readonly [number, number, number];

function borderOf(width: number, height: number): BorderPixel[] {
  const frame = Math.max(1, Math.round(Math.min(width, height) / 32));
  const border: BorderPixel[] = [];
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      if (Math.min(x, y, width - 1 - x, height - 1 - y) < frame)
        border.push({ at: 3 * (y * width + x), terms: terms(x, y, width, height) });
  return border;
}

function fit(pixels: Uint8Array, some: readonly BorderPixel[]): Colour {
  const rows = some.map((p) => p.terms);
  const channels = [0, 1, 2].map((c) =>
    leastSquares(
      rows,
      some.map((p) => pixels[p.at + c]!),
    ),
  );
  return (t) =>
    channels.map((k) => k.reduce((sum, value, i) => sum + value * t[i]!, 0)) as unknown as ReturnType<Colour>;
}

function mediansOf(pixels: Uint8Array, border: readonly BorderPixel[]): [number, number, number] {
  const median = (c: number): number => border.map((p) => pixels[p.at + c]!).sort((a, b) => a - b)[border.length >> 1]!;
  return [median(0), median(1), median(2)];
}

const distanceTo = (pixels: Uint8Array, at: number, [r, g, b]: readonly [number, number, number]): number =>
  Math.max(Math.abs(pixels[at]! - r), Math.abs(pixels[at + 1]! - g), Math.abs(pixels[at + 2]! - b));

/** How far each pixel is from the background, or from the background in a shadow. */
function differences(pixels: Uint8Array, width: number, background: Background): Float32Array {
  return Float32Array.from({ length: pixels.length / 3 }, (_, i) => {
    const colour = background(i % width, Math.floor(i / width));
    const [r, g, b] = colour;
    const along = pixels[3 * i]! * r + pixels[3 * i + 1]! * g + pixels[3 * i + 2]! * b;
    const light = Math.min(1, Math.max(DARKEST_SHADOW, along / Math.max(1, r * r + g * g + b * b)));
    return distanceTo(pixels, 3 * i, [light * r, light * g, light * b]);
  });
}

/** 1 for pixels within the tolerance, and for the first ones beyond it, that a path of such pixels joins with the border. */
function connectedWithBorder(off: Float32Array, width: number, height: number, tolerance: number): Uint8Array {
  const reached = new Uint8Array(off.length);
  const queue: number[] = [];
  const reach = (x: number, y: number): void => {
    const i = y * width + x;
    if (x < 0 || y < 0 || x >= width || y >= height || reached[i]) return;
    reached[i] = 1;
    if (off[i]! < tolerance) queue.push(i);
  };
  for (let x = 0; x < width; x++) for (const y of [0, height - 1]) reach(x, y);
  for (let y = 0; y < height; y++) for (const x of [0, width - 1]) reach(x, y);
  for (let i = queue.pop(); i !== undefined; i = queue.pop()) {
    const [x, y] = [i % width, Math.floor(i / width)];
    for (const [dx, dy] of [
      [1, 0],
      [-1, 0],
      [0, 1],
      [0, -1],
    ] as const)
      reach(x + dx, y + dy);
  }
  return reached;
}

/** Coefficients k that minimise Σ (row·k − y)², by the normal equations. */
function leastSquares(rows: readonly (readonly number[])[], values: readonly number[]): number[] {
  const n = rows[0]!.length;
  const a = Array.from({ length: n }, (_, i) => [
    ...Array.from({ length: n }, (_, j) => rows.reduce((sum, r) => sum + r[i]! * r[j]!, 0)),
    rows.reduce((sum, r, k) => sum + r[i]! * values[k]!, 0),
  ]);
  for (let i = 0; i < n; i++) {
    const pivot = a.slice(i).reduce((best, row, k) => (Math.abs(row[i]!) > Math.abs(a[best]![i]!) ? i + k : best), i);
    [a[i], a[pivot]] = [a[pivot]!, a[i]!];
    for (let j = 0; j < n; j++) {
      if (j === i) continue;
      const factor = a[j]![i]! / a[i]![i]!;
      for (let k = i; k <= n; k++) a[j]![k]! -= factor * a[i]![k]!;
    }
  }
  return a.map((row, i) => row[n]! / row[i]!);
}

import type { Canvas, Rgb } from "./canvas.ts";
import { noiseField, type Random } from "./random.ts";

/** Paints a whole canvas. */
export type Painter = (canvas: Canvas, rng: Random) => void;

/** Noise of three octaves in [-1, 1], `scale` cells a side. */
export function roughness(rng: Random, scaleU: number, scaleV: number = scaleU): (u: number, v: number) => number {
  const n = noiseField(rng.uint());
  return (u, v) => {
    const [x, y] = [u * scaleU, v * scaleV];
    return (n(x, y) * 4 + n(x * 2.1 + 9, y * 2.1) * 2 + n(x * 4.3, y * 4.3 + 5)) / 3.5 - 1;
  };
}

/** A wavy line around v = base. */
export function ridge(rng: Random, base: number, height: number, scale: number): (u: number) => number {
  const n = noiseField(rng.uint());
  return (u) => base + height * (1 - 2 * (0.7 * n(u * scale, 0.5) + 0.3 * n(u * scale * 2.7, 3.5)));
}

/** Calls put at random places, from top to bottom. */
export function scatter(rng: Random, count: number, v0: number, v1: number, put: (u: number, v: number) => void): void {
  const spots = Array.from({ length: count }, () => [rng.next(), rng.range(v0, v1)] as const).sort(
    (a, b) => a[1] - b[1],
  );
  for (const [u, v] of spots) put(u, v);
}

/** Three soft lobes, r wide each. */
export function cloud(canvas: Canvas, rng: Random, u: number, v: number, r: number, c: Rgb, alpha: number): void {
  for (let i = -1; i <= 1; i++) {
    canvas.disc(
      u + i * r * 0.9,
      v - (i === 0 ? r * 0.3 : 0),
      r * rng.range(0.8, 1.1),
      r * rng.range(0.45, 0.6),
      c,
      alpha,
      0.5,
    );
  }
}

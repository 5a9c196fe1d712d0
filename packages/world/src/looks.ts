import { Canvas, clamp01, length, mixRgb, type Rgb } from "./canvas.ts";
import { noiseField, Random } from "./random.ts";

/** A filter over a finished scene. */
export type Look =
  | "none"
  | "pixel-art"
  | "pencil-sketch"
  | "black-and-white"
  | "neon"
  | "watercolour"
  | "stained-glass";
export const LOOKS: readonly Look[] = [
  "none",
  "pixel-art",
  "pencil-sketch",
  "black-and-white",
  "neon",
  "watercolour",
  "stained-glass",
];

type Filter = (canvas: Canvas, rng: Random) => void;

const filters: Readonly<Record<Look, Filter>> = {
  none: () => {},
  "pixel-art": pixelArt,
  "pencil-sketch": pencilSketch,
  "black-and-white": blackAndWhite,
  neon,
  watercolour,
  "stained-glass": stainedGlass,
};

/** Applies a look in place. */
export function applyLook(canvas: Canvas, look: Look, seed: number): void {
  filters[look](canvas, new Random(seed, "look", look));
}

/** Blocks of a 16th of the side, in few shades: of 64 pixels those that an autoencoder with four pixels a latent sees one at a time. */
function pixelArt(canvas: Canvas): void {
  const n = canvas.size;
  const block = Math.max(1, Math.round(n / 16));
  for (let y = 0; y < n; y += block) {
    for (let x = 0; x < n; x += block) {
      const [r, g, b] = average(canvas, x, y, block);
      const q = (c: number): number => Math.round(clamp01((c / 255 - 0.5) * 1.15 + 0.5) * 5) * 51;
      const c: Rgb = [q(r), q(g), q(b)];
      for (let dy = 0; dy < block && y + dy < n; dy++) {
        for (let dx = 0; dx < block && x + dx < n; dx++) canvas.blend((y + dy) * n + x + dx, c, 1);
      }
    }
  }
}

/** Dark lines where brightness changes, hatching in the shade, on paper. */
function pencilSketch(canvas: Canvas, rng: Random): void {
  const n = canvas.size;
  const grey = brightness(canvas);
  const edge = edges(canvas);
  const grain = noiseField(rng.uint());
  canvas.each(0, 0, 1, 1, (i, u, v) => {
    const hatch = 0.5 + 0.5 * Math.sin((u + v) * 130);
    const near = 0.35 + 0.65 * canvas.mask[i]!;
    const shade = clamp01(0.8 - grey[i]! / 255) * (0.1 + 0.45 * hatch) * near;
    const ink = clamp01(edge[i]! / 110 - 0.14) * 0.9 * near;
    const paper = 246 - 10 * grain(u * n, v * n);
    const k = paper * (1 - clamp01(Math.max(ink, shade)));
    canvas.blend(i, [k + 4, k + 2, k - 4], 1);
  });
}

function blackAndWhite(canvas: Canvas): void {
  const grey = brightness(canvas);
  for (let i = 0; i < grey.length; i++) {
    const k = clamp01((grey[i]! / 255 - 0.5) * 1.25 + 0.5) * 255;
    canvas.blend(i, [k, k, k], 1);
  }
}

/** Glowing outlines in the scene's own hues on black. */
function neon(canvas: Canvas): void {
  const n = canvas.size;
  const edge = edges(canvas);
  const lines = new Canvas(n);
  for (let i = 0; i < n * n; i++) {
    const k = i * 3;
    const [r, g, b] = [canvas.data[k]!, canvas.data[k + 1]!, canvas.data[k + 2]!];
    const [lo, hi] = [Math.min(r, g, b), Math.max(r, g, b)];
    const a = clamp01(edge[i]! / 60 - 0.15) * (0.4 + 0.6 * canvas.mask[i]!);
    const tint: Rgb =
      hi - lo < 24
        ? [60, 220, 255]
        : [(255 * (r - lo)) / (hi - lo), (255 * (g - lo)) / (hi - lo), (255 * (b - lo)) / (hi - lo)];
    lines.blend(i, mixRgb(tint, [255, 255, 255], 0.15), a);
  }
  const glow = blur(lines, Math.max(1, Math.round(n / 32)));
  for (let i = 0; i < n * n; i++) {
    for (let c = 0; c < 3; c++) {
      const k = i * 3 + c;
      canvas.data[k] = [10, 6, 24][c]! + canvas.data[k]! * 0.09 + lines.data[k]! * 0.9 + glow.data[k]! * 0.75;
    }
  }
}

/** Wobbling, washed-out patches with darker rims on rough paper. */
function watercolour(canvas: Canvas, rng: Random): void {
  const n = canvas.size;
  const [wx, wy, grain] = [noiseField(rng.uint()), noiseField(rng.uint()), noiseField(rng.uint())];
  const soft = n > 64 ? blur(canvas, Math.round(n / 128)) : canvas;
  const source = soft.data;
  const edge = edges(soft);
  const out = new Float32Array(source.length);
  canvas.each(0, 0, 1, 1, (i, u, v) => {
    const x = Math.round(clamp01(u + (wx(u * 9, v * 9) - 0.5) * 0.05) * (n - 1));
    const y = Math.round(clamp01(v + (wy(u * 9, v * 9) - 0.5) * 0.05) * (n - 1));
    const j = y * n + x;
    const rim = clamp01(edge[j]! / 90 - 0.1) * 0.28;
    const wash = 0.62 + 0.34 * grain(u * 5, v * 5);
    const border = clamp01(Math.min(u, v, 1 - u, 1 - v) * 16 + (grain(u * 11, v * 11) - 0.65) * 1.6);
    const tooth = 1 + (grain(u * n * 0.8, v * n * 0.8) - 0.5) * 0.1;
    for (let c = 0; c < 3; c++) {
      const paint = (source[j * 3 + c]! * wash + 250 * (1 - wash)) * (1 - rim) * tooth;
      out[i * 3 + c] = 250 + (paint - 250) * border;
    }
  });
  canvas.data.set(out);
}

/** Vivid cells with dark lead between them and round the subject. */
function stainedGlass(canvas: Canvas, rng: Random): void {
  const n = canvas.size;
  const cells = 12;
  const jitter = Array.from(
    { length: (cells + 2) * (cells + 2) },
    () => [rng.range(0.12, 0.88), rng.range(0.12, 0.88)] as const,
  );
  const sums = new Float32Array(jitter.length * 8);
  const nearest = new Int32Array(n * n);
  const gap = new Float32Array(n * n);
  canvas.each(0, 0, 1, 1, (i, u, v) => {
    const [gx, gy] = [Math.floor(u * cells), Math.floor(v * cells)];
    let [best, second, cell] = [9, 9, 0];
    for (let y = gy; y <= gy + 2; y++) {
      for (let x = gx; x <= gx + 2; x++) {
        const id = y * (cells + 2) + x;
        const d = length(u * cells - (x - 1 + jitter[id]![0]), v * cells - (y - 1 + jitter[id]![1]));
        if (d < best) [second, best, cell] = [best, d, id];
        else if (d < second) second = d;
      }
    }
    const inside = canvas.mask[i]! > 0.5 ? 1 : 0;
    cell = cell * 2 + inside;
    nearest[i] = cell;
    gap[i] = second - best;
    for (let c = 0; c < 3; c++) sums[cell * 4 + c]! += canvas.data[i * 3 + c]!;
    sums[cell * 4 + 3]! += 1;
  });
  for (let i = 0; i < n * n; i++) {
    const at = nearest[i]! * 4;
    const count = sums[at + 3]!;
    const mean: Rgb = [sums[at]! / count, sums[at + 1]! / count, sums[at + 2]! / count];
    const grey = (mean[0] + mean[1] + mean[2]) / 3;
    const vivid = (c: number): number => Math.max(0, Math.min(255, grey + (c - grey) * 1.5));
    const m = canvas.mask[i]!;
    const lead = clamp01((gap[i]! - 0.13) * 7 + 0.35 * m) * clamp01(Math.abs(m - 0.5) * 3.4 - 0.2);
    const own: Rgb = [canvas.data[i * 3]!, canvas.data[i * 3 + 1]!, canvas.data[i * 3 + 2]!];
    const [r, g, b] = mixRgb(mean, own, 0.15 + 0.45 * m);
    canvas.blend(i, mixRgb([18, 16, 22], [vivid(r), vivid(g), vivid(b)], lead), 1);
  }
}

function average(canvas: Canvas, x0: number, y0: number, block: number): Rgb {
  const n = canvas.size;
  let [r, g, b, count] = [0, 0, 0, 0];
  for (let y = y0; y < Math.min(n, y0 + block); y++) {
    for (let x = x0; x < Math.min(n, x0 + block); x++) {
      const k = (y * n + x) * 3;
      r += canvas.data[k]!;
      g += canvas.data[k + 1]!;
      b += canvas.data[k + 2]!;
      count++;
    }
  }
  return [r / count, g / count, b / count];
}

function brightness({ data, size }: Canvas): Float32Array {
  const grey = new Float32Array(size * size);
  for (let i = 0; i < grey.length; i++)
    grey[i] = 0.299 * data[i * 3]! + 0.587 * data[i * 3 + 1]! + 0.114 * data[i * 3 + 2]!;
  return grey;
}

/** How fast the colours change at each pixel: the largest of the three channels' central differences. */
function edges({ data, size }: Canvas): Float32Array {
  const out = new Float32Array(size * size);
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      const [l, r] = [y * size + Math.max(0, x - 1), y * size + Math.min(size - 1, x + 1)];
      const [t, b] = [Math.max(0, y - 1) * size + x, Math.min(size - 1, y + 1) * size + x];
      let most = 0;
      for (let c = 0; c < 3; c++) {
        most = Math.max(most, length(data[r * 3 + c]! - data[l * 3 + c]!, data[b * 3 + c]! - data[t * 3 + c]!));
      }
      out[y * size + x] = most;
    }
  }
  return out;
}

/** A box blur of 2r + 1 pixels, both ways. */
function blur(canvas: Canvas, r: number): Canvas {
  let from = canvas;
  for (const across of [true, false]) {
    const to = new Canvas(canvas.size);
    const n = canvas.size;
    for (let y = 0; y < n; y++) {
      for (let x = 0; x < n; x++) {
        for (let c = 0; c < 3; c++) {
          let sum = 0;
          for (let d = -r; d <= r; d++) {
            const at = Math.max(0, Math.min(n - 1, (across ? x : y) + d));
            sum += from.data[(across ? y * n + at : at * n + x) * 3 + c]!;
          }
          to.data[(y * n + x) * 3 + c] = sum / (2 * r + 1);
        }
      }
    }
    from = to;
  }
  return from;
}

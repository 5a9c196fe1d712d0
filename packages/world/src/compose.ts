import type { Canvas, Rgb } from "./canvas.ts";
import type { Sprite } from "./sprites.ts";

/** Where and how a sprite is drawn; lengths in units of the canvas' side. */
export interface Placement {
  /** centre */
  readonly u: number;
  readonly v: number;
  /** of the sprite's longer side */
  readonly size: number;
  /** radians, clockwise */
  readonly angle?: number;
  readonly flip?: boolean;
  readonly light?: readonly [Rgb, number] | undefined;
}

const mips = new WeakMap<Sprite, Sprite[]>();

/** The sprite at halved resolutions, largest first. */
function levels(sprite: Sprite): Sprite[] {
  let list = mips.get(sprite);
  if (!list) {
    list = [sprite];
    for (let s = sprite; Math.max(s.width, s.height) > 16; ) list.push((s = halve(s)));
    mips.set(sprite, list);
  }
  return list;
}

function halve({ width, height, rgba }: Sprite): Sprite {
  const [w, h] = [Math.ceil(width / 2), Math.ceil(height / 2)];
  const out = new Uint8Array(w * h * 4);
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      for (let c = 0; c < 4; c++) {
        let sum = 0;
        for (let k = 0; k < 4; k++) {
          const [sx, sy] = [x * 2 + (k & 1), y * 2 + (k >> 1)];
          if (sx < width && sy < height) sum += rgba[(sy * width + sx) * 4 + c]!;
        }
        out[(y * w + x) * 4 + c] = (sum + 2) >> 2;
      }
    }
  }
  return { width: w, height: h, rgba: out };
}

/** Bilinear sample of premultiplied RGBA into `out`, at a point in pixels from the middle of the first; beside the art there is nothing. */
export function sampleSprite({ width, height, rgba }: Sprite, x: number, y: number, out: Float64Array): void {
  const ix = Math.floor(x);
  const iy = Math.floor(y);
  const fx = x - ix;
  const fy = y - iy;
  let r = 0;
  let g = 0;
  let b = 0;
  let a = 0;
  for (let k = 0; k < 4; k++) {
    const px = ix + (k & 1);
    const py = iy + (k >> 1);
    if (px < 0 || py < 0 || px >= width || py >= height) continue;
    const w = (k & 1 ? fx : 1 - fx) * (k >> 1 ? fy : 1 - fy);
    const i = (py * width + px) * 4;
    r += w * rgba[i]!;
    g += w * rgba[i + 1]!;
    b += w * rgba[i + 2]!;
    a += w * rgba[i + 3]!;
  }
  out[0] = r;
  out[1] = g;
  out[2] = b;
  out[3] = a;
}

/** Draws a sprite onto the canvas: bilinear samples of the level that is nearest in size. */
export function drawSprite(canvas: Canvas, sprite: Sprite, at: Placement): void {
  const n = canvas.size;
  const longest = Math.max(sprite.width, sprite.height);
  const pixels = at.size * n;
  const list = levels(sprite);
  const level = Math.max(0, Math.min(list.length - 1, Math.floor(Math.log2(longest / pixels) + 0.4)));
  const step = longest / pixels / 2 ** level; // level pixels a canvas pixel
  const cos = Math.cos(at.angle ?? 0);
  const sin = Math.sin(at.angle ?? 0);
  const mirror = at.flip ? -1 : 1;
  const [halfW, halfH] = [sprite.width / 2 ** level / 2, sprite.height / 2 ** level / 2];
  const reachX = (Math.abs(cos) * halfW + Math.abs(sin) * halfH) / step + 1;
  const reachY = (Math.abs(sin) * halfW + Math.abs(cos) * halfH) / step + 1;
  const [cx, cy] = [at.u * n, at.v * n];
  const [x0, x1] = [Math.max(0, Math.floor(cx - reachX)), Math.min(n, Math.ceil(cx + reachX))];
  const [y0, y1] = [Math.max(0, Math.floor(cy - reachY)), Math.min(n, Math.ceil(cy + reachY))];
  const [lit, strength] = at.light ?? [[0, 0, 0], 0];
  const keep = 1 - strength;
  const data = canvas.data;
  const sampled = new Float64Array(4);
  for (let y = y0; y < y1; y++) {
    for (let x = x0; x < x1; x++) {
      const dx = (x + 0.5 - cx) * step;
      const dy = (y + 0.5 - cy) * step;
      const sx = mirror * (cos * dx + sin * dy) + halfW - 0.5;
      const sy = cos * dy - sin * dx + halfH - 0.5;
      sampleSprite(list[level]!, sx, sy, sampled);
      const a = sampled[3]! / 255;
      if (a <= 0) continue;
      if (a > canvas.mask[y * n + x]!) canvas.mask[y * n + x] = a;
      const j = (y * n + x) * 3;
      const lightA = strength * a;
      data[j] = data[j]! * (1 - a) + sampled[0]! * keep + lit[0] * lightA;
      data[j + 1] = data[j + 1]! * (1 - a) + sampled[1]! * keep + lit[1] * lightA;
      data[j + 2] = data[j + 2]! * (1 - a) + sampled[2]! * keep + lit[2] * lightA;
    }
  }
}

/** Half of a sprite's width and height, in units of its longer side. */
export function halfExtent(sprite: Sprite): readonly [number, number] {
  const longest = Math.max(sprite.width, sprite.height);
  return [sprite.width / longest / 2, sprite.height / longest / 2];
}

/** Where a hat goes: the middle of the topmost rows, and their width, from the centre, in units of the longer side. */
export function headOf(sprite: Sprite): { readonly u: number; readonly v: number; readonly width: number } {
  const { width, height, rgba } = sprite;
  const longest = Math.max(width, height);
  const rows = Math.max(1, Math.round(height * 0.14));
  let [sum, weight, min, max] = [0, 0, width, 0];
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < width; x++) {
      const a = rgba[(y * width + x) * 4 + 3]!;
      sum += a * x;
      weight += a;
      if (a > 128) {
        min = Math.min(min, x);
        max = Math.max(max, x);
      }
    }
  }
  const u = weight > 0 ? sum / weight + 0.5 : width / 2;
  return { u: (u - width / 2) / longest, v: -height / 2 / longest, width: Math.max(0, max - min + 1) / longest };
}

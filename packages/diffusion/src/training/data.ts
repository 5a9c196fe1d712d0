/** Captioned pictures in one .safetensors file: tensor `images` U8 (N, H, W, 3), metadata `captions` (JSON strings). */
import { closeSync, openSync, readSync } from "node:fs";
import { readSafetensorsHeader, readTensorBytes, SafetensorsError, type SafetensorsHeader } from "@likeness/engine";

export class PictureFile {
  readonly header: SafetensorsHeader;
  readonly count: number;
  readonly height: number;
  readonly width: number;
  private readonly file: number;

  /** @throws SafetensorsError if the file holds no pictures */
  constructor(path: string) {
    this.header = readSafetensorsHeader(path);
    const images = this.header.tensors.get("images");
    if (images?.dtype !== "U8" || images.shape.length !== 4 || images.shape[3] !== 3)
      throw new SafetensorsError(path, {
        what: '"images"',
        needed: "U8 of shape (N, H, W, 3)",
        found: images ? `${images.dtype} (${images.shape.join(", ")})` : "no such tensor",
        next: "A data set holds pictures in one tensor and their captions in the metadata.",
      });
    [this.count, this.height, this.width] = images.shape as [number, number, number];
    this.file = openSync(this.header.path, "r");
  }

  /** A list that the metadata hold as JSON, one entry per picture. @throws SafetensorsError */
  list(key: string): string[] {
    const list = JSON.parse(this.header.metadata[key] ?? "null") as unknown;
    if (!Array.isArray(list) || list.length !== this.count)
      throw new SafetensorsError(this.header.path, {
        what: `metadata "${key}"`,
        needed: `a list of ${this.count} entries`,
        found: Array.isArray(list) ? String(list.length) : "none",
      });
    return list as string[];
  }

  /** Pictures by index as (n, 3, H, W) in [−1, 1]; `flip` mirrors those for which it is true. */
  batch(
    indices: ArrayLike<number>,
    { tensor = "images", flip }: { tensor?: string; flip?: ArrayLike<number | boolean> } = {},
  ): Float32Array {
    const [h, w] = [this.height, this.width];
    const bytes = h * w * 3;
    const out = new Float32Array(indices.length * bytes);
    for (let n = 0; n < indices.length; n++)
      toPlanes(this.bytes(indices[n]!, tensor), out.subarray(n * bytes, (n + 1) * bytes), h, w, Boolean(flip?.[n]));
    return out;
  }

  /** One picture as it is kept: (H, W, 3) bytes. @throws SafetensorsError if there is no such tensor */
  bytes(index: number, tensor: string = "images"): Uint8Array {
    const entry = this.header.tensors.get(tensor);
    if (!entry)
      throw new SafetensorsError(this.header.path, {
        what: `"${tensor}"`,
        needed: "this tensor",
        found: "none of that name",
      });
    const pixels = new Uint8Array(this.height * this.width * 3);
    readSync(this.file, pixels, 0, pixels.length, entry.offset + index * pixels.length);
    return pixels;
  }

  close(): void {
    closeSync(this.file);
  }
}

/** Rows of tensor `masks`, U8 (N, side, side), from 0 to 1. @throws SafetensorsError if the data has none of that side */
export function masksOf(
  { header, count }: PictureFile,
  side: number,
  { why = "", next }: { readonly why?: string; readonly next: string },
): (indices: ArrayLike<number>) => Float32Array {
  const { dtype, shape } = header.tensors.get("masks") ?? {};
  if (dtype !== "U8" || String(shape) !== String([count, side, side]))
    throw new SafetensorsError(header.path, {
      what: '"masks"',
      needed: `U8 (${[count, side, side].join(", ")})${why}`,
      found: shape ? `${dtype} (${shape.join(", ")})` : "no such tensor",
      next,
    });
  const all = readTensorBytes(header, "masks");
  const size = side * side;
  return (indices) =>
    Float32Array.from({ length: indices.length * size }, (_, i) => {
      return all[indices[Math.floor(i / size)]! * size + (i % size)]! / 255;
    });
}

/** HWC bytes → CHW in [−1, 1]. */
export function toPlanes(pixels: Uint8Array, out: Float32Array, h: number, w: number, mirror: boolean = false): void {
  for (let c = 0; c < 3; c++)
    for (let y = 0; y < h; y++)
      for (let x = 0; x < w; x++)
        out[(c * h + y) * w + x] = pixels[(y * w + (mirror ? w - 1 - x : x)) * 3 + c]! / 127.5 - 1;
}

/** CHW about [−1, 1] → HWC bytes, rounded and clamped. */
export function toPixels(planes: Float32Array, h: number, w: number): Uint8Array {
  const out = new Uint8Array(h * w * 3);
  for (let c = 0; c < 3; c++)
    for (let i = 0; i < h * w; i++)
      out[i * 3 + c] = Math.round(Math.min(1, Math.max(0, planes[c * h * w + i]! / 2 + 0.5)) * 255);
  return out;
}

/** Things by name, both in the order in which they come. */
export function groupBy<T>(things: Iterable<T>, nameOf: (thing: T) => string): Map<string, T[]> {
  const found = new Map<string, T[]>();
  for (const thing of things) {
    const name = nameOf(thing);
    const group = found.get(name);
    if (group) group.push(thing);
    else found.set(name, [thing]);
  }
  return found;
}

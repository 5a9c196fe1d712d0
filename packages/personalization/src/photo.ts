/** A user's picture as the models want it. */

import { type StableDiffusionModel, toPlanes } from "@likeness/diffusion";
import { LikenessError } from "@likeness/engine";

/** RGB bytes, row by row, of a square picture. */
export interface Photo {
  readonly pixels: Uint8Array;
  readonly width: number;
  readonly height: number;
  /** How much of each pixel is subject, of 255: (height, width). Tuning then looks mostly there. */
  readonly mask?: Uint8Array | undefined;
}

/** (1, 3, H, W) in [−1, 1]. @throws LikenessError if the picture isn't of the model's size */
export function photoPlanes(photo: Photo, model: StableDiffusionModel): Float32Array {
  const side = model.resolution;
  if (photo.width !== side || photo.height !== side)
    throw new LikenessError("E_IMAGE", {
      what: "photo",
      needed: `${side} x ${side} pixels for ${model.name}`,
      found: `${photo.width} x ${photo.height}`,
    });
  const planes = new Float32Array(3 * side * side);
  toPlanes(photo.pixels, planes, side, side);
  return planes;
}

/** What the error on a pixel without subject counts of one on the subject. */
const BESIDE = 0.1;

/**
 * How much the error at each latent pixel counts, (h, w) of mean 1, for a photo with a mask.
 * @throws LikenessError if the mask isn't of the photo's size, or covers nothing
 */
export function latentWeights({ mask, width, height }: Photo, scaleFactor: number): Float32Array | undefined {
  if (!mask) return undefined;
  if (mask.length !== width * height)
    throw new LikenessError("E_IMAGE", {
      what: "mask",
      needed: `${width} x ${height} pixels, as the photo`,
      found: `${mask.length} pixels`,
    });
  if (!mask.some((x) => x > 127))
    throw new LikenessError("E_IMAGE", {
      what: "mask",
      needed: "some subject in the square of the photo that is used",
      found: "none",
      next: "White is subject, black is not; the square is the largest in the middle.",
    });
  const [w, h] = [width / scaleFactor, height / scaleFactor];
  const weights = new Float32Array(w * h).fill(BESIDE);
  for (const [i, covered] of mask.entries()) {
    const [x, y] = [Math.floor((i % width) / scaleFactor), Math.floor(i / width / scaleFactor)];
    weights[y * w + x]! += ((1 - BESIDE) * covered) / 255 / scaleFactor ** 2;
  }
  const mean = weights.reduce((a, b) => a + b) / weights.length;
  return weights.map((x) => x / mean);
}

/** A user's picture as the models want it. */

import { type StableDiffusionModel, toPlanes } from "@likeness/diffusion";
import { LikenessError } from "@likeness/engine";

/** RGB bytes, row by row, of a square picture. */
export interface Photo {
  readonly pixels: Uint8Array;
  readonly width: number;
  readonly height: number;
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

/** The picture that a generation starts from, and the size that follows from it. */
import type { InitImage, StableDiffusionModel } from "@likeness/diffusion";
import { LikenessError } from "@likeness/engine/errors";
import { readImage, resize } from "./read-image.ts";

export interface Size {
  readonly width: number;
  readonly height: number;
}

/** What of the size was asked for, in pixels. */
export interface AskedSize {
  readonly width?: number | undefined;
  readonly height?: number | undefined;
}

/** Larger pictures than this many times the model's side are made smaller, unless a size is asked for. */
const LARGEST = 2;

/**
 * The size of a picture made from another: its own, rounded down to whole latents as diffusers does; at most twice the
 * model's. If one side is asked for, the other keeps the proportions.
 * @param step pixels per latent
 */
export function sizeFrom(init: Size, { width, height }: AskedSize, resolution: number, step: number): Size {
  const longest = Math.max(init.width, init.height);
  const most = Math.min(longest, LARGEST * resolution);
  const [to, of] =
    width !== undefined ? [width, init.width] : height !== undefined ? [height, init.height] : [most, longest];
  const whole = (pixels: number): number => Math.max(step, Math.floor((pixels * to) / of / step) * step);
  return { width: width ?? whole(init.width), height: height ?? whole(init.height) };
}

interface StartOptions extends AskedSize {
  readonly initImage?: string | undefined;
  readonly strength?: number | undefined;
}

/** diffusers' own. */
export const STRENGTH = 0.8;

/** The size of the pictures, and what they start from. @throws LikenessError E_USAGE, or E_IMAGE about the init image */
export async function startOf(
  { scaleFactor: step, resolution, name }: StableDiffusionModel,
  { initImage: path, strength = STRENGTH, width, height }: StartOptions,
): Promise<Size & { initImage?: InitImage }> {
  for (const [what, pixels] of Object.entries({ "--width": width, "--height": height }))
    if (pixels !== undefined && pixels % step !== 0)
      throw new LikenessError("E_USAGE", {
        ...{ what, where: "likeness generate", needed: `a multiple of ${step} for ${name}`, found: String(pixels) },
      });
  if (path === undefined) return { width: width ?? resolution, height: height ?? resolution };
  const picture = await readImage(path);
  const size = sizeFrom(picture, { width, height }, resolution, step);
  // each side is stretched on its own, as in diffusers
  const { data } = await resize(picture, size.width, size.height);
  return { ...size, initImage: { data, strength } };
}

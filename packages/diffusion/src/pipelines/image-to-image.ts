/** Where image-to-image starts: diffusers' StableDiffusionImg2ImgPipeline (SDEdit, Meng et al. 2021, arXiv:2108.01073). */
import { exp, input, LikenessError, mul, type Runtime } from "@likeness/engine";
import type { StableDiffusionModel } from "../loading.ts";
import { encode } from "../models/autoencoder-kl.ts";
import type { SamplingPlan } from "../schedulers/index.ts";
import { toPlanes } from "../training/data.ts";
import type { Draw } from "./draws.ts";

/** A picture to begin with. */
export interface InitImage {
  /** RGB bytes, row by row, of the width and height that are generated. */
  readonly data: Uint8Array;
  /** 0 keeps the picture, 1 forgets it; it is the share of the steps that are made. */
  readonly strength: number;
}

/** The first step that is made: ⌊steps·strength⌋ of the asked ones remain. @throws LikenessError if none does */
export function firstStep(steps: number, strength: number): number {
  if (!(strength >= 0 && strength <= 1))
    throw new LikenessError("E_USAGE", { what: "strength", needed: "a number in [0, 1]", found: String(strength) });
  const made = Math.floor(steps * strength);
  if (made === 0)
    throw new LikenessError("E_USAGE", {
      what: "strength",
      needed: `at least 1/${steps}, so that one of ${steps} steps is made`,
      found: String(strength),
      next: "Raise the strength or the steps.",
    });
  return steps - made;
}

/** What the autoencoder says about a picture: q(z | x) with mean and standard deviation, (C, h, w) flat. */
export interface Posterior {
  readonly mean: Float32Array;
  readonly deviation: Float32Array;
}

export async function encodeImage(
  runtime: Runtime,
  { vae }: StableDiffusionModel,
  { data }: InitImage,
  [width, height]: readonly [number, number],
  signal?: AbortSignal,
): Promise<Posterior> {
  if (data.length !== width * height * 3)
    throw new LikenessError("E_USAGE", {
      what: "init image",
      needed: `${width}x${height} pixels of 3 bytes`,
      found: `${data.length} bytes`,
    });
  const { mean, logvar } = encode(vae.weights, vae.config, input("pixels", [1, 3, height, width]));
  const pixels = new Float32Array(data.length);
  toPlanes(data, pixels, height, width);
  const found = await runtime.evaluate({ mean, deviation: exp(mul(logvar, 0.5)) }, { pixels }, { signal });
  return { mean: found.mean as Float32Array, deviation: found.deviation as Float32Array };
}

/** Latents of n pictures at the noise of a step; each picture draws its own z first, then the noise on it. */
export function noisyLatents(
  { mean, deviation }: Posterior,
  scalingFactor: number,
  plan: SamplingPlan,
  step: number,
  n: number,
  draw: Draw,
): Float32Array {
  const size = mean.length;
  const z = draw(n * size).map((e, i) => scalingFactor * Math.fround(mean[i % size]! + deviation[i % size]! * e));
  return plan.addNoise(z, draw(n * size), step);
}

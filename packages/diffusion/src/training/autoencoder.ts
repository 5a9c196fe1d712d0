/** Training of an AutoencoderKL: reconstruction and a light pull of the latents towards the normal distribution. */
import {
  abs,
  add,
  counterRandom,
  exp,
  type Feeds,
  input,
  mean,
  mul,
  slice,
  square,
  stopGradient,
  sub,
  sum,
  type Tensor,
  Variables,
} from "@likeness/engine";
import type { CLIPVisionConfig } from "../config/clip.ts";
import type { AutoencoderKLConfig } from "../config/vae.ts";
import type { Component } from "../loading/component.ts";
import { decode, encode } from "../models/autoencoder-kl.ts";
import { normalizeRows } from "../models/clip.ts";
import { clipVisionModel } from "../models/clip-vision.ts";
import { clipPixels } from "./clip.ts";
import type { PictureFile } from "./data.ts";
import { type TrainingTask, weighted } from "./loop.ts";

export interface AutoencoderTrainingOptions {
  readonly batchSize: number;
  readonly seed: number;
  readonly klWeight: number;
  /** "decoder" learns from the latents' means and leaves the encoder as it is. */
  readonly train: "both" | "decoder";
  /** Side of the random crops that it trains on, in pixels: more and cheaper steps than whole pictures. */
  readonly resolution: number;
  /** What sees whether a picture still shows the same, and how much that counts. */
  readonly perceptual: { readonly tower: CLIPVision; readonly weight: number } | null;
}

export type CLIPVision = Pick<Component<CLIPVisionConfig>, "config" | "weights">;

/** KL(q(z|x) ‖ N(0, 1)), mean over all latents. @eq vae:b Kingma & Welling 2014, arXiv:1312.6114, appendix B */
export const klDivergence = (mu: Tensor, logvar: Tensor): Tensor =>
  mul(mean(sub(add(square(mu), exp(logvar)), add(logvar, 1))), 0.5);

export function autoencoderTask(
  config: AutoencoderKLConfig,
  data: PictureFile,
  options: AutoencoderTrainingOptions,
  start: (key: string) => Float32Array | undefined,
): TrainingTask {
  const { batchSize: b, seed, klWeight, train, resolution: r, perceptual } = options;
  const variables = new Variables({ seed, start });
  const w = variables.weights();
  const x = input("pixels", [b, 3, r, r]);
  const { mean: mu, logvar } = encode(w, config, x);
  const sampled = train === "both";
  const z = sampled ? add(mu, mul(exp(mul(logvar, 0.5)), input("noise", mu.shape))) : stopGradient(mu);
  const y = decode(w, config, z);
  const error = sub(x, y);
  const l1 = mean(abs(error));
  const mse = mean(square(error));
  const edges = roughness(error); // a blurred edge counts more than a shade that is a little off
  const kl = klDivergence(mu, logvar);
  const seen = perceptual && perceptualDistance(perceptual.tower, x, y);
  const loss = weighted([
    [1, l1],
    [1, mse],
    [0.5, edges],
    ...(sampled ? [[klWeight, kl] as const] : []),
    ...(seen ? [[perceptual.weight, seen] as const] : []),
  ]);
  const count = mu.shape.reduce((n, d) => n * d, 1);
  return {
    variables,
    batchSize: b,
    scalars: { loss, l1, mse, kl, ...(seen && { perceptual: seen }) },
    feeds: (step): Feeds => {
      const random = counterRandom(seed, `autoencoder step ${step}`);
      const indices = Int32Array.from({ length: b }, () => random.int(data.count));
      const corners = Array.from(
        indices,
        () => [random.int(data.height - r + 1), random.int(data.width - r + 1)] as const,
      );
      const pixels = cropped(data.batch(indices), data, corners, r);
      return sampled ? { pixels, noise: random.normal(count) } : { pixels };
    },
  };
}

/**
 * How differently a picture tower sees pictures (B, 3, S, S) in [−1, 1], as LPIPS (Zhang et al. 2018, arXiv:1801.03924) asks a
 * network for classification: 1 − cosine of its tokens, mean over tokens and layers. Errors a pixel call the same a picture
 * that has lost its eyes and one whose background is a shade off; the tower doesn't.
 */
export function perceptualDistance({ config, weights }: CLIPVision, x: Tensor, y: Tensor): Tensor {
  const [a, b] = [x, y].map((pixels) => clipVisionModel(weights, config, clipPixels(pixels)).hiddenStates.slice(1));
  const cosines = a!.map((h, i) => mean(sum(mul(normalizeRows(h), normalizeRows(b![i]!)), [-1])));
  return sub(1, mul(cosines.reduce(add), 1 / cosines.length));
}

/** Mean absolute first difference along height and width of x (B, C, H, W). */
function roughness(x: Tensor): Tensor {
  const [, , h, w] = x.shape as [number, number, number, number];
  const vertical = sub(slice(x, [1], [h], [2]), slice(x, [0], [h - 1], [2]));
  const horizontal = sub(slice(x, [1], [w], [3]), slice(x, [0], [w - 1], [3]));
  return add(mean(abs(vertical)), mean(abs(horizontal)));
}

/** Squares of side r from pictures (n, 3, H, W), each from its own corner (top, left). */
function cropped(
  planes: Float32Array,
  { height: h, width: w }: PictureFile,
  corners: readonly (readonly [number, number])[],
  r: number,
): Float32Array {
  const out = new Float32Array(corners.length * 3 * r * r);
  for (const [n, [top, left]] of corners.entries())
    for (let c = 0; c < 3; c++)
      for (let y = 0; y < r; y++) {
        const from = ((n * 3 + c) * h + top + y) * w + left;
        out.set(planes.subarray(from, from + r), ((n * 3 + c) * r + y) * r);
      }
  return out;
}

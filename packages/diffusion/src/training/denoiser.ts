/** Training of the UNet on cached latents, with frozen autoencoder and text encoder. */
import {
  add,
  type CounterRandom,
  counterRandom,
  div,
  type Feeds,
  input,
  mean,
  mul,
  type Runtime,
  reshape,
  square,
  sub,
  type Tensor,
  Variables,
  type Weights,
} from "@likeness/engine";
import type { CLIPTextConfig } from "../config/clip.ts";
import type { UNet2DConditionConfig } from "../config/unet.ts";
import type { AutoencoderKLConfig } from "../config/vae.ts";
import { encode } from "../models/autoencoder-kl.ts";
import { clipTextModel, embedTokens } from "../models/clip-text.ts";
import { unet2DConditionModel } from "../models/unet-2d-condition.ts";
import type { CLIPTokenizer } from "../tokenizers/index.ts";
import { tokenFeeds } from "./clip.ts";
import { masksOf, type PictureFile } from "./data.ts";
import type { TrainingTask } from "./loop.ts";

export interface DenoiserTrainingOptions {
  readonly batchSize: number;
  readonly seed: number;
  readonly captionDropout: number;
  readonly snrGamma: number | null;
  readonly timestepSpread: number;
  /** Weight of what tensor `masks` of the data covers; what it leaves has weight 1. */
  readonly subjectWeight: number;
  /** Weights of pictures by a text that their caption has; a picture without any, or whose caption was dropped, has weight 1. */
  readonly captionWeights: Readonly<Record<string, number>>;
}

export interface DenoiserParts {
  readonly unet: UNet2DConditionConfig;
  readonly text: CLIPTextConfig;
  readonly textWeights: Weights;
  readonly tokenizer: CLIPTokenizer;
  readonly predictionType: "epsilon" | "v_prediction";
  /** ᾱ_t of the training schedule. */
  readonly alphasCumprod: Float32Array;
}

/** What one sample needs at its timestep: z_t = signal·z + sigma·ε. */
export interface NoiseLevels {
  readonly t: Float32Array;
  readonly signal: Float32Array;
  readonly sigma: Float32Array;
  readonly weight: Float32Array;
}

/**
 * Inputs t, signal, sigma and weight for given timesteps. Weights are min-SNR-γ's (Hang et al. 2023, arXiv:2303.09556):
 * min(SNR, γ)/SNR for ε, and min(SNR + 1, γ)/(SNR + 1) for v, whose plain loss is that of z times SNR + 1. So v keeps weight 1
 * where there is little signal: it is there that the prompt decides, and a schedule may end at SNR = 0.
 */
export function noiseLevels(
  steps: readonly number[],
  alphas: Float32Array,
  gamma: number | null,
  prediction: DenoiserParts["predictionType"],
): NoiseLevels {
  const of = (f: (alpha: number) => number): Float32Array => Float32Array.from(steps, (t) => f(alphas[t]!));
  const weight = (alpha: number): number => {
    if (gamma === null) return 1;
    const base = alpha / (1 - alpha) + (prediction === "epsilon" ? 0 : 1);
    return Math.min(base, gamma) / base;
  };
  return { t: Float32Array.from(steps), signal: of(Math.sqrt), sigma: of((a) => Math.sqrt(1 - a)), weight: of(weight) };
}

/** z_t and the target of the prediction, ε or v = signal·ε − sigma·z. All (B, C, h, w); levels (B). */
export function noised(
  z: Tensor,
  noise: Tensor,
  signal: Tensor,
  sigma: Tensor,
  prediction: DenoiserParts["predictionType"],
): { sample: Tensor; target: Tensor } {
  const [s, n] = [signal, sigma].map((x) => reshape(x, [-1, 1, 1, 1])) as [Tensor, Tensor];
  const sample = add(mul(z, s), mul(noise, n));
  return { sample, target: prediction === "epsilon" ? noise : sub(mul(noise, s), mul(z, n)) };
}

/** The timestep at quantile u of (0, 1): t/T is logistic with scale `spread` on the scale of log-odds; spread 1 is uniform. */
export function timestepAt(u: number, total: number, spread: number): number {
  if (spread === 1) return Math.floor(u * total);
  const odds = (u / (1 - u)) ** spread;
  return Math.min(total - 1, Math.floor((odds / (1 + odds)) * total));
}

/** One timestep from each of `count` equal ranges of quantiles, in random order: the loss of a step varies less than with free draws. */
export function drawTimesteps(random: CounterRandom, count: number, total: number, spread: number = 1): number[] {
  const jitter = random.uniform(count);
  return Array.from(random.permutation(count), (slot, n) => timestepAt((slot + jitter[n]!) / count, total, spread));
}

export function denoiserTask(
  parts: DenoiserParts,
  data: PictureFile,
  latents: Float32Array,
  options: DenoiserTrainingOptions,
  start: (key: string) => Float32Array | undefined,
): TrainingTask {
  const { batchSize: b, seed, captionDropout, snrGamma, timestepSpread, subjectWeight } = options;
  const { unet, text, tokenizer, predictionType } = parts;
  const captions = data.list("captions");
  const variables = new Variables({ seed, start });
  const side = Math.sqrt(latents.length / data.count / unet.in_channels);
  const shape = [b, unet.in_channels, side, side];
  const size = unet.in_channels * side * side;
  const ids = input("input_ids", [b, tokenizer.modelMaxLength], "int32");
  const context = clipTextModel(parts.textWeights, text, {
    inputsEmbeds: embedTokens(parts.textWeights, text, ids),
  }).lastHiddenState;
  const [t, signal, sigma, weight] = ["t", "signal", "sigma", "weight"].map((name) => input(name, [b])) as [
    Tensor,
    Tensor,
    Tensor,
    Tensor,
  ];
  const { sample, target } = noised(input("latents", shape), input("noise", shape), signal, sigma, predictionType);
  const y = unet2DConditionModel(variables.weights(), unet, { sample, timestep: t, encoderHiddenStates: context });
  const subject = subjectWeights(data, side, b, subjectWeight);
  const perSample = mean(subject.weigh(square(sub(y, target))), [1, 2, 3]);
  return {
    variables,
    batchSize: b,
    scalars: { loss: mean(mul(perSample, weight)), mse: mean(perSample) },
    feeds: (step): Feeds => {
      const random = counterRandom(seed, `unet step ${step}`);
      const indices = Array.from({ length: b }, () => random.int(data.count));
      const z = new Float32Array(b * size);
      for (const [n, i] of indices.entries()) z.set(latents.subarray(i * size, (i + 1) * size), n * size);
      const drop = random.uniform(b);
      const texts = indices.map((i, n) => (drop[n]! < captionDropout ? "" : captions[i]!));
      const steps = drawTimesteps(random, b, parts.alphasCumprod.length, timestepSpread);
      const { input_ids } = tokenFeeds(tokenizer, texts);
      const levels = noiseLevels(steps, parts.alphasCumprod, snrGamma, predictionType);
      return {
        latents: z,
        noise: random.normal(z.length),
        input_ids,
        ...levels,
        weight: levels.weight.map((w, n) => w * captionWeight(texts[n]!, options.captionWeights)),
        ...subject.feeds(indices),
      };
    },
  };
}

/** The largest of the weights whose text is in the caption, or 1. */
export function captionWeight(caption: string, weights: Readonly<Record<string, number>>): number {
  const found = Object.entries(weights).filter(([text]) => caption.includes(text));
  return found.length ? Math.max(...found.map(([, weight]) => weight)) : 1;
}

export interface SubjectWeights {
  /** Errors (B, C, h, w), weighted; the mean weight of a picture is 1. */
  weigh(errors: Tensor): Tensor;
  feeds(indices: readonly number[]): Feeds;
}

/** What tensor `masks` of the data covers weighs `weight`, all else 1. @throws SafetensorsError if that isn't 1 and there are no masks */
export function subjectWeights(data: PictureFile, side: number, batch: number, weight: number): SubjectWeights {
  if (weight === 1) return { weigh: (errors) => errors, feeds: () => ({}) };
  const masks = masksOf(data, side, {
    why: ", which subject_weight weighs by",
    next: "Write the data with masks, or leave subject_weight out.",
  });
  const mask = input("subject_mask", [batch, 1, side, side]);
  return {
    weigh: (errors) => mul(errors, relative(add(mul(mask, weight - 1), 1))),
    feeds: (indices) => ({ subject_mask: masks(indices) }),
  };
}

/** Weights (B, 1, h, w) whose mean in each picture is 1. */
const relative = (w: Tensor): Tensor => div(w, mean(w, [1, 2, 3], true));

/** Scaled latent means of all pictures (or the first `limit`): (N, C, h, w), flat. */
export async function encodeAll(
  runtime: Runtime,
  w: Weights,
  config: AutoencoderKLConfig,
  data: PictureFile,
  {
    batchSize = runtime.device === "cpu" ? 32 : 256,
    limit = data.count,
    tensor = "images",
    onProgress,
  }: { batchSize?: number; limit?: number; tensor?: string; onProgress?: (done: number) => void } = {},
): Promise<Float32Array> {
  const { mean: mu } = encode(w, config, input("pixels", [batchSize, 3, data.height, data.width]));
  const program = await runtime.compile({ outputs: { z: mul(mu, config.scaling_factor) } });
  const size = mu.shape.slice(1).reduce((n, d) => n * d, 1);
  const total = Math.min(limit, data.count);
  const all = new Float32Array(total * size);
  for (let at = 0; at < total; at += batchSize) {
    const count = Math.min(batchSize, total - at);
    const pixels = data.batch(
      Int32Array.from({ length: batchSize }, (_, i) => at + Math.min(i, count - 1)),
      { tensor },
    );
    const { z } = await program.run({ pixels });
    all.set((z as Float32Array).subarray(0, count * size), at * size);
    onProgress?.(at + count);
  }
  await program.release();
  return all;
}

/** Text to picture with a Stable Diffusion model: three programs and a loop. */
import { counterRandom, div, input, type Program, type Runtime, type Tensor, torchRandn } from "@likeness/engine";
import type { StableDiffusionModel } from "../loading.ts";
import { decode } from "../models/autoencoder-kl.ts";
import { clipTextModel, embedTokens } from "../models/clip-text.ts";
import { unet2DConditionModel } from "../models/unet-2d-condition.ts";
import { toPixels } from "../training/data.ts";
import { denoise, guided } from "./denoise.ts";

export interface GenerateOptions {
  readonly prompt: string;
  readonly negativePrompt?: string;
  readonly steps: number;
  /** 1 or less: no guidance, and half the work. */
  readonly guidanceScale: number;
  readonly width: number;
  readonly height: number;
  readonly numImages: number;
  /** Picture i starts from the noise of seed + i, whatever the batch. */
  readonly seed: number;
  readonly scheduler?: string | undefined;
  /** Starting noise (N, C, h, w) instead of the seed's. */
  readonly latents?: Float32Array | undefined;
  onStep?(event: { readonly step: number; readonly steps: number }): void;
  readonly signal?: AbortSignal | undefined;
}

export interface GeneratedImages {
  /** RGB bytes, row by row, one array per picture. */
  readonly images: readonly Uint8Array[];
  /** Latents after the last step, (N, C, h, w). */
  readonly latents: Float32Array;
  readonly latentShape: readonly number[];
}

/** How the UNet is run on a batch: plain, or with a concept. */
export interface Denoiser {
  /** @returns the prediction for inputs "sample" (B, C, h, w) and "timestep" (B) and whatever `condition` feeds */
  build(sample: Tensor, timestep: Tensor): Tensor;
  /** Feeds that carry the prompts of a batch, unconditional ones first. */
  condition(prompts: readonly string[]): Promise<Readonly<Record<string, Float32Array>>>;
}

/** Text states of prompts, (n, L, D) flat. */
export async function encodePrompts(
  runtime: Runtime,
  model: StableDiffusionModel,
  prompts: readonly string[],
): Promise<Float32Array> {
  const { config, weights } = model.textEncoder;
  const length = model.tokenizer.modelMaxLength;
  const ids = input("input_ids", [prompts.length, length], "int32");
  const states = clipTextModel(weights, config, { inputsEmbeds: embedTokens(weights, config, ids) }).lastHiddenState;
  const program = await runtime.compile({ outputs: { states } });
  try {
    const input_ids = Int32Array.from(prompts.flatMap((p) => [...model.tokenizer.encode(p).inputIds]));
    return (await program.run({ input_ids })).states as Float32Array;
  } finally {
    await program.release();
  }
}

/** The plain denoiser of a model: prompts as text states. */
export function plainDenoiser(runtime: Runtime, model: StableDiffusionModel): Denoiser {
  const { config, weights } = model.unet;
  const length = model.tokenizer.modelMaxLength;
  return {
    build: (sample, timestep) => {
      const encoderHiddenStates = input("context", [sample.shape[0]!, length, config.cross_attention_dim]);
      return unet2DConditionModel(weights, config, { sample, timestep, encoderHiddenStates });
    },
    condition: async (prompts) => ({ context: await encodePrompts(runtime, model, prompts) }),
  };
}

/** Generates pictures; the denoiser decides what the prompt means. */
export async function generate(
  runtime: Runtime,
  model: StableDiffusionModel,
  denoiser: Denoiser,
  options: GenerateOptions,
): Promise<GeneratedImages> {
  const { prompt, negativePrompt = "", guidanceScale, numImages: n, signal } = options;
  const plan = model.scheduler(options.scheduler).setTimesteps(options.steps);
  const shape = [
    n,
    model.unet.config.in_channels,
    options.height / model.scaleFactor,
    options.width / model.scaleFactor,
  ];
  const guide = guidanceScale > 1;
  const batch = guide ? 2 * n : n;
  const sample = input("sample", [batch, ...shape.slice(1)]);
  const output = denoiser.build(sample, input("timestep", [batch]));
  const program = await runtime.compile({ outputs: { output } });
  const condition = await denoiser.condition([
    ...(guide ? Array<string>(n).fill(negativePrompt) : []),
    ...Array<string>(n).fill(prompt),
  ]);
  const start = options.latents ?? startNoise(options.seed, shape);
  const latents = await denoise({
    plan,
    latents: start,
    noise: (count) => counterRandom(options.seed, "sampling noise").normal(count),
    onStep: ({ step, steps }) => options.onStep?.({ step, steps }),
    signal,
    predict: async (z, t) => {
      const both = guide ? Float32Array.from({ length: 2 * z.length }, (_, i) => z[i % z.length]!) : z;
      const feeds = { sample: both, timestep: new Float32Array(batch).fill(t), ...condition };
      const y = (await program.run(feeds, { signal })).output as Float32Array;
      return guide ? guided(y.subarray(0, z.length), y.subarray(z.length), guidanceScale) : y;
    },
  });
  await program.release();
  return { images: await decodeAll(runtime, model, latents, shape, signal), latents, latentShape: shape };
}

/** One draw per picture, so that a picture does not depend on how many are made. */
function startNoise(seed: number, [n, ...rest]: readonly number[]): Float32Array {
  const size = rest.reduce((a, b) => a * b, 1);
  const all = new Float32Array(n! * size);
  for (let i = 0; i < n!; i++) all.set(torchRandn(seed + i).normal(size), i * size);
  return all;
}

async function decodeAll(
  runtime: Runtime,
  model: StableDiffusionModel,
  latents: Float32Array,
  [n, c, h, w]: readonly number[],
  signal?: AbortSignal,
): Promise<Uint8Array[]> {
  const { config, weights } = model.vae;
  const z = input("z", [1, c!, h!, w!]);
  const program: Program = await runtime.compile({
    outputs: { x: decode(weights, config, div(z, config.scaling_factor)) },
  });
  const size = latents.length / n!;
  const images: Uint8Array[] = [];
  for (let i = 0; i < n!; i++) {
    const { x } = await program.run({ z: latents.slice(i * size, (i + 1) * size) }, { signal });
    images.push(toPixels(x as Float32Array, h! * model.scaleFactor, w! * model.scaleFactor));
  }
  await program.release();
  return images;
}

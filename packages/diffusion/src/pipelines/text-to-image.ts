/** Text to picture, or text and picture to picture, with a Stable Diffusion model: a few programs and a loop. */
import { div, input, type Program, type Runtime } from "@likeness/engine";
import { expectFinite } from "../loading/finite.ts";
import type { StableDiffusionModel } from "../loading.ts";
import { decode } from "../models/autoencoder-kl.ts";
import { type Scheduler, SchedulerError } from "../schedulers/index.ts";
import { toPixels } from "../training/data.ts";
import { type DenoiseOptions, denoise, guidedUNet, halvesAt, halvesOf } from "./denoise.ts";
import type { Denoiser } from "./denoiser.ts";
import { drawsOf } from "./draws.ts";
import { encodeImage, firstStep, type InitImage, noisyLatents } from "./image-to-image.ts";

export interface GenerateOptions {
  readonly prompt: string;
  readonly negativePrompt?: string;
  readonly steps: number;
  /** 1 or less: no guidance, and half the work. */
  readonly guidanceScale: number;
  /** How far a guided prediction is brought back to the deviation that it would have without guidance, 0 (the default) to 1. */
  readonly guidanceRescale?: number | undefined;
  /** Share of the steps that are guided, from the first on: 1, the default, all; of a picture's start those count that it leaves out. */
  readonly guidanceStop?: number | undefined;
  /** In pixels, multiples of the model's scaleFactor. */
  readonly width: number;
  readonly height: number;
  readonly numImages: number;
  /** Pictures at once: memory grows with it. By default as many as have the pixels of one of 512x512. */
  readonly batchSize?: number | undefined;
  /** Picture i draws all its noise from torch's generator with seed + i, whatever the batch. */
  readonly seed: number;
  readonly scheduler?: string | undefined;
  /** DDIM's share of fresh noise in each step, from 0 (the default) to 1, which is as noisy as DDPM. */
  readonly eta?: number | undefined;
  /** Starting noise (N, C, h, w) instead of the seed's. */
  readonly latents?: Float32Array | undefined;
  /** A picture to start from, instead of noise alone. */
  readonly initImage?: InitImage | undefined;
  /** `steps` are those of all batches together; step 0 says that all is loaded and the first step begins. */
  onStep?(event: { readonly step: number; readonly steps: number }): void;
  /** Pictures as soon as their batch is done, the first of them at position `from`. */
  onImages?(event: { readonly from: number; readonly images: readonly Uint8Array[] }): void | Promise<void>;
  /** The end of a prompt that the text encoder can't read. */
  onCut?(event: { readonly prompt: string; readonly cut: string; readonly limit: number }): void;
  readonly signal?: AbortSignal | undefined;
}

export interface GeneratedImages {
  /** RGB bytes, row by row, one array per picture. */
  readonly images: readonly Uint8Array[];
  /** Latents after the last step, (N, C, h, w). */
  readonly latents: Float32Array;
  readonly latentShape: readonly number[];
}

const PIXELS_AT_ONCE = 512 * 512;

/**
 * Generates pictures; the denoiser decides what the prompt means.
 * @throws LikenessError if the strength leaves no step, SchedulerError for a scheduler or a number of steps
 */
export async function generate(
  runtime: Runtime,
  model: StableDiffusionModel,
  denoiser: Denoiser,
  options: GenerateOptions,
): Promise<GeneratedImages> {
  const { prompt, negativePrompt = "", guidanceScale, width, height, numImages, initImage, seed, signal } = options;
  const scheduler = model.scheduler(options.scheduler);
  expectEta(scheduler, options.eta);
  const plan = scheduler.setTimesteps(options.steps);
  const first = initImage && firstStep(options.steps, initImage.strength);
  const shape = [model.unet.config.in_channels, height / model.scaleFactor, width / model.scaleFactor];
  const size = shape.reduce((a, b) => a * b, 1);
  const guidance = { scale: guidanceScale, rescale: options.guidanceRescale, stop: options.guidanceStop };
  const prompts = halvesOf(guidance) === 2 ? [negativePrompt, prompt] : [prompt];
  const most = Math.min(numImages, options.batchSize ?? Math.max(1, Math.floor(PIXELS_AT_ONCE / (width * height))));
  const perBatch = plan.timesteps.length - (first ?? 0);
  const steps = Math.ceil(numImages / most) * perBatch;

  const posterior = initImage && (await encodeImage(runtime, model, initImage, [width, height], signal));
  // the text encoder's graph is made while the UNet's is loaded
  const unet = unetPrograms(runtime, denoiser, shape);
  const firstRows = most * halvesAt(guidance, first ?? 0, plan.timesteps.length);
  const [, condition] = await Promise.all([unet.of(firstRows), denoiser.condition(prompts)]);
  tellCut(model, prompts, options);
  options.onStep?.({ step: 0, steps });
  const latents = new Float32Array(numImages * size);
  const images: Uint8Array[] = [];
  for (let from = 0, done = 0; from < numImages; from += most, done += perBatch) {
    const n = Math.min(most, numImages - from);
    const draw = drawsOf(Array.from({ length: n }, (_, i) => seed + from + i));
    const read = Object.fromEntries(Object.entries(condition).map(([name, x]) => [name, repeat(x, prompts.length, n)]));
    const given = options.latents?.slice(from * size, (from + n) * size);
    const start = posterior
      ? noisyLatents(posterior, model.vae.config.scaling_factor, plan, first!, n, draw)
      : (given ?? draw(n * size));
    const batch = await denoise({
      ...{ plan, latents: start, first, noise: draw, eta: options.eta, signal },
      onStep: ({ step }) => options.onStep?.({ step: done + step, steps }),
      predict: checked(
        model,
        guidedUNet(unet.of, read, guidance, { pictures: n, steps: plan.timesteps.length, signal }),
      ),
    });
    latents.set(batch, from * size);
    if (from + n === numImages) await unet.release(); // its memory serves the decoder
    const made = await decodeAll(runtime, model, batch, [n, ...shape], signal);
    images.push(...made);
    await options.onImages?.({ from, images: made });
  }
  return { images, latents, latentShape: [numImages, ...shape] };
}

/** @throws SchedulerError for an eta that the scheduler's steps don't have */
export function expectEta({ takesEta }: Scheduler, eta: number = 0): void {
  if (eta !== 0 && !takesEta) throw new SchedulerError(`eta: needed 0, as only ddim takes one, found ${eta}.`);
  if (!(eta >= 0 && eta <= 1)) throw new SchedulerError(`eta: needed a number in [0, 1], found ${eta}.`);
}

/** A prediction that is no number ends the run: with the name of the weight that spoils it, if there is one. */
const checked =
  (model: StableDiffusionModel, predict: DenoiseOptions["predict"]): DenoiseOptions["predict"] =>
  async (z, t, i) => {
    const y = await predict(z, t, i);
    expectFinite(y, "the UNet's prediction", model);
    return y;
  };

/** Tells what each prompt has beyond the text encoder's limit. */
function tellCut({ tokenizer }: StableDiffusionModel, prompts: readonly string[], { onCut }: GenerateOptions): void {
  for (const prompt of prompts) {
    const { overflow: cut, inputIds } = tokenizer.encode(prompt);
    if (cut !== undefined) onCut?.({ prompt, cut, limit: inputIds.length });
  }
}

/** The UNet's program for a number of rows; another number takes its place, as a large one has no room beside it. */
function unetPrograms(runtime: Runtime, denoiser: Denoiser, shape: readonly number[]) {
  let open: { readonly rows: number; readonly program: Program } | undefined;
  const release = async (): Promise<void> => {
    await open?.program.release();
    open = undefined;
  };
  const of = async (rows: number): Promise<Program> => {
    if (open?.rows === rows) return open.program;
    await release();
    const output = denoiser.build(input("sample", [rows, ...shape]), input("timestep", [rows]));
    open = { rows, program: await runtime.compile({ outputs: { output } }) };
    return open.program;
  };
  return { of, release };
}

/** Each of the equal parts n times in a row. */
function repeat(values: Float32Array, parts: number, n: number): Float32Array {
  const size = values.length / parts;
  const all = new Float32Array(values.length * n);
  for (let i = 0; i < parts * n; i++) {
    const part = Math.floor(i / n) * size;
    all.set(values.subarray(part, part + size), i * size);
  }
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
    expectFinite(x as Float32Array, "the decoded picture", model);
    images.push(toPixels(x as Float32Array, h! * model.scaleFactor, w! * model.scaleFactor));
  }
  await program.release();
  return images;
}

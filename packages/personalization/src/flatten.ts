/** A concept for runtimes without a dual path: one path that comes close, and how close (method.md 1.8, 4.5). */
import { type Denoiser, denoise, type StableDiffusionModel } from "@likeness/diffusion";
import { input, type Program, type Runtime, torchRandn } from "@likeness/engine";
import type { Concept } from "./concept.ts";
import { conceptDenoiser } from "./generate.ts";
import { hardEmbedding } from "./tuning.ts";

/**
 * The single path that equals the dual path to first order in the concept's changes: embedding v_h + a(v − v_h) and
 * changes scaled by a (of convolutions these are the very same). Its alphaBlend is 1.
 */
export async function flatten(runtime: Runtime, model: StableDiffusionModel, concept: Concept): Promise<Concept> {
  const { alphaBlend: a, embedding, loraAlpha, convolutions, hardTokenId } = concept;
  const hard = (await runtime.evaluate({ hard: hardEmbedding(model, hardTokenId) })).hard as Float32Array;
  const between = embedding.map((v, i) => hard[i]! + a * (v - hard[i]!));
  return {
    ...{ ...concept, embedding: between, loraAlpha: a * loraAlpha, alphaBlend: 1 },
    ...(convolutions && { convolutions: { ...convolutions, loraAlpha: a * convolutions.loraAlpha } }),
  };
}

export interface FlatteningError {
  /** ‖flat − dual‖ / ‖dual‖ of the UNet's predictions: mean and largest. */
  readonly relative: number;
  readonly largest: number;
  /** ‖flat − dual‖ / ‖dual − plain‖, plain being the base model on the nearest word: mean share of the concept's own effect. */
  readonly ofChange: number;
  readonly draws: number;
  readonly steps: number;
  readonly prompt: string;
  readonly width: number;
  readonly height: number;
}

export interface FlatteningOptions {
  /** Starting noises: torch's for the seeds 0, 1, …; 2 unless said. */
  readonly draws?: number;
  /** DDIM steps of each; 4 unless said. */
  readonly steps?: number;
  onStep?(event: { readonly step: number; readonly steps: number }): void;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Compares the two where sampling takes them: at each DDIM step of the dual path, from some starting noises, on
 * "a photo of TOKEN" without guidance, at the model's own size; norms are Euclidean, over whole predictions.
 */
export async function flatteningError(
  runtime: Runtime,
  model: StableDiffusionModel,
  concept: Concept,
  flat: Concept,
  { draws = 2, steps = 4, onStep, signal }: FlatteningOptions = {},
): Promise<FlatteningError> {
  const side = model.resolution / model.scaleFactor;
  const shape = [1, model.unet.config.in_channels, side, side];
  const prompt = `a photo of ${concept.token}`;
  const paths: { program: Program; condition: Awaited<ReturnType<Denoiser["condition"]>> }[] = [];
  const [errors, shares]: [number[], number[]] = [[], []];
  try {
    for (const denoiser of [
      conceptDenoiser(runtime, model, flat),
      conceptDenoiser(runtime, model, concept, { alphaBlend: 0 }),
      conceptDenoiser(runtime, model, concept), // last, as the runtime's variables then are this one's
    ]) {
      const output = denoiser.build(input("sample", shape), input("timestep", [1]));
      const condition = await denoiser.condition([prompt]);
      paths.push({ program: await runtime.compile({ outputs: { output } }), condition });
    }
    for (let draw = 0; draw < draws; draw++)
      await denoise({
        plan: model.scheduler("ddim").setTimesteps(steps),
        latents: torchRandn(draw).normal(shape.reduce((a, b) => a * b, 1)),
        predict: async (sample, t) => {
          const feeds = { sample, timestep: Float32Array.of(t) };
          const results: Float32Array[] = [];
          for (const { program, condition } of paths)
            results.push((await program.run({ ...feeds, ...condition }, { signal })).output as Float32Array);
          const [single, plain, dual] = results as [Float32Array, Float32Array, Float32Array];
          const off = distance(single, dual);
          errors.push(ratio(off, distance(dual)));
          shares.push(ratio(off, distance(dual, plain)));
          return dual;
        },
        onStep: ({ step }) => onStep?.({ step: draw * steps + step, steps: draws * steps }),
        signal,
      });
  } finally {
    for (const { program } of paths) await program.release();
  }
  const mean = (xs: readonly number[]): number => xs.reduce((a, b) => a + b, 0) / xs.length;
  const size = { width: model.resolution, height: model.resolution };
  return {
    relative: mean(errors),
    largest: Math.max(...errors),
    ofChange: mean(shares),
    draws,
    steps,
    prompt,
    ...size,
  };
}

/** ‖x − y‖, or ‖x‖. */
function distance(x: Float32Array, y?: Float32Array): number {
  return Math.sqrt(x.reduce((sum, v, i) => sum + (v - (y?.[i] ?? 0)) ** 2, 0));
}

/** 0 / 0 is 0 here: no change, no error. */
const ratio = (a: number, b: number): number => (a === 0 ? 0 : a / b);

/** The error in one sentence. */
export function describeFlattening({
  relative,
  largest,
  ofChange,
  draws,
  steps,
  prompt,
  width,
  height,
}: FlatteningError): string {
  const percent = (x: number): string => `${(100 * x).toPrecision(2)} %`;
  return (
    `without the dual path predictions differ by ${percent(relative)} (largest ${percent(largest)}), ` +
    `which is ${percent(ofChange)} of what the concept changes: ${draws * steps} predictions, ` +
    `${steps} DDIM steps from each of ${draws} noises, "${prompt}", ${width}x${height}, no guidance`
  );
}

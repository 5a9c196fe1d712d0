/** How prompts steer the UNet. */
import { input, type Runtime, type Tensor } from "@likeness/engine";
import type { StableDiffusionModel } from "../loading.ts";
import { type CLIPTextOutputs, clipTextModel, embedTokens, skippedState } from "../models/clip-text.ts";
import { unet2DConditionModel } from "../models/unet-2d-condition.ts";

/** How the UNet is run on a batch: plain, or with a concept. */
export interface Denoiser {
  /** @returns the prediction for inputs "sample" (B, C, h, w) and "timestep" (B) and whatever `condition` feeds */
  build(sample: Tensor, timestep: Tensor): Tensor;
  /** Feeds that carry prompts, the unconditional one first: each feed has as many equal parts as there are prompts. */
  condition(prompts: readonly string[]): Promise<Readonly<Record<string, Float32Array>>>;
}

export interface PromptOptions {
  /** Layers of the text encoder that the last prompt leaves out, as in diffusers: the negative prompt has them all. */
  readonly clipSkip?: number | undefined;
}

/**
 * Text states of prompts, (n, L, D) flat.
 * @throws LikenessError if the text encoder hasn't as many layers as clipSkip leaves out
 */
export async function encodePrompts(
  runtime: Runtime,
  model: StableDiffusionModel,
  prompts: readonly string[],
  { clipSkip }: PromptOptions = {},
): Promise<Float32Array> {
  const outputs = textStates(model, prompts.length);
  const { lastHiddenState: states } = outputs;
  const skipped = clipSkip === undefined ? undefined : skip(model, outputs, clipSkip);
  const input_ids = Int32Array.from(prompts.flatMap((p) => [...model.tokenizer.encode(p).inputIds]));
  const wanted: Record<string, Tensor> = { states, ...(skipped && { skipped }) };
  const found = (await runtime.evaluate(wanted, { input_ids })) as Record<string, Float32Array>;
  const all = found.states!.slice();
  const last = all.length - all.length / prompts.length;
  if (skipped) all.set(found.skipped!.subarray(last), last);
  return all;
}

/** The plain denoiser of a model: prompts as text states. @throws LikenessError as encodePrompts */
export function plainDenoiser(runtime: Runtime, model: StableDiffusionModel, options: PromptOptions = {}): Denoiser {
  const { config, weights } = model.unet;
  const length = model.tokenizer.modelMaxLength;
  if (options.clipSkip !== undefined) skip(model, textStates(model, 1), options.clipSkip); // before any work
  return {
    build: (sample, timestep) => {
      const encoderHiddenStates = input("context", [sample.shape[0]!, length, config.cross_attention_dim]);
      return unet2DConditionModel(weights, config, { sample, timestep, encoderHiddenStates });
    },
    condition: async (prompts) => ({ context: await encodePrompts(runtime, model, prompts, options) }),
  };
}

function textStates({ textEncoder: { config, weights }, tokenizer }: StableDiffusionModel, n: number): CLIPTextOutputs {
  const ids = input("input_ids", [n, tokenizer.modelMaxLength], "int32");
  return clipTextModel(weights, config, { inputsEmbeds: embedTokens(weights, config, ids) });
}

const skip = (
  { textEncoder: { config, weights } }: StableDiffusionModel,
  outputs: CLIPTextOutputs,
  n: number,
): Tensor => skippedState(weights, config, outputs, n);

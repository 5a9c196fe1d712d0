/** All three models of a pipeline at once, on inputs of any size. */
import { evaluate, type Tensor } from "@likeness/engine";
import { type Golden, relativeError } from "@likeness/engine/testing";
import { expect } from "vitest";
import {
  clipTextModel,
  decode,
  embedTokens,
  encode,
  type StableDiffusionModel,
  unet2DConditionModel,
} from "../src/index.ts";

export interface Leaves {
  readonly sample: Tensor;
  readonly timestep: Tensor;
  readonly ids: Tensor;
  readonly pixels: Tensor;
  readonly latents: Tensor;
}

/** Text states, the UNet on them, both directions of the autoencoder: every key is read. */
export function outputs({ unet, vae, textEncoder: text }: StableDiffusionModel, leaves: Leaves) {
  const inputsEmbeds = embedTokens(text.weights, text.config, leaves.ids);
  const states = clipTextModel(text.weights, text.config, { inputsEmbeds }).lastHiddenState;
  const { sample, timestep } = leaves;
  const out = unet2DConditionModel(unet.weights, unet.config, { sample, timestep, encoderHiddenStates: states });
  const { mean } = encode(vae.weights, vae.config, leaves.pixels);
  return { states, out, mean, decoded: decode(vae.weights, vae.config, leaves.latents) };
}

/** Whole tensors, within 1e-4 of their scale: the project's bar for float32 parity. */
export async function expectOutputs(model: StableDiffusionModel, golden: Golden): Promise<void> {
  const names = ["sample", "timestep", "ids", "pixels", "latents"] as const;
  const leaves = Object.fromEntries(names.map((k) => [k, golden.tensor(k)])) as Record<keyof Leaves, Tensor>;
  const made = outputs(model, leaves);
  const found = await evaluate(made);
  for (const [key, tensor] of Object.entries(made)) {
    expect(tensor.shape, key).toEqual(golden.shape(key));
    expect(relativeError(found[key as keyof typeof found], golden.floats(key)), key).toBeLessThan(1e-4);
  }
}

/** The UNet's weights in 8 bits, ahead of the graphs that use them. */
import { type Int8Options, input, makeInt8Copies } from "@likeness/engine";
import type { StableDiffusionModel } from "./loading.ts";
import { unet2DConditionModel } from "./models/unet-2d-condition.ts";

/** Makes the copies of a model loaded with `int8` that aren't in the cache folder yet. Without `int8` it does nothing. */
export async function prepareInt8(
  { int8, unet, textEncoder, tokenizer }: StableDiffusionModel,
  options: Int8Options = {},
): Promise<void> {
  if (!int8) return;
  const { weights, config } = unet;
  const side = 2 ** config.block_out_channels.length; // any that can be halved often enough: weights are what counts
  const y = unet2DConditionModel(weights, config, {
    sample: input("sample", [1, config.in_channels, side, side]),
    timestep: input("timestep", [1]),
    encoderHiddenStates: input("context", [1, tokenizer.modelMaxLength, textEncoder.config.hidden_size]),
  });
  await makeInt8Copies([y], options);
}

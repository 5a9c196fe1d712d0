/** A tuning-encoder with random weights for a toy model: nothing learnt, but all of it moves the result. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { StableDiffusionModel } from "@likeness/diffusion";
import { counterRandom, input, leafName, size, Variables, writeSafetensors } from "@likeness/engine";
import { ENCODER_FILE } from "../src/encoder-file.ts";
import { EncoderConfig } from "../src/method/config.ts";
import { predictConcept } from "../src/method/personal-unet.ts";

/** Writes config.json and weights of an encoder for the model into a folder. */
export function writeToyEncoder(folder: string, model: StableDiffusionModel, seed: number = 1): void {
  const shape = { width: 16, grid: 4, trunk_blocks: 1, norm_groups: 4, rank: 2, lora_alpha: 2 };
  const decoder = { decoder_layers: 1, decoder_heads: 2, decoder_inner: 16 };
  const config = EncoderConfig.parse({ ...shape, ...decoder, base: model.fingerprint, base_name: model.name });
  const variables = new Variables();
  const side = model.resolution;
  const h = side / model.scaleFactor;
  predictConcept(model, variables.weights(), config, {
    pixels: input("pixels", [1, 3, side, side]),
    sample: input("sample", [1, model.unet.config.in_channels, h, h]),
    timestep: input("t", [1]),
  });
  const tensors = variables.all().map((t) => {
    const name = leafName(t);
    const values = counterRandom(seed, name).normal(size(t.shape));
    const fanIn = t.shape.length > 1 ? size(t.shape.slice(1)) : 25;
    return [name, { dtype: "F32" as const, shape: t.shape, data: values.map((x) => x / Math.sqrt(fanIn)) }] as const;
  });
  mkdirSync(folder, { recursive: true });
  writeSafetensors(join(folder, ENCODER_FILE), Object.fromEntries(tensors), { format: "pt" });
  writeFileSync(join(folder, "config.json"), JSON.stringify(config));
}

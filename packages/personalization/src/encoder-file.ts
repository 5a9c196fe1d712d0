/** A trained tuning-encoder: config.json and weights in one folder, usually tuning_encoder/ of a model. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { readConfig, type StableDiffusionModel } from "@likeness/diffusion";
import { type FileWeights, LikenessError, openWeights } from "@likeness/engine";
import { EncoderConfig } from "./method/config.ts";

export const ENCODER_FOLDER = "tuning_encoder";
export const ENCODER_FILE = "tuning_encoder.safetensors";

export interface TuningEncoder {
  readonly config: EncoderConfig;
  readonly files: FileWeights;
}

/** The model's own encoder, if it has one. */
export function findEncoder(model: StableDiffusionModel): TuningEncoder | undefined {
  const folder = join(model.folder, ENCODER_FOLDER);
  return existsSync(join(folder, ENCODER_FILE)) ? openEncoder(folder, model) : undefined;
}

/** @throws LikenessError if the encoder was trained for another base model */
export function openEncoder(folder: string, model: StableDiffusionModel): TuningEncoder {
  const config = readConfig(EncoderConfig, join(folder, "config.json"));
  if (config.base && config.base !== model.fingerprint)
    throw new LikenessError("E_ENCODER_BASE", {
      what: "tuning-encoder",
      where: folder,
      needed: `one trained for ${model.name} (${model.fingerprint})`,
      found: `one for ${config.base_name} (${config.base})`,
      next: "Use it with its own model, or pretrain one for this model.",
    });
  return { config, files: openWeights([join(folder, ENCODER_FILE)]) };
}

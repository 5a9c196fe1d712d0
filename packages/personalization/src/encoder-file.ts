/** A trained tuning-encoder: config.json and weights in one folder, usually tuning_encoder/ of a model. */
import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { readConfig, type StableDiffusionModel } from "@likeness/diffusion";
import {
  atomicWrite,
  type FileWeights,
  LikenessError,
  leafName,
  openWeights,
  type Tensor,
  toFloat16,
  writeSafetensors,
} from "@likeness/engine";
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

/** Writes an encoder for a model, in float16: the values of its parameters, in their order. */
export function writeEncoder(
  folder: string,
  config: EncoderConfig,
  model: StableDiffusionModel,
  params: readonly Tensor[],
  values: readonly Float32Array[],
): void {
  mkdirSync(folder, { recursive: true });
  const tensors = params.map(
    (p, i) => [leafName(p), { dtype: "F16", shape: p.shape, data: toFloat16(values[i]!) }] as const,
  );
  writeSafetensors(join(folder, ENCODER_FILE), Object.fromEntries(tensors), { format: "pt" });
  const json = { ...config, base: model.fingerprint, base_name: model.name };
  atomicWrite(join(folder, "config.json"), [new TextEncoder().encode(`${JSON.stringify(json, null, 2)}\n`)]);
}

/** A judge for a toy model: the CLIPModel that its own two towers make with a text projection. */
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readFloats, readSafetensorsHeader, type TensorToWrite, writeSafetensors } from "@likeness/engine";
import { FIXTURES, readGolden } from "@likeness/engine/testing";

/** Writes config.json, weights and tokenizer in transformers' layout, of models/sd1 with the text projection of the golden numbers. */
export function writeToyJudge(folder: string): void {
  const base = join(FIXTURES, "models", "sd1");
  const configOf = (part: string): unknown => JSON.parse(readFileSync(join(base, part, "config.json"), "utf8"));
  const [text_config, vision_config] = [configOf("text_encoder"), configOf("image_encoder")];
  const data = readGolden("evaluation").floats("clip/text_projection");
  const tensors: Record<string, TensorToWrite> = {
    "text_projection.weight": { dtype: "F32", shape: [12, 12], data },
    ...towerOf(join(base, "text_encoder", "model.safetensors"), "text_model."),
    ...towerOf(join(base, "image_encoder", "model.safetensors"), "vision_model."),
  };
  mkdirSync(folder, { recursive: true });
  writeSafetensors(join(folder, "model.safetensors"), tensors);
  const config = { model_type: "clip", projection_dim: 12, text_config, vision_config };
  writeFileSync(join(folder, "config.json"), JSON.stringify(config));
  cpSync(join(base, "tokenizer"), folder, { recursive: true });
}

function towerOf(file: string, prefix: string): Record<string, TensorToWrite> {
  const header = readSafetensorsHeader(file);
  const named = (key: string): string =>
    key.startsWith(prefix) || key.startsWith("visual_projection") ? key : `${prefix}${key}`;
  return Object.fromEntries(
    [...header.tensors].map(([key, { shape }]) => [named(key), { dtype: "F32", shape, data: readFloats(header, key) }]),
  );
}

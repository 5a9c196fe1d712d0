/** Telling models and files apart without reading all of them. */
import { createHash } from "node:crypto";
import { closeSync, openSync, readFileSync, readSync, statSync } from "node:fs";
import { firstValues, readSafetensorsHeader, toFloat16 } from "@likeness/engine";
import { attentionMatrices } from "../models/unet-2d-condition.ts";
import type { StableDiffusionModel } from "./model.ts";

/** Values of each matrix that count. */
const SAMPLE = 256;

/**
 * sha256, cut to 16 digits, of what a concept rests on: the beginnings of the matrices that it changes, and of those by which
 * the text encoder attends, as float16. So a model has one fingerprint as a folder, in shards, in one file, and as its
 * own float16 variant.
 * @throws WeightError if one of them is missing
 */
export function modelFingerprint({ unet, textEncoder }: Pick<StableDiffusionModel, "unet" | "textEncoder">): string {
  const hash = createHash("sha256");
  const { hidden_size: d, num_hidden_layers: layers } = textEncoder.config;
  const matrices = [
    ...attentionMatrices(unet.config).map(({ path, dIn, dOut }) => unet.weights.get(`${path}.weight`, [dOut, dIn])),
    ...Array.from({ length: layers }, (_, i) =>
      textEncoder.weights.get(`text_model.encoder.layers.${i}.self_attn.k_proj.weight`, [d, d]),
    ),
  ];
  for (const matrix of matrices) {
    hash.update(JSON.stringify(matrix.shape));
    hash.update(toFloat16(firstValues(matrix, SAMPLE)));
  }
  return hash.digest("hex").slice(0, 16);
}

/** Of files: header and 64 samples of 4 KiB of each. Cheap, and different for models of one architecture. */
export function fingerprint(paths: readonly string[]): string {
  const hash = createHash("sha256");
  for (const path of paths) {
    const { tensors } = readSafetensorsHeader(path);
    hash.update(JSON.stringify([...tensors].map(([k, t]) => [k, t.dtype, t.shape])));
    hash.update(String(statSync(path).size));
    for (const chunk of samples(path)) hash.update(chunk);
  }
  return hash.digest("hex").slice(0, 16);
}

function samples(path: string): Buffer[] {
  const { size } = statSync(path);
  if (size < 1 << 20) return [readFileSync(path)];
  const file = openSync(path, "r");
  try {
    return Array.from({ length: 64 }, (_, i) => {
      const chunk = Buffer.alloc(4096);
      readSync(file, chunk, 0, 4096, Math.floor(((size - 4096) * i) / 63));
      return chunk;
    });
  } finally {
    closeSync(file);
  }
}

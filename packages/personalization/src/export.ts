/** A concept in the file formats of other runtimes, as one path (flatten.ts). */
import { rmSync } from "node:fs";
import { join } from "node:path";
import {
  cloneofsimoTensors,
  diffusersTensors,
  kohyaTensors,
  type LoraFactors,
  type LoraTensors,
  loraModules,
  type StableDiffusionModel,
} from "@likeness/diffusion";
import { atomicWrite, writeSafetensors } from "@likeness/engine";
import { type Concept, loraFactors } from "./concept.ts";
import type { FlatteningError } from "./flatten.ts";

export const EXPORT_FORMATS = ["diffusers", "kohya", "a1111", "cloneofsimo"] as const;
export type ExportFormat = (typeof EXPORT_FORMATS)[number];

export interface ExportedConcept {
  /** Paths of the files, the LoRA first. */
  readonly files: readonly string[];
  /** What names the subject in prompts of that runtime. */
  readonly token: string;
  /** How to use the files, in one sentence. */
  readonly usage: string;
}

interface Plan extends Omit<ExportedConcept, "files"> {
  readonly lora: LoraTensors & { readonly file: string };
  /** Key and file of the embedding, where it has a file of its own. */
  readonly embedding?: { readonly key: string; readonly file: string };
  readonly notes?: { readonly file: string; readonly json: object };
}

/**
 * Writes a flattened concept into a folder: all files or none.
 * @param flat from flatten()
 * @param name stem of the files whose names are free, and of the word in A1111 and ComfyUI
 * @param error goes into the files' metadata
 */
export function exportConcept(
  folder: string,
  format: ExportFormat,
  flat: Concept,
  name: string,
  model: StableDiffusionModel,
  error: FlatteningError,
): ExportedConcept {
  const factors = loraFactors(flat, model);
  const { lora, embedding, notes, token, usage } = PLANS[format](flat, factors, name, model);
  const about = {
    "date.flattened_from": flat.token,
    "date.flattening": JSON.stringify(error),
    "modelspec.trigger_phrase": token,
    ss_sd_model_name: flat.baseName,
  };
  const done: string[] = [];
  const write = (file: string, how: (path: string) => void): void => {
    how(join(folder, file));
    done.push(join(folder, file));
  };
  try {
    write(lora.file, (path) => writeSafetensors(path, lora.tensors, { ...about, ...lora.metadata }));
    if (embedding) {
      const tensor = { dtype: "F32", shape: [1, flat.embedding.length], data: flat.embedding } as const;
      const metadata = { format: "pt", ...about };
      write(embedding.file, (path) => writeSafetensors(path, { [embedding.key]: tensor }, metadata));
    }
    if (notes)
      write(notes.file, (path) => atomicWrite(path, [Buffer.from(`${JSON.stringify(notes.json, null, 2)}\n`)]));
  } catch (failure) {
    for (const path of done) rmSync(path, { force: true });
    throw failure;
  }
  return { files: done, token, usage };
}

type Planner = (flat: Concept, factors: readonly LoraFactors[], name: string, model: StableDiffusionModel) => Plan;

const PLANS: Readonly<Record<ExportFormat, Planner>> = {
  diffusers: ({ token }, factors) => ({
    lora: { file: "pytorch_lora_weights.safetensors", ...diffusersTensors(factors) },
    embedding: { file: "learned_embeds.safetensors", key: token },
    token,
    usage: `pipe.load_lora_weights(DIR, weight_name="pytorch_lora_weights.safetensors"), pipe.load_textual_inversion(DIR), and ${token} in the prompt`,
  }),
  kohya: (_flat, factors, name, model) => ({
    lora: { file: `${name}.safetensors`, ...kohya(factors, model) },
    embedding: { file: `${name}-emb.safetensors`, key: "emb_params" },
    token: `${name}-emb`,
    usage: `the LoRA at strength 1 and the embedding beside it (ComfyUI: embedding:${name}-emb in the prompt)`,
  }),
  a1111: (_flat, factors, name, model) => ({
    lora: { file: `models/Lora/${name}.safetensors`, ...kohya(factors, model) },
    embedding: { file: `embeddings/${name}-emb.safetensors`, key: "emb_params" },
    notes: {
      file: `models/Lora/${name}.json`,
      json: { "sd version": isSD2(model) ? "SD2" : "SD1", "activation text": `${name}-emb`, "preferred weight": 1 },
    },
    token: `${name}-emb`,
    usage: `copy both folders into the webui's, and write ${name}-emb and <lora:${name}:1> in the prompt`,
  }),
  cloneofsimo: ({ token, rank, embedding }, factors, name, model) => ({
    lora: {
      file: `${name}.safetensors`,
      ...cloneofsimoTensors(factors, rank, loraModules(model), { [token]: embedding }),
    },
    token,
    usage: `patch_pipe(pipe, FILE), and ${token} in the prompt`,
  }),
};

const isSD2 = (model: StableDiffusionModel): boolean => model.unet.config.cross_attention_dim === 1024;

/** kohya's keys with the metadata by which A1111 and ComfyUI tell base models apart. */
function kohya(factors: readonly LoraFactors[], model: StableDiffusionModel): LoraTensors {
  const { tensors, metadata } = kohyaTensors(factors);
  const sd2 = isSD2(model);
  const v = model.scheduler().config.prediction_type === "v_prediction";
  const version = sd2 ? `sd_v2${v ? "_v" : ""}` : "sd_v1";
  const architecture = `stable-diffusion-v${sd2 ? "2" : "1"}/lora`;
  const about = {
    ss_base_model_version: version,
    ss_v2: sd2 ? "True" : "False",
    "modelspec.architecture": architecture,
  };
  return { tensors, metadata: { ...metadata, ...about } };
}

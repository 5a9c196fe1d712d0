/** The concept file: everything that a taught subject is, in one .safetensors (method.md 4.5). */

import { attentionMatrices, type StableDiffusionModel } from "@likeness/diffusion";
import {
  LikenessError,
  readFloats,
  readSafetensorsHeader,
  type TensorToWrite,
  writeSafetensors,
} from "@likeness/engine";

export interface ConceptFactors {
  /** (in, r) row by row. */
  readonly a: Float32Array;
  /** (r, out) row by row. */
  readonly b: Float32Array;
}

export interface Concept {
  /** What stands for the subject in prompts. */
  readonly token: string;
  /** v*, (D). */
  readonly embedding: Float32Array;
  /** In the order of attentionMatrices. */
  readonly factors: readonly ConceptFactors[];
  readonly rank: number;
  /** The changes' scale is loraAlpha / rank. */
  readonly loraAlpha: number;
  /** v_h: the real word nearest to v*. */
  readonly hardToken: string;
  readonly hardTokenId: number;
  /** Share of the personalised branch. */
  readonly alphaBlend: number;
  /** Fingerprint and name of the base model. */
  readonly base: string;
  readonly baseName: string;
  /** How it was made, as JSON: steps, learning rate, seed, encoder… */
  readonly settings: Readonly<Record<string, unknown>>;
}

const bundle = (token: string): string => `bundle_emb.${token}.string_to_param.*`;
const kohya = (path: string): string => `lora_unet_${path.replaceAll(".", "_")}`;

/** Writes a concept: kohya's LoRA keys, the embedding beside them, what only we need in the metadata. */
export function writeConcept(path: string, concept: Concept, model: StableDiffusionModel): void {
  const matrices = attentionMatrices(model.unet.config);
  const r = concept.rank;
  const tensors: Record<string, TensorToWrite> = {
    [bundle(concept.token)]: { dtype: "F32", shape: [1, concept.embedding.length], data: concept.embedding },
  };
  matrices.forEach(({ path: module, dIn, dOut }, i) => {
    const { a, b } = concept.factors[i]!;
    tensors[`${kohya(module)}.lora_down.weight`] = { dtype: "F32", shape: [r, dIn], data: transposed(a, dIn, r) };
    tensors[`${kohya(module)}.lora_up.weight`] = { dtype: "F32", shape: [dOut, r], data: transposed(b, r, dOut) };
    tensors[`${kohya(module)}.alpha`] = { dtype: "F32", shape: [], data: Float32Array.of(concept.loraAlpha) };
  });
  writeSafetensors(path, tensors, {
    format: "pt",
    ss_network_module: "networks.lora",
    ss_network_dim: String(r),
    ss_network_alpha: String(concept.loraAlpha),
    "modelspec.trigger_phrase": concept.token,
    "date.token": concept.token,
    "date.alpha_blend": String(concept.alphaBlend),
    "date.hard_token": concept.hardToken,
    "date.hard_token_id": String(concept.hardTokenId),
    "date.base": concept.base,
    "date.base_name": concept.baseName,
    "date.settings": JSON.stringify(concept.settings),
  });
}

/** Reads a concept for a base model. @throws LikenessError if it is none, incomplete, or made for another base */
export function readConcept(path: string, model: StableDiffusionModel): Concept {
  const header = readSafetensorsHeader(path);
  const meta = (key: string): string => {
    const value = header.metadata[`date.${key}`];
    if (value === undefined)
      throw new LikenessError("E_CONCEPT", {
        what: "concept",
        where: path,
        needed: `metadata "date.${key}"`,
        found: "none",
        next: "Give a file that `likeness personalize` made.",
      });
    return value;
  };
  const [base, baseName] = [meta("base"), meta("base_name")];
  if (base !== model.fingerprint)
    throw new LikenessError("E_CONCEPT_BASE", {
      what: "concept",
      where: path,
      needed: `one made for ${model.name} (${model.fingerprint})`,
      found: `one made for ${baseName} (${base})`,
      next: "Use it with its own --model, or personalize again.",
    });
  const token = meta("token");
  const tensor = (key: string, shape: readonly number[]): Float32Array => {
    const found = header.tensors.get(key);
    if (!found || found.shape.join() !== shape.join())
      throw new LikenessError("E_CONCEPT", {
        what: `"${key}"`,
        where: path,
        needed: `shape (${shape.join(", ")})`,
        found: found ? `(${found.shape.join(", ")})` : "none",
        next: "The file is damaged: personalize again.",
      });
    return readFloats(header, key);
  };
  const matrices = attentionMatrices(model.unet.config);
  const first = header.tensors.get(`${kohya(matrices[0]!.path)}.lora_down.weight`);
  const rank = first?.shape[0] ?? 0;
  const loraAlpha = tensor(`${kohya(matrices[0]!.path)}.alpha`, [])[0]!;
  const factors = matrices.map(({ path: module, dIn, dOut }) => ({
    a: transposed(tensor(`${kohya(module)}.lora_down.weight`, [rank, dIn]), rank, dIn),
    b: transposed(tensor(`${kohya(module)}.lora_up.weight`, [dOut, rank]), dOut, rank),
  }));
  return {
    token,
    embedding: tensor(bundle(token), [1, model.textEncoder.config.hidden_size]),
    factors,
    rank,
    loraAlpha,
    hardToken: meta("hard_token"),
    hardTokenId: Number(meta("hard_token_id")),
    alphaBlend: Number(meta("alpha_blend")),
    base,
    baseName,
    settings: JSON.parse(meta("settings")) as Record<string, unknown>,
  };
}

/** (rows, columns) → (columns, rows). */
function transposed(x: Float32Array, rows: number, columns: number): Float32Array {
  const out = new Float32Array(x.length);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) out[j * rows + i] = x[i * columns + j]!;
  return out;
}

/** Low-rank factors → the tensors of a LoRA file, in the layout of each kind of runtime (method.md 4.1 to 4.4). */
import { LikenessError, type TensorToWrite } from "@likeness/engine";
import { cloneofsimoOrder, EMBED_FLAG } from "./cloneofsimo-layout.ts";
import { kohyaName } from "./kohya-layout.ts";
import type { LoraModule } from "./lora-modules.ts";

/** The change scale·up·down of one linear layer of the UNet. */
export interface LoraFactors {
  /** Module path, e.g. mid_block.attentions.0.transformer_blocks.0.attn1.to_q. */
  readonly path: string;
  /** (r, in) row by row. */
  readonly down: Float32Array;
  /** (out, r) row by row. */
  readonly up: Float32Array;
}

export interface LoraTensors {
  readonly tensors: Record<string, TensorToWrite>;
  readonly metadata: Record<string, string>;
}

/** kohya's keys; the scale stands as alpha = scale·r in a tensor of its own. Readers take an alpha of 0 for none: then up is 0. */
export function kohyaTensors(factors: readonly LoraFactors[], rank: number, wanted: number): LoraTensors {
  const tensors: Record<string, TensorToWrite> = {};
  const alpha = wanted === 0 ? rank : wanted;
  for (const { path, down, up } of factors) {
    const key = kohyaName("unet", path);
    tensors[`${key}.lora_down.weight`] = matrix(down, rank, down.length / rank);
    tensors[`${key}.lora_up.weight`] = matrix(scaled(up, wanted / alpha), up.length / rank, rank);
    tensors[`${key}.alpha`] = { dtype: "F32", shape: [], data: Float32Array.of(alpha) };
  }
  const metadata = {
    ss_network_module: "networks.lora",
    ss_network_dim: String(rank),
    ss_network_alpha: String(alpha),
  };
  return { tensors, metadata: { format: "pt", ...metadata } };
}

/** The keys of diffusers' training scripts, which its loader and PEFT's know; the scale is folded into up. */
export function diffusersTensors(factors: readonly LoraFactors[], rank: number, alpha: number): LoraTensors {
  const tensors: Record<string, TensorToWrite> = {};
  for (const { path, down, up } of factors) {
    tensors[`unet.${path}.lora.down.weight`] = matrix(down, rank, down.length / rank);
    tensors[`unet.${path}.lora.up.weight`] = matrix(scaled(up, alpha / rank), up.length / rank, rank);
  }
  return { tensors, metadata: { format: "pt" } };
}

/**
 * cloneofsimo's numbered keys, the tokens among them. Its reader wants all numbered layers: those without a change get
 * zeros.
 * @param modules of the base, from loraModules
 * @throws LikenessError if a layer has no number
 */
export function cloneofsimoTensors(
  factors: readonly LoraFactors[],
  rank: number,
  alpha: number,
  modules: readonly LoraModule[],
  tokens: Readonly<Record<string, Float32Array>>,
): LoraTensors {
  const tensors: Record<string, TensorToWrite> = {};
  const metadata: Record<string, string> = { unet: JSON.stringify(["CrossAttention", "Attention", "GEGLU"]) };
  const left = new Map(factors.map((f) => [f.path, f]));
  for (const [i, { path, shape }] of cloneofsimoOrder(modules).unet.entries()) {
    const [out, n] = shape as [number, number];
    const own = left.get(path);
    left.delete(path);
    tensors[`unet:${i}:up`] = matrix(own ? scaled(own.up, alpha / rank) : new Float32Array(out * rank), out, rank);
    tensors[`unet:${i}:down`] = matrix(own ? own.down : new Float32Array(rank * n), rank, n);
    metadata[`unet:${i}:rank`] = String(rank);
  }
  const [strange] = left.keys();
  if (strange !== undefined)
    throw new LikenessError("E_LORA", {
      what: strange,
      needed: "a layer that cloneofsimo's format has",
      found: "none",
    });
  for (const [token, data] of Object.entries(tokens)) {
    tensors[token] = { dtype: "F32", shape: [data.length], data };
    metadata[token] = EMBED_FLAG;
  }
  return { tensors, metadata };
}

const matrix = (data: Float32Array, rows: number, columns: number): TensorToWrite => ({
  ...{ dtype: "F32", data, shape: [rows, columns] },
});

const scaled = (x: Float32Array, by: number): Float32Array => x.map((v) => v * by);

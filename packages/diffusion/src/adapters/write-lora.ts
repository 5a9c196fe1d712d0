/** Low-rank factors → the tensors of a LoRA file, in the layout of each kind of runtime (method.md 4.1 to 4.4). */
import { LikenessError, size, type TensorToWrite } from "@likeness/engine";
import { cloneofsimoOrder, EMBED_FLAG } from "./cloneofsimo-layout.ts";
import { kohyaName } from "./kohya-layout.ts";
import type { LoraModule } from "./lora-modules.ts";

/** The change (alpha / r)·up·down of one layer of the UNet. */
export interface LoraFactors {
  /** Module path, e.g. mid_block.attentions.0.transformer_blocks.0.attn1.to_q. */
  readonly path: string;
  /** (r, in) row by row; of a convolution (r, in, kh, kw). */
  readonly down: Float32Array;
  /** (out, r) row by row; of a convolution (out, r, 1, 1). */
  readonly up: Float32Array;
  readonly rank: number;
  readonly alpha: number;
  /** Of a convolution, (kh, kw). */
  readonly kernel?: readonly number[] | undefined;
}

export interface LoraTensors {
  readonly tensors: Record<string, TensorToWrite>;
  readonly metadata: Record<string, string>;
}

/**
 * kohya's keys, with alpha in a tensor of its own. Readers take an alpha of 0 for none: then up is 0. The metadata tells rank and
 * alpha of the linear layers and, as LyCORIS's LoCon does, those of the convolutions; each kind has one.
 */
export function kohyaTensors(factors: readonly LoraFactors[]): LoraTensors {
  const tensors: Record<string, TensorToWrite> = {};
  for (const each of factors) {
    const key = kohyaName("unet", each.path);
    tensors[`${key}.lora_down.weight`] = downTensor(each);
    tensors[`${key}.lora_up.weight`] = upTensor(each, each.alpha === 0 ? 0 : 1);
    tensors[`${key}.alpha`] = { dtype: "F32", shape: [], data: Float32Array.of(alphaToWrite(each)) };
  }
  const kind = (convolutions: boolean) => factors.find(({ kernel }) => (kernel !== undefined) === convolutions);
  const [linear, convolution] = [kind(false), kind(true)];
  const metadata = {
    ss_network_module: "networks.lora",
    ...(linear && { ss_network_dim: String(linear.rank), ss_network_alpha: String(alphaToWrite(linear)) }),
    ...(convolution && {
      ss_network_args: JSON.stringify({
        conv_dim: String(convolution.rank),
        conv_alpha: String(alphaToWrite(convolution)),
      }),
    }),
  };
  return { tensors, metadata: { format: "pt", ...metadata } };
}

const alphaToWrite = ({ alpha, rank }: LoraFactors): number => (alpha === 0 ? rank : alpha);

/** The keys of diffusers' training scripts, which its loader and PEFT's know; the scale is folded into up. */
export function diffusersTensors(factors: readonly LoraFactors[]): LoraTensors {
  const tensors: Record<string, TensorToWrite> = {};
  for (const each of factors) {
    tensors[`unet.${each.path}.lora.down.weight`] = downTensor(each);
    tensors[`unet.${each.path}.lora.up.weight`] = upTensor(each, each.alpha / each.rank);
  }
  return { tensors, metadata: { format: "pt" } };
}

/**
 * cloneofsimo's numbered keys, the tokens among them. Its reader wants all numbered layers: those without a change get
 * zeros.
 * @param rank of the layers
 * @param modules of the base, from loraModules
 * @throws LikenessError if a layer has no number, as convolutions haven't
 */
export function cloneofsimoTensors(
  factors: readonly LoraFactors[],
  rank: number,
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
    tensors[`unet:${i}:up`] = matrix(own ? scaled(own.up, own.alpha / rank) : new Float32Array(out * rank), out, rank);
    tensors[`unet:${i}:down`] = matrix(own ? own.down : new Float32Array(rank * n), rank, n);
    metadata[`unet:${i}:rank`] = String(rank);
  }
  const [strange] = left.keys();
  if (strange !== undefined)
    throw new LikenessError("E_LORA", {
      what: strange,
      needed: "a layer that cloneofsimo's format has: those of the transformer blocks",
      found: "none",
      next: "Take another format; for a concept of ours also: personalize with --conv-rank 0.",
    });
  for (const [token, data] of Object.entries(tokens)) {
    tensors[token] = { dtype: "F32", shape: [data.length], data };
    metadata[token] = EMBED_FLAG;
  }
  return { tensors, metadata };
}

const downTensor = ({ down, rank, kernel = [] }: LoraFactors): TensorToWrite =>
  matrix(down, rank, down.length / rank / size(kernel), kernel);

const upTensor = ({ up, rank, kernel = [] }: LoraFactors, by: number): TensorToWrite =>
  matrix(
    scaled(up, by),
    up.length / rank,
    rank,
    kernel.map(() => 1),
  );

/** With a kernel behind rows and columns, if it is a convolution's. */
const matrix = (data: Float32Array, rows: number, columns: number, kernel: readonly number[] = []): TensorToWrite => ({
  ...{ dtype: "F32", data, shape: [rows, columns, ...kernel] },
});

const scaled = (x: Float32Array, by: number): Float32Array => x.map((v) => v * by);

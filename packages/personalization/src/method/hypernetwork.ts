/** The hypernetwork: F → low-rank factors of every attention projection (paper, section 4.1). */

import { type AttentionMatrix, layerNormLayer, linearLayer, mergeHeads, splitHeads, zeros } from "@likeness/diffusion";
import {
  add,
  attention,
  constant,
  expand,
  gather,
  gelu,
  type Init,
  reshape,
  split,
  type Tensor,
  transpose,
  type Weights,
} from "@likeness/engine";
import type { EncoderConfig } from "./config.ts";
import type { Factors } from "./losses.ts";

/**
 * For each matrix W a pair A (B, in, r), B (B, r, out), so that W′ = W + s·A·B with s = alpha / r. One learnt query per
 * matrix reads the map through a small transformer decoder; output heads are shared by size. The heads of B start at
 * zero: the first step runs the vanilla model.
 * @eq date:2
 * @param f (B, width, grid, grid)
 */
export function hypernetwork(
  w: Weights,
  config: EncoderConfig,
  f: Tensor,
  matrices: readonly AttentionMatrix[],
): Factors[] {
  const { width, rank: r } = config;
  const b = f.shape[0]!;
  const memory = linearLayer(w.at("memory"), withPlaces(f), width);
  const learnt = w.get("queries", [matrices.length, width], { kind: "normal", std: 1 });
  let q = expand(learnt, [b, matrices.length, width]);
  for (let i = 0; i < config.decoder_layers; i++) q = decoderLayer(w.at("layers").at(String(i)), q, memory, config);
  const out = layerNormLayer(w.at("norm"), q);
  const heads = { a: byExtent(matrices, (m) => m.dIn), b: byExtent(matrices, (m) => m.dOut) };
  const made = { a: new Map<number, Tensor>(), b: new Map<number, Tensor>() };
  for (const side of ["a", "b"] as const)
    for (const [extent, rows] of heads[side]) {
      const picked = pick(out, rows);
      // entries of A with deviation 1/√in: a normalised input then gives x·A of variance 1
      const init: Init = side === "a" ? { kind: "normal", std: 1 / Math.sqrt(width * extent) } : zeros;
      const values = linearLayer(w.at(`heads.${side}.${extent}`), picked, r * extent, { init });
      split(
        values,
        rows.map(() => 1),
        1,
      ).forEach((part, k) => {
        made[side].set(rows[k]!, reshape(part, side === "a" ? [b, extent, r] : [b, r, extent]));
      });
    }
  return matrices.map((_, i) => ({ a: made.a.get(i)!, b: made.b.get(i)! }));
}

/** Matrices by one of their extents: extent → positions. */
function byExtent(matrices: readonly AttentionMatrix[], of: (m: AttentionMatrix) => number): Map<number, number[]> {
  const found = new Map<number, number[]>();
  for (const [i, m] of matrices.entries()) found.set(of(m), [...(found.get(of(m)) ?? []), i]);
  return found;
}

/** Rows of axis 1: (B, n, D) → (B, rows, D). */
function pick(x: Tensor, rows: readonly number[]): Tensor {
  const table = transpose(x, [1, 0, 2]);
  return transpose(gather(table, constant(Int32Array.from(rows))), [1, 0, 2]);
}

function decoderLayer(w: Weights, q: Tensor, memory: Tensor, config: EncoderConfig): Tensor {
  const n1 = layerNormLayer(w.at("norm1"), q);
  let x = add(q, multiHead(w.at("self_attn"), n1, n1, config.decoder_heads));
  x = add(x, multiHead(w.at("cross_attn"), layerNormLayer(w.at("norm2"), x), memory, config.decoder_heads));
  const inner = gelu(linearLayer(w.at("fc1"), layerNormLayer(w.at("norm3"), x), config.decoder_inner));
  return add(x, linearLayer(w.at("fc2"), inner, x.shape.at(-1)!));
}

function multiHead(w: Weights, x: Tensor, from: Tensor, heads: number): Tensor {
  const d = x.shape.at(-1)!;
  const project = (name: string, t: Tensor): Tensor => splitHeads(linearLayer(w.at(name), t, d), heads);
  return linearLayer(
    w.at("out_proj"),
    mergeHeads(attention(project("q_proj", x), project("k_proj", from), project("v_proj", from))),
    d,
  );
}

/** The map as tokens (B, grid², width), with a sinusoidal code of the place added. */
function withPlaces(f: Tensor): Tensor {
  const [b, width, h, w] = f.shape as [number, number, number, number];
  const tokens = transpose(reshape(f, [b, width, h * w]), [0, 2, 1]);
  const half = width / 2;
  const code = new Float32Array(h * w * width);
  for (let y = 0; y < h; y++)
    for (let x = 0; x < w; x++)
      for (let i = 0; i < width; i++) {
        const j = i % half;
        const at = i < half ? y : x;
        const angle = at * 10 ** ((-2 * (j >> 1)) / half);
        code[(y * w + x) * width + i] = j % 2 ? Math.cos(angle) : Math.sin(angle);
      }
  return add(tokens, constant(code, [h * w, width]));
}

/** diffusers' attention.py: multi-head attention, the GEGLU feed-forward, BasicTransformerBlock. */
import { add, attention, gelu, mul, reshape, split, type Tensor, transpose, type Weights } from "@likeness/engine";
import { layerNormLayer, linearLayer } from "./layers.ts";

/** (B, N, heads·D) → (B, heads, N, D) */
export function splitHeads(x: Tensor, heads: number): Tensor {
  const [b, n, c] = x.shape as [number, number, number];
  return transpose(reshape(x, [b, n, heads, c / heads]), [0, 2, 1, 3]);
}

/** (B, heads, N, D) → (B, N, heads·D) */
export function mergeHeads(x: Tensor): Tensor {
  const [b, heads, n, d] = x.shape as [number, number, number, number];
  return reshape(transpose(x, [0, 2, 1, 3]), [b, n, heads * d]);
}

/** Attention up to its output projection; x (B, N, C), context (B, M, D) → (B, N, C). */
export function attentionCore(w: Weights, x: Tensor, context: Tensor, heads: number, bias = false): Tensor {
  const c = x.shape.at(-1)!;
  const project = (name: string, from: Tensor): Tensor => splitHeads(linearLayer(w.at(name), from, c, { bias }), heads);
  return mergeHeads(attention(project("to_q", x), project("to_k", context), project("to_v", context)));
}

/** diffusers' Attention with to_out.0. */
export const attentionLayer = (w: Weights, x: Tensor, context: Tensor, heads: number): Tensor =>
  linearLayer(w.at("to_out").at("0"), attentionCore(w, x, context, heads), x.shape.at(-1)!);

/** FeedForward with GEGLU: net.0.proj to twice the inner width, first half times gelu(second half), net.2. */
export const feedForward = (w: Weights, x: Tensor): Tensor => feedForwardOut(w, gated(w, x), x.shape.at(-1)!);

/** The feed-forward up to its last layer: x (B, N, C) → (B, N, 4·C). */
export function gated(w: Weights, x: Tensor): Tensor {
  const c = x.shape.at(-1)!;
  const h = linearLayer(w.at("net").at("0").at("proj"), x, 8 * c);
  const [hidden, gate] = split(h, [4 * c, 4 * c], -1) as [Tensor, Tensor];
  return mul(hidden, gelu(gate));
}

/** The feed-forward's last layer, which is affine: (B, N, 4·C) → (B, N, C). */
export const feedForwardOut = (w: Weights, x: Tensor, c: number): Tensor => linearLayer(w.at("net").at("2"), x, c);

/** BasicTransformerBlock: self-attention, cross-attention, feed-forward, each on a LayerNorm and with a residual. */
export function basicTransformerBlock(w: Weights, tokens: Tensor, context: Tensor, heads: number): Tensor {
  const n1 = layerNormLayer(w.at("norm1"), tokens);
  let x = add(tokens, attentionLayer(w.at("attn1"), n1, n1, heads));
  x = add(x, attentionLayer(w.at("attn2"), layerNormLayer(w.at("norm2"), x), context, heads));
  return add(x, feedForward(w.at("ff"), layerNormLayer(w.at("norm3"), x)));
}

/** diffusers' Transformer2DModel on maps. */
import { add, reshape, type Tensor, transpose, type Weights } from "@likeness/engine";
import { basicTransformerBlock } from "./attention.ts";
import { conv2dLayer, groupNormLayer, linearLayer, zeros } from "./layers.ts";

export interface Transformer2DConfig {
  readonly heads: number;
  readonly layers: number;
  readonly groups: number;
  readonly useLinearProjection: boolean;
}

/** How a UNet runs its attention blocks; the default is transformer2DModel. */
export type Transformer2D = (w: Weights, x: Tensor, context: Tensor, config: Transformer2DConfig) => Tensor;

/** norm and proj_in: x (B, C, H, W) → tokens (B, H·W, C). */
export function tokensOf(w: Weights, x: Tensor, { groups, useLinearProjection }: Transformer2DConfig): Tensor {
  const c = x.shape[1]!;
  const normed = groupNormLayer(w.at("norm"), x, { groups, eps: 1e-6 });
  if (useLinearProjection) return linearLayer(w.at("proj_in"), toTokens(normed), c);
  return toTokens(conv2dLayer(w.at("proj_in"), normed, c, { kernel: 1 }));
}

/** proj_out and the residual: tokens (B, H·W, C) back onto the map x (B, C, H, W). */
export function mapOf(w: Weights, tokens: Tensor, x: Tensor, { useLinearProjection }: Transformer2DConfig): Tensor {
  const c = x.shape[1]!;
  const out = useLinearProjection
    ? toMap(linearLayer(w.at("proj_out"), tokens, c, { init: zeros }), x)
    : conv2dLayer(w.at("proj_out"), toMap(tokens, x), c, { kernel: 1, init: zeros });
  return add(out, x);
}

export function transformer2DModel(w: Weights, x: Tensor, context: Tensor, config: Transformer2DConfig): Tensor {
  let tokens = tokensOf(w, x, config);
  for (let i = 0; i < config.layers; i++)
    tokens = basicTransformerBlock(w.at("transformer_blocks").at(String(i)), tokens, context, config.heads);
  return mapOf(w, tokens, x, config);
}

const toTokens = (x: Tensor): Tensor => {
  const [b, c, h, w] = x.shape as [number, number, number, number];
  return transpose(reshape(x, [b, c, h * w]), [0, 2, 1]);
};

const toMap = (tokens: Tensor, like: Tensor): Tensor => reshape(transpose(tokens, [0, 2, 1]), like.shape);

/** transformers' CLIPVisionModelWithProjection. */
import { add, concat, conv2d, expand, reshape, slice, type Tensor, transpose, type Weights } from "@likeness/engine";
import type { CLIPVisionConfig } from "../config/clip.ts";
import { clipEncoder } from "./clip-encoder.ts";
import { layerNormLayer, linearLayer } from "./layers.ts";

export interface CLIPVisionOutputs {
  /** (B, 1 + N, D): class token, then patches row by row; not normalised. */
  readonly lastHiddenState: Tensor;
  /** What goes into the first layer, and what each leaves, (B, 1 + N, D); the last is lastHiddenState. */
  readonly hiddenStates: readonly Tensor[];
  /** Patch tokens after post_layernorm, (B, N, D): the tuning-encoder's feature map. */
  readonly patches: Tensor;
  /** Class token after post_layernorm, (B, D). */
  readonly pooled: Tensor;
}

/** pixelValues (B, 3, S, S), normalised by the processor's mean and deviation. */
export function clipVisionModel(w: Weights, config: CLIPVisionConfig, pixelValues: Tensor): CLIPVisionOutputs {
  const v = w.at("vision_model");
  const { hidden_size: d, patch_size: p, num_channels: c, layer_norm_eps: eps } = config;
  const b = pixelValues.shape[0]!;
  const n = (config.image_size / p) ** 2;
  const kernel = v.get("embeddings.patch_embedding.weight", [d, c, p, p], { kind: "normal", std: (c * p * p) ** -0.5 });
  const patches = transpose(reshape(conv2d(pixelValues, kernel, undefined, { stride: p }), [b, d, n]), [0, 2, 1]);
  const cls = expand(v.get("embeddings.class_embedding", [d], { kind: "normal", std: d ** -0.5 }), [b, 1, d]);
  const positions = v.get("embeddings.position_embedding.weight", [n + 1, d], { kind: "normal", std: 0.02 });
  const x = layerNormLayer(v.at("pre_layrnorm"), add(concat([cls, patches], 1), positions), { eps }); // (sic)
  const hiddenStates = clipEncoder(v.at("encoder"), x, config);
  const lastHiddenState = hiddenStates.at(-1)!;
  const normed = layerNormLayer(v.at("post_layernorm"), lastHiddenState, { eps });
  return {
    ...{ lastHiddenState, hiddenStates },
    patches: slice(normed, [1], [n + 1], [1]),
    pooled: reshape(slice(normed, [0], [1], [1]), [b, d]),
  };
}

/** image_embeds (B, projection_dim) of CLIPVisionModelWithProjection and CLIPModel. */
export const imageEmbeds = (w: Weights, config: CLIPVisionConfig, pooled: Tensor): Tensor =>
  linearLayer(w.at("visual_projection"), pooled, config.projection_dim, {
    bias: false,
    init: { kind: "normal", std: config.hidden_size ** -0.5 },
  });

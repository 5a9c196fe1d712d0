/** transformers' CLIPModel: both towers, their projections, and the contrastive loss that trains them. */
import {
  add,
  constant,
  div,
  exp,
  logSumExp,
  matmul,
  mean,
  mul,
  sqrt,
  square,
  sub,
  sum,
  type Tensor,
  type Weights,
} from "@likeness/engine";
import type { CLIPConfig, CLIPTextConfig } from "../config/clip.ts";
import { clipTextModel, embedTokens, pooledText } from "./clip-text.ts";
import { linearLayer } from "./layers.ts";

/** text_embeds (B, projection_dim) of the pooled text (B, D). */
export const textEmbeds = (w: Weights, config: CLIPTextConfig, projection: number, pooled: Tensor): Tensor =>
  linearLayer(w.at("text_projection"), pooled, projection, {
    bias: false,
    init: { kind: "normal", std: config.hidden_size ** -0.5 },
  });

/** CLIPModel.get_text_features: ids (B, L) int32 with the positions (B) of their ends → (B, projection_dim). */
export function textFeatures(
  w: Weights,
  { text_config, projection_dim }: Pick<CLIPConfig, "text_config" | "projection_dim">,
  ids: Tensor,
  eos: Tensor,
): Tensor {
  const inputsEmbeds = embedTokens(w, text_config, ids);
  const states = clipTextModel(w, text_config, { inputsEmbeds }).lastHiddenState;
  return textEmbeds(w, text_config, projection_dim, pooledText(states, eos));
}

/** exp(logit_scale), the inverse temperature. */
export const logitScale = (w: Weights, config: Pick<CLIPConfig, "logit_scale_init_value">): Tensor =>
  exp(w.get("logit_scale", [], { kind: "normal", std: 0, mean: config.logit_scale_init_value }));

/** Rows scaled to length one. */
export const normalizeRows = (x: Tensor): Tensor => div(x, sqrt(sum(square(x), [-1], true)));

/** scale · cosine of each text with each picture: (texts, images). */
export const logitsPerText = (text: Tensor, image: Tensor, scale: Tensor): Tensor =>
  mul(matmul(normalizeRows(text), normalizeRows(image), { transB: true }), scale);

/**
 * Symmetric cross-entropy of a batch of pairs, row i belonging to column i.
 * @eq clip:fig3 Radford et al. 2021, arXiv:2103.00020, figure 3
 * @param logits (B, B)
 */
export function contrastiveLoss(logits: Tensor): Tensor {
  const b = logits.shape[0]!;
  const diagonal = constant(
    Float32Array.from({ length: b * b }, (_, i) => (i % (b + 1) === 0 ? 1 : 0)),
    [b, b],
  );
  const own = mean(sum(mul(logits, diagonal), [1]));
  const byText = mean(logSumExp(logits, [1]));
  const byImage = mean(logSumExp(logits, [0]));
  return sub(mul(add(byText, byImage), 0.5), own);
}

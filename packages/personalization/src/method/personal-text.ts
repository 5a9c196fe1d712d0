/** The prompt's two readings: with the learnt embedding v* at the placeholder, and with the hard word v_h. */

import { type CLIPTextConfig, clipTextModel, tokenTable } from "@likeness/diffusion";
import { add, gather, mul, reshape, sub, type Tensor, type Weights } from "@likeness/engine";

export interface PlaceholderPrompt {
  /** (B, L) int32; what stands at the placeholder does not matter. */
  readonly ids: Tensor;
  /** (B, L) float32: 1 at the placeholder, 0 elsewhere. */
  readonly mask: Tensor;
}

/** Text states (B, L, D) with `v` (D), (1, D) or (B, D) at the placeholder. */
export function personalText(w: Weights, config: CLIPTextConfig, { ids, mask }: PlaceholderPrompt, v: Tensor): Tensor {
  const d = config.hidden_size;
  const m = reshape(mask, [...mask.shape, 1]);
  const words = gather(tokenTable(w, config), ids);
  const inputsEmbeds = add(mul(words, sub(1, m)), mul(m, reshape(v, [-1, 1, d])));
  return clipTextModel(w, config, { inputsEmbeds }).lastHiddenState;
}

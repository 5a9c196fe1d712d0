/** transformers' CLIPTextModel. */
import { add, constant, gather, LikenessError, reshape, type Tensor, type Weights } from "@likeness/engine";
import type { CLIPTextConfig } from "../config/clip.ts";
import { clipEncoder } from "./clip-encoder.ts";
import { layerNormLayer } from "./layers.ts";

export interface CLIPTextInputs {
  /** Token embeddings (B, L, D), without positions; see embedTokens. */
  readonly inputsEmbeds: Tensor;
}

export interface CLIPTextOutputs {
  /** (B, L, D), after the final norm. */
  readonly lastHiddenState: Tensor;
  /** Before the first layer, after each; none normalised. */
  readonly hiddenStates: readonly Tensor[];
}

/** The token table (vocab_size, D), Eq. 3's table of real words. */
export const tokenTable = (w: Weights, config: CLIPTextConfig): Tensor =>
  w.get("text_model.embeddings.token_embedding.weight", [config.vocab_size, config.hidden_size], {
    kind: "normal",
    std: 0.02,
  });

/** ids (B, L) int32 → rows of the token table (B, L, D). */
export const embedTokens = (w: Weights, config: CLIPTextConfig, ids: Tensor): Tensor =>
  gather(tokenTable(w, config), ids);

/** Causal text transformer. L may be less than max_position_embeddings. */
export function clipTextModel(w: Weights, config: CLIPTextConfig, { inputsEmbeds }: CLIPTextInputs): CLIPTextOutputs {
  const t = w.at("text_model");
  const n = inputsEmbeds.shape[1]!;
  const table = t.get("embeddings.position_embedding.weight", [config.max_position_embeddings, config.hidden_size], {
    kind: "normal",
    std: 0.01,
  });
  const positions = gather(table, constant(Int32Array.from({ length: n }, (_, i) => i)));
  const hiddenStates = clipEncoder(t.at("encoder"), add(inputsEmbeds, positions), config, causalMask(n));
  const lastHiddenState = layerNormLayer(t.at("final_layer_norm"), hiddenStates.at(-1)!, {
    eps: config.layer_norm_eps,
  });
  return { lastHiddenState, hiddenStates };
}

/**
 * The states (B, L, D) before the last `clipSkip` layers, through the final norm: diffusers' clip_skip, 0 being the last
 * layer. (Other programs count from 1: their "Clip skip: 2" is 1 here.)
 * @throws LikenessError if the encoder hasn't that many layers
 */
export function skippedState(w: Weights, config: CLIPTextConfig, outputs: CLIPTextOutputs, clipSkip: number): Tensor {
  const state = outputs.hiddenStates.at(-1 - clipSkip);
  if (!Number.isInteger(clipSkip) || clipSkip < 0 || !state)
    throw new LikenessError("E_USAGE", {
      what: "clip skip",
      needed: `a whole number from 0 to ${config.num_hidden_layers}, the layers of the text encoder`,
      found: String(clipSkip),
    });
  return layerNormLayer(w.at("text_model").at("final_layer_norm"), state, { eps: config.layer_norm_eps });
}

/** The state at each sequence's end-of-text token: lastHiddenState (B, L, D), eos (B) int32 positions → (B, D). */
export function pooledText(lastHiddenState: Tensor, eos: Tensor): Tensor {
  const [b, l, d] = lastHiddenState.shape as [number, number, number];
  const rows = add(eos, constant(Int32Array.from({ length: b }, (_, i) => i * l)));
  return gather(reshape(lastHiddenState, [b * l, d]), rows);
}

function causalMask(n: number): Tensor {
  const mask = new Float32Array(n * n);
  for (let i = 0; i < n; i++) mask.fill(-1e9, i * n + i + 1, (i + 1) * n);
  return constant(mask, [n, n]);
}

/** The methods as settings of one tuning: where it starts, what learns, how it is held. */
import { PAPER } from "../personalize.ts";
import type { TuningOptions } from "../tuning.ts";
import type { MethodSpec } from "./spec.ts";

export interface Recipe extends Pick<TuningOptions, "train" | "weightDecay" | "embeddingAnchor" | "offsetAnchor"> {
  /** The encoder's prediction; or the class word's embedding and offsets of zero. */
  readonly start: "encoder" | "word";
  readonly steps: number;
  readonly learningRate: number;
  readonly optimizer?: "adamw" | "muon";
  readonly embeddingLearningRate?: number;
  /** Share of the personalised branch, in tuning and sampling; the encoder's if not given. 1 is no dual path. */
  readonly alphaBlend?: number;
  readonly rank?: number;
  /** Of convolutions' offsets; with a mask what the encoder tells, else none, if not given. */
  readonly convRank?: number;
  /** With a mask; as many as there are if not given. */
  readonly cutOuts?: number;
}

const paper = { steps: 12, learningRate: PAPER.learningRate } as const;
/** One path, nothing that holds the subject near its start. */
const plain = { start: "word", alphaBlend: 1, embeddingAnchor: 0, offsetAnchor: 0 } as const;

export const RECIPES: Readonly<Record<MethodSpec["method"], Recipe>> = {
  /** The base model told what kind of thing it is. */
  "class-word": { start: "word", steps: 0, learningRate: 0, alphaBlend: 0 },
  /** The paper's "no fine-tuning". */
  encoder: { start: "encoder", ...paper, steps: 0 },
  /** The method. Arar et al. 2023, arXiv:2307.06925, section 4.3. */
  date: { start: "encoder", ...paper },
  "no-encoder": { start: "word", ...paper },
  "no-dual-path": { start: "encoder", ...paper, alphaBlend: 1 },
  /**
   * LoRA-PTI (cloneofsimo/lora, cli_lora_pti.py): rank 4, 1e-4, decay 1e-3. Word and offsets learn at once, not one phase
   * after the other, and on the q, k, v of the UNet alone, as here all methods do.
   */
  lora: { ...plain, steps: 400, learningRate: 1e-4, rank: 4, weightDecay: 1e-3 },
  /** Gal et al. 2022, as diffusers' textual_inversion.py with the README's settings: 5e-4 times a batch of 4. */
  "textual-inversion": { ...plain, steps: 3000, learningRate: 2e-3, train: "embedding", weightDecay: 1e-2 },
};

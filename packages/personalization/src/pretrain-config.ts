/** The config of `likeness pretrain`. */
import { z } from "zod";
import { EncoderConfig } from "./method/config.ts";

export const PretrainConfig = z.strictObject({
  /** The base model. */
  model: z.string(),
  /** Folder of the encoder; by default the model's tuning_encoder/. */
  out: z.string().optional(),
  /** Pictures as in training; with `references` the encoder sees those, with `templates` they are the prompts. */
  data: z.string(),
  run: z.string(),
  encoder: EncoderConfig,
  seed: z.int().nonnegative().default(0),
  /** Begin with the weights of the encoder in `out` (of this base model in an earlier state) instead of fresh ones. */
  from_weights: z.boolean().default(false),
  steps: z.int().positive(),
  batch_size: z.int().min(2).default(16),
  /** As in `likeness train`. */
  optimizer: z.enum(["adamw", "muon"]).default("adamw"),
  /** Of token embedder and trunk; the hypernetwork's is separate (the paper: 1e-4 and 1e-5). */
  learning_rate: z.number().positive().default(1e-4),
  hypernetwork_learning_rate: z.number().positive().default(1e-5),
  warmup_steps: z.int().positive().default(100),
  decay_steps: z.int().positive().default(1),
  max_grad_norm: z.number().positive().default(1),
  ema_decay: z.number().min(0).max(1).default(0.999),
  checkpointing_steps: z.int().positive().default(500),
  logging_steps: z.int().positive().default(10),
  /** As in `likeness train`: more timesteps from the middle below 1; weight of what tensor `masks` of the data covers. */
  timestep_spread: z.number().positive().max(1).default(1),
  subject_weight: z.number().min(1).default(1),
  /** Loss weights: Eq. 3, Eq. 4, offsets (method.md 1.7). */
  contrastive_weight: z.number().nonnegative().default(0.01),
  embedding_weight: z.number().nonnegative().default(0.01),
  offset_weight: z.number().nonnegative().default(1e-4),
  /** The codebook setting of the paper's figure 4; 0 in all others. */
  codebook_weight: z.number().nonnegative().default(0),
  /** Pulls v to the word that metadata `words` of the data name; not of the paper, where nothing is labelled. */
  word_weight: z.number().nonnegative().default(0),
  /** Eq. 3: nearest words and temperature; `normalize` compares directions. */
  k: z.int().positive().default(4),
  tau: z.number().positive().default(0.01),
  normalize: z.boolean().default(false),
  /** Word whose embedding the token embedder begins at. */
  start_word: z.string().default("object"),
});
export type PretrainConfig = z.output<typeof PretrainConfig>;

/** How a config names a method. */
import { z } from "zod";
import { MOST_CUT_OUTS } from "../cut-outs.ts";

export const MethodSpec = z.strictObject({
  method: z.enum(["class-word", "encoder", "date", "no-encoder", "no-dual-path", "lora", "textual-inversion"]),
  /** Of the row; by default made from method, steps and learning rate. */
  name: z.string().min(1).optional(),
  /** On how many of the set's subjects, in its order; as many as the config says if not given. */
  subjects: z.int().positive().optional(),
  /** In place of what the method's authors published. */
  steps: z.int().nonnegative().optional(),
  learning_rate: z.number().positive().optional(),
  /** With a learning rate: of the offsets, AdamW if not given, and the embedding's rate if it is another. */
  optimizer: z.enum(["adamw", "muon"]).optional(),
  embedding_learning_rate: z.number().positive().optional(),
  alpha_blend: z.number().min(0).max(1).optional(),
  /** In place of the sampling's. */
  guidance_alpha: z.number().min(0).max(1).optional(),
  rank: z.int().positive().optional(),
  /** Of offsets of convolutions; what the encoder's config tells for steps with a mask, else 0, if not given. */
  conv_rank: z.int().nonnegative().optional(),
  batch_size: z.int().positive().optional(),
  train: z.enum(["both", "embedding", "offsets"]).optional(),
  embedding_anchor: z.number().nonnegative().optional(),
  offset_anchor: z.number().nonnegative().optional(),
  /** Folder of a tuning-encoder other than the model's own. */
  encoder: z.string().optional(),
  /** Tells the class word to a method that starts at the encoder's prediction: it is the hard word then. */
  class_word: z.boolean().optional(),
  /**
   * Tells the method where in the photo the subject is, as the set's masks have it, as it is found on plain backgrounds, or, "auto",
   * as `personalize` finds it: on the others by the model's subject mask. Where none is found, the method looks at the whole photo.
   */
  mask: z.union([z.boolean(), z.literal("plain"), z.literal("auto")]).optional(),
  /** With a mask: on how many plain backgrounds tuning sees the subject as well. */
  cut_outs: z.int().min(0).max(MOST_CUT_OUTS).optional(),
});
export type MethodSpec = z.output<typeof MethodSpec>;

/** Shape of a tuning-encoder; saved as config.json beside its weights. */
import { z } from "zod";

export const EncoderConfig = z
  .strictObject({
    _class_name: z.literal("TuningEncoder").default("TuningEncoder"),
    /** Width of the shared trunk and of the hypernetwork's tokens. */
    width: z.int().positive().default(512),
    /** Side of the trunk's map; both backbones are brought to it. */
    grid: z.int().positive().default(8),
    trunk_blocks: z.int().positive().default(2),
    norm_groups: z.int().positive().default(32),
    decoder_layers: z.int().positive().default(4),
    decoder_heads: z.int().positive().default(8),
    decoder_inner: z.int().positive().default(2048),
    /** Rank r of the weight offsets, and alpha: their scale is alpha / r. */
    rank: z.int().positive().default(4),
    lora_alpha: z.number().positive().default(4),
    /** Rank of the offsets while they are tuned, if it is to be above what is predicted: room that begins at zero. */
    tuning_rank: z.int().positive().optional(),
    /** Timestep at which the UNet's encoder sees the photo (method.md 3.2). */
    encoder_timestep: z.int().nonnegative().default(250),
    /** Weight of the personalised branch of the dual path. */
    alpha_blend: z.number().min(0).max(1).default(0.25),
    /** Neutral prompts of pre-training and tuning, with <S*> for the subject. */
    templates: z.array(z.string().includes("<S*>")).min(1).optional(),
    /** The steps on a photo with a mask that were found to go best from what it predicts; the paper's if not given. */
    masked_tuning: z
      .strictObject({
        optimizer: z.enum(["adamw", "muon"]),
        learning_rate: z.number().positive(),
        embedding_learning_rate: z.number().positive(),
        /** Of the offsets of convolutions, which nothing predicts: they begin at zero. 0 is none of them. */
        conv_rank: z.int().nonnegative().optional(),
      })
      .optional(),
    /** The base model that it was trained for. */
    base: z.string().default(""),
    base_name: z.string().default(""),
  })
  .refine(({ rank, tuning_rank }) => (tuning_rank ?? rank) >= rank, {
    path: ["tuning_rank"],
    error: "must be at least rank, as the offsets start at what is predicted",
  });
export type EncoderConfig = z.output<typeof EncoderConfig>;

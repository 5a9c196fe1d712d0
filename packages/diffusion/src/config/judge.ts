/** config.json of a judge: two towers of its own and what they are projected to. */
import { z } from "zod";
import { CLIPTextConfig } from "./clip.ts";

export const JudgeConfig = z.strictObject({
  architectures: z.tuple([z.literal("PictureJudge")]),
  text_config: CLIPTextConfig,
  vision_config: z.strictObject({
    image_size: z.int().positive(),
    /** Side of the patches that the first convolution turns into pixels of the first stage. */
    patch_size: z.int().positive(),
    block_out_channels: z.array(z.int().positive()).min(1),
    layers_per_block: z.int().positive().default(1),
    norm_num_groups: z.int().positive().default(32),
  }),
  /** Of texts and pictures. */
  projection_dim: z.int().positive(),
  /** Of pictures as instances. */
  instance_dim: z.int().positive(),
});
export type JudgeConfig = z.output<typeof JudgeConfig>;

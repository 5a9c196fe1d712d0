/** vae/config.json of diffusers' AutoencoderKL. */
import { z } from "zod";
import { only, provenance } from "./parse.ts";

export const AutoencoderKLConfig = z.strictObject({
  ...provenance,
  in_channels: z.int().positive().default(3),
  out_channels: z.int().positive().default(3),
  down_block_types: z.array(z.literal("DownEncoderBlock2D")).default(["DownEncoderBlock2D"]),
  up_block_types: z.array(z.literal("UpDecoderBlock2D")).default(["UpDecoderBlock2D"]),
  block_out_channels: z.array(z.int().positive()).default([64]),
  layers_per_block: z.int().positive().default(1),
  act_fn: only("silu"),
  latent_channels: z.int().positive().default(4),
  norm_num_groups: z.int().positive().default(32),
  sample_size: z.int().positive().default(32),
  scaling_factor: z.number().positive().default(0.18215),
  shift_factor: only(null),
  latents_mean: only(null),
  latents_std: only(null),
  force_upcast: z.boolean().default(true),
  use_quant_conv: z.boolean().default(true),
  use_post_quant_conv: z.boolean().default(true),
  mid_block_add_attention: z.boolean().default(true),
});
export type AutoencoderKLConfig = z.output<typeof AutoencoderKLConfig>;

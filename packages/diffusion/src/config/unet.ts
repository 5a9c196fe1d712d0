/** unet/config.json of diffusers' UNet2DConditionModel: SD 1.x and 2.x. */
import { z } from "zod";
import { only, provenance } from "./parse.ts";

const counts = z.union([z.int().positive(), z.array(z.int().positive())]);

/** What diffusers' EMAModel leaves in the config of the weights it averaged. */
const averaging = {
  decay: z.unknown().optional(),
  inv_gamma: z.unknown().optional(),
  min_decay: z.unknown().optional(),
  optimization_step: z.unknown().optional(),
  power: z.unknown().optional(),
  update_after_step: z.unknown().optional(),
  use_ema_warmup: z.unknown().optional(),
};

export const UNet2DConditionConfig = z.strictObject({
  ...provenance,
  ...averaging,
  sample_size: z.int().positive().nullable().default(null),
  in_channels: z.int().positive().default(4),
  out_channels: z.int().positive().default(4),
  block_out_channels: z.array(z.int().positive()).default([320, 640, 1280, 1280]),
  down_block_types: z
    .array(z.enum(["CrossAttnDownBlock2D", "DownBlock2D"]))
    .default(["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"]),
  mid_block_type: only("UNetMidBlock2DCrossAttn"),
  up_block_types: z
    .array(z.enum(["CrossAttnUpBlock2D", "UpBlock2D"]))
    .default(["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]),
  layers_per_block: z.int().positive().default(2),
  transformer_layers_per_block: counts.default(1),
  /** In SD this is the NUMBER of heads; diffusers kept the wrong name. */
  attention_head_dim: counts.default(8),
  num_attention_heads: only(null),
  cross_attention_dim: z.int().positive().default(1280),
  use_linear_projection: z.boolean().default(false),
  norm_num_groups: z.int().positive().default(32),
  norm_eps: z.number().positive().default(1e-5),
  flip_sin_to_cos: z.boolean().default(true),
  freq_shift: z.number().default(0),
  mid_block_scale_factor: z.number().default(1),
  downsample_padding: only(1),
  act_fn: only("silu", "swish"),
  center_input_sample: only(false),
  only_cross_attention: only(false),
  dual_cross_attention: only(false),
  upcast_attention: z.boolean().nullable().default(false), // all arithmetic is float32 here anyway
  resnet_time_scale_shift: only("default"),
  resnet_skip_time_act: only(false),
  resnet_out_scale_factor: only(1),
  time_embedding_type: only("positional"),
  time_embedding_dim: only(null),
  time_embedding_act_fn: only(null),
  timestep_post_act: only(null),
  time_cond_proj_dim: only(null),
  conv_in_kernel: only(3),
  conv_out_kernel: only(3),
  attention_type: only("default"),
  class_embed_type: only(null),
  class_embeddings_concat: only(false),
  num_class_embeds: only(null),
  projection_class_embeddings_input_dim: only(null),
  addition_embed_type: only(null),
  addition_embed_type_num_heads: z.number().default(64),
  addition_time_embed_dim: only(null),
  encoder_hid_dim: only(null),
  encoder_hid_dim_type: only(null),
  reverse_transformer_layers_per_block: only(null),
  mid_block_only_cross_attention: only(null),
  cross_attention_norm: only(null),
  dropout: only(0),
});
export type UNet2DConditionConfig = z.output<typeof UNet2DConditionConfig>;

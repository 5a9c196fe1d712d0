/** config.json of transformers' CLIP models: text tower, vision tower, both. */
import { z } from "zod";
import { only } from "./parse.ts";

/** Keys that transformers writes into every config; those that would change a result must have their plain value. */
const generic = {
  _name_or_path: z.string().optional(),
  _commit_hash: z.string().nullable().optional(),
  architectures: z.array(z.string()).nullable().optional(),
  transformers_version: z.string().nullable().optional(),
  torch_dtype: z.string().nullable().optional(),
  dtype: z.string().nullable().optional(),
  attention_dropout: z.number().default(0),
  dropout: z.number().default(0),
  initializer_factor: z.number().default(1),
  initializer_range: z.number().default(0.02),
  layer_norm_eps: z.number().positive().default(1e-5),
  hidden_act: z.enum(["quick_gelu", "gelu", "gelu_pytorch_tanh"]).default("quick_gelu"),
  projection_dim: z.int().positive().default(512),
  output_attentions: only(false),
  output_hidden_states: z.boolean().optional(),
  return_dict: z.boolean().optional(),
  use_return_dict: z.boolean().optional(),
  problem_type: only(null),
  chunk_size_feed_forward: only(0),
  is_encoder_decoder: only(false),
  is_decoder: only(false),
  add_cross_attention: only(false),
  cross_attention_hidden_size: only(null),
  tie_word_embeddings: z.boolean().optional(),
  tie_encoder_decoder: only(false),
  torchscript: only(false),
  pruned_heads: z.record(z.string(), z.unknown()).optional(),
  id2label: z.record(z.string(), z.string()).optional(),
  label2id: z.record(z.string(), z.number()).optional(),
};

const tower = {
  hidden_size: z.int().positive(),
  intermediate_size: z.int().positive(),
  num_hidden_layers: z.int().positive(),
  num_attention_heads: z.int().positive(),
};

export const CLIPTextConfig = z.strictObject({
  ...generic,
  ...tower,
  model_type: only("clip_text_model", "clip"),
  vocab_size: z.int().positive().default(49408),
  max_position_embeddings: z.int().positive().default(77),
  bos_token_id: z.int().default(49406),
  eos_token_id: z.int().default(49407),
  pad_token_id: z.int().default(1),
});
export type CLIPTextConfig = z.output<typeof CLIPTextConfig>;

export const CLIPVisionConfig = z.strictObject({
  ...generic,
  ...tower,
  model_type: only("clip_vision_model", "clip"),
  image_size: z.int().positive().default(224),
  patch_size: z.int().positive().default(32),
  num_channels: z.int().positive().default(3),
});
export type CLIPVisionConfig = z.output<typeof CLIPVisionConfig>;

export const CLIPConfig = z.strictObject({
  ...generic,
  model_type: only("clip"),
  text_config: CLIPTextConfig,
  vision_config: CLIPVisionConfig,
  text_config_dict: only(null),
  vision_config_dict: only(null),
  logit_scale_init_value: z.number().default(2.6592),
});
export type CLIPConfig = z.output<typeof CLIPConfig>;

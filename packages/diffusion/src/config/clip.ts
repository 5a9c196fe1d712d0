/** config.json of transformers' CLIP models: text tower, vision tower, both. */
import { z } from "zod";
import { only } from "./parse.ts";

/** Settings of text generation, which transformers before 5 wrote into every config: no encoder reads them. */
const generation = Object.fromEntries(
  [
    ...["max_length", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups", "diversity_penalty"],
    ...["temperature", "top_k", "top_p", "typical_p", "repetition_penalty", "length_penalty", "no_repeat_ngram_size"],
    ...["encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences", "output_scores"],
    ...["return_dict_in_generate", "forced_bos_token_id", "forced_eos_token_id", "remove_invalid_values"],
    ...["exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens", "sep_token_id"],
    ...["decoder_start_token_id", "prefix", "task_specific_params", "tokenizer_class", "finetuning_task"],
    ...["tf_legacy_loss", "use_bfloat16", "use_cache", "_attn_implementation_autoset"],
  ].map((key) => [key, z.unknown().optional()]),
);

/** Keys that transformers writes into every config; those that would change a result must have their plain value. */
const generic = {
  ...generation,
  _class_name: z.string().optional(),
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

/** Sizes of a tower; transformers leaves out what has its default. */
const tower = (width: number, heads: number) => ({
  hidden_size: z.int().positive().default(width),
  intermediate_size: z
    .int()
    .positive()
    .default(4 * width),
  num_hidden_layers: z.int().positive().default(12),
  num_attention_heads: z.int().positive().default(heads),
});
/** Keys of either tower's config inside another config. */
const inner = {
  bos_token_id: z.unknown().optional(),
  eos_token_id: z.unknown().optional(),
  pad_token_id: z.unknown().optional(),
};

export const CLIPTextConfig = z.strictObject({
  ...generic,
  ...tower(512, 8),
  model_type: only("clip_text_model", "clip"),
  vocab_size: z.int().positive().default(49408),
  max_position_embeddings: z.int().positive().default(77),
  // the tokenizer's ids count; Stable Diffusion's files say 0, 2 and 1 here
  bos_token_id: z.int().nullable().default(49406),
  eos_token_id: z.int().nullable().default(49407),
  pad_token_id: z.int().nullable().default(1),
});
export type CLIPTextConfig = z.output<typeof CLIPTextConfig>;

export const CLIPVisionConfig = z.strictObject({
  ...inner,
  ...generic,
  ...tower(768, 12),
  model_type: only("clip_vision_model", "clip"),
  image_size: z.int().positive().default(224),
  patch_size: z.int().positive().default(32),
  num_channels: z.int().positive().default(3),
});
export type CLIPVisionConfig = z.output<typeof CLIPVisionConfig>;

/** transformers lets text_config_dict and vision_config_dict, where an old file has them, overrule their namesakes. */
const merged = (json: unknown): unknown => {
  const { text_config_dict: text, vision_config_dict: vision, ...rest } = (json ?? {}) as Record<string, object | null>;
  return {
    ...rest,
    ...(text && { text_config: { ...rest.text_config, ...text } }),
    ...(vision && { vision_config: { ...rest.vision_config, ...vision } }),
  };
};

export const CLIPConfig = z.preprocess(
  merged,
  z.strictObject({
    ...generic,
    model_type: only("clip"),
    text_config: CLIPTextConfig,
    vision_config: CLIPVisionConfig,
    logit_scale_init_value: z.number().default(2.6592),
  }),
);
export type CLIPConfig = z.output<typeof CLIPConfig>;

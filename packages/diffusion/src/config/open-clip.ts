/** open_clip_config.json: what open_clip calls its models' sizes, as transformers' config. */
import { z } from "zod";
import { CLIPConfig } from "./clip.ts";
import { only, parseConfig } from "./parse.ts";

const size = z.int().positive();

/** Plain CLIP models. The settings of others, which would change a result, must have their plain value. */
const OpenClipConfig = z.object({
  model_cfg: z.strictObject({
    embed_dim: size,
    quick_gelu: z.boolean().default(false),
    vision_cfg: z.strictObject({
      image_size: size.default(224),
      layers: size.default(12),
      width: size.default(768),
      head_width: size.default(64),
      patch_size: size.default(16),
      mlp_ratio: z.number().positive().default(4),
      ls_init_value: only(null),
      patch_dropout: z.number().optional(),
      attentional_pool: only(false),
      no_ln_pre: only(false),
      pos_embed_type: only("learnable"),
      final_ln_after_pool: only(false),
      pool_type: only("tok"),
      output_tokens: z.boolean().optional(),
    }),
    text_cfg: z.strictObject({
      context_length: size.default(77),
      vocab_size: size.default(49408),
      width: size.default(512),
      heads: size.default(8),
      layers: size.default(12),
      mlp_ratio: z.number().positive().default(4),
      ls_init_value: only(null),
      embed_cls: only(false),
      pad_id: z.int().optional(),
      no_causal_mask: only(false),
      final_ln_after_pool: only(false),
      pool_type: only("argmax"),
      proj_bias: only(false),
      output_tokens: z.boolean().optional(),
    }),
  }),
});

/** @throws ConfigError */
export function parseOpenClipConfig(json: unknown, file: string): CLIPConfig {
  const { embed_dim, quick_gelu, vision_cfg: v, text_cfg: t } = parseConfig(OpenClipConfig, json, file).model_cfg;
  const shared = { projection_dim: embed_dim, hidden_act: quick_gelu ? "quick_gelu" : "gelu" };
  const clip = {
    ...shared,
    vision_config: {
      ...shared,
      hidden_size: v.width,
      intermediate_size: Math.floor(v.width * v.mlp_ratio),
      num_hidden_layers: v.layers,
      num_attention_heads: Math.floor(v.width / v.head_width),
      image_size: v.image_size,
      patch_size: v.patch_size,
    },
    text_config: {
      ...shared,
      hidden_size: t.width,
      intermediate_size: Math.floor(t.width * t.mlp_ratio),
      num_hidden_layers: t.layers,
      num_attention_heads: t.heads,
      vocab_size: t.vocab_size,
      max_position_embeddings: t.context_length,
    },
  };
  return parseConfig(CLIPConfig, clip, file);
}

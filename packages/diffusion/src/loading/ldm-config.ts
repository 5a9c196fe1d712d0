/** What the keys and shapes of an LDM checkpoint say about the models in it. */
import { LikenessError, type SafetensorsHeader } from "@likeness/engine";
import { CLIPTextConfig } from "../config/clip.ts";
import { parseConfig } from "../config/parse.ts";
import { UNet2DConditionConfig } from "../config/unet.ts";
import { AutoencoderKLConfig } from "../config/vae.ts";
import { LDM_CLIP, LDM_OPEN_CLIP, LDM_UNET, LDM_VAE } from "./ldm-keys.ts";
import type { PredictionType } from "./model.ts";

/** 1.x has CLIP and its 8 heads, 2.x has OpenCLIP and heads of width 64. */
export type Generation = "1.x" | "2.x";

export const generationOf = ({ tensors }: SafetensorsHeader): Generation =>
  [...tensors.keys()].some((k) => k.startsWith(LDM_OPEN_CLIP)) ? "2.x" : "1.x";

/** 2.x comes in both kinds; nothing but metadata can tell, and the widespread files (2.0 and 2.1 for 768 pixels) predict v. */
export function predictionTypeOf({ metadata }: SafetensorsHeader, generation: Generation): PredictionType {
  const named = metadata["modelspec.prediction_type"];
  if (named === "epsilon") return "epsilon";
  if (named === "v" || named === "v_prediction") return "v_prediction";
  return generation === "2.x" ? "v_prediction" : "epsilon";
}

class Shapes {
  private readonly header: SafetensorsHeader;
  private readonly prefix: string;
  constructor(header: SafetensorsHeader, prefix: string) {
    this.header = header;
    this.prefix = prefix;
  }
  has(key: string): boolean {
    return this.header.tensors.has(this.prefix + key);
  }
  /** @throws LikenessError if it isn't there or has too few axes */
  axis(key: string, axis: number): number {
    const size = this.header.tensors.get(this.prefix + key)?.shape[axis];
    if (size !== undefined) return size;
    throw new LikenessError("E_MODEL", {
      what: `"${this.prefix}${key}"`,
      where: this.header.path,
      needed: "a tensor that tells how large the model is",
      found: "none",
      next: "The file isn't a whole checkpoint.",
    });
  }
  /** The first n for which no such key is there. */
  count(key: (n: number) => string): number {
    let n = 0;
    while (this.has(key(n))) n++;
    return n;
  }
}

/** @param sampleSize latents along a side */
export function ldmUNetConfig(header: SafetensorsHeader, sampleSize: number): UNet2DConditionConfig {
  const w = new Shapes(header, LDM_UNET);
  const [widths, depths]: [number[], number[]] = [[], []];
  let perLevel = 0;
  for (let i = 1, blocks = 0; ; i++) {
    const last = !w.has(`input_blocks.${i}.0.out_layers.3.weight`);
    if (!last) {
      blocks++;
      widths[depths.length] = w.axis(`input_blocks.${i}.0.out_layers.3.weight`, 0);
      continue;
    }
    perLevel ||= blocks;
    depths.push(w.count((n) => `input_blocks.${i - 1}.1.transformer_blocks.${n}.norm1.weight`));
    blocks = 0;
    if (!w.has(`input_blocks.${i}.0.op.weight`)) break;
  }
  const crossed = depths.findIndex((n) => n > 0);
  const block = `input_blocks.${1 + crossed * (perLevel + 1)}.1`;
  const linear = crossed >= 0 && header.tensors.get(`${LDM_UNET}${block}.proj_in.weight`)?.shape.length === 2;
  const json = {
    sample_size: sampleSize,
    in_channels: w.axis("input_blocks.0.0.weight", 1),
    out_channels: w.axis("out.2.weight", 0),
    block_out_channels: widths,
    down_block_types: depths.map((n) => (n ? "CrossAttnDownBlock2D" : "DownBlock2D")),
    up_block_types: depths.map((n) => (n ? "CrossAttnUpBlock2D" : "UpBlock2D")).reverse(),
    layers_per_block: perLevel,
    transformer_layers_per_block: Math.max(1, ...depths),
    cross_attention_dim: w.axis(`${block}.transformer_blocks.0.attn2.to_k.weight`, 1),
    attention_head_dim: linear ? widths.map((c) => Math.max(1, Math.floor(c / 64))) : 8,
    use_linear_projection: linear,
  };
  return parseConfig(UNet2DConditionConfig, json, header.path);
}

/** @param sampleSize pixels along a side */
export function ldmVaeConfig(header: SafetensorsHeader, sampleSize: number): AutoencoderKLConfig {
  const w = new Shapes(header, LDM_VAE);
  const levels = w.count((n) => `encoder.down.${n}.block.0.conv1.weight`);
  const json = {
    sample_size: sampleSize,
    in_channels: w.axis("encoder.conv_in.weight", 1),
    out_channels: w.axis("decoder.conv_out.weight", 0),
    latent_channels: w.axis("decoder.conv_in.weight", 1),
    block_out_channels: Array.from({ length: levels }, (_, n) => w.axis(`encoder.down.${n}.block.0.conv1.weight`, 0)),
    down_block_types: Array<string>(levels).fill("DownEncoderBlock2D"),
    up_block_types: Array<string>(levels).fill("UpDecoderBlock2D"),
    layers_per_block: w.count((n) => `encoder.down.0.block.${n}.conv1.weight`),
    use_quant_conv: w.has("quant_conv.weight"),
    use_post_quant_conv: w.has("post_quant_conv.weight"),
  };
  return parseConfig(AutoencoderKLConfig, json, header.path);
}

/** OpenCLIP-H has 24 layers in the file, of which Stable Diffusion 2 uses 23; files made from diffusers folders have those alone. */
export function ldmTextConfig(header: SafetensorsHeader, generation: Generation): CLIPTextConfig {
  const open = generation === "2.x";
  const bare = header.tensors.has(`${LDM_CLIP}embeddings.token_embedding.weight`);
  const w = new Shapes(header, open ? LDM_OPEN_CLIP : LDM_CLIP + (bare ? "" : "text_model."));
  const token = open ? "token_embedding.weight" : "embeddings.token_embedding.weight";
  const position = open ? "positional_embedding" : "embeddings.position_embedding.weight";
  const layer = open ? "transformer.resblocks" : "encoder.layers";
  const layers = w.count((n) => `${layer}.${n}.${open ? "ln_1" : "layer_norm1"}.weight`);
  const width = w.axis(token, 1);
  const json = {
    model_type: "clip_text_model",
    vocab_size: w.axis(token, 0),
    hidden_size: width,
    intermediate_size: w.axis(`${layer}.0.mlp.${open ? "c_fc" : "fc1"}.weight`, 0),
    num_hidden_layers: open && layers === 24 ? 23 : layers,
    num_attention_heads: Math.max(1, Math.floor(width / 64)),
    max_position_embeddings: w.axis(position, 0),
    hidden_act: open ? "gelu" : "quick_gelu",
    projection_dim: width,
  };
  return parseConfig(CLIPTextConfig, json, header.path);
}

/** The scheduler that diffusers' folders of these models have. */
export const ldmSchedulerConfig = (predictionType: PredictionType): object => ({
  _class_name: predictionType === "v_prediction" ? "DDIMScheduler" : "PNDMScheduler",
  num_train_timesteps: 1000,
  beta_start: 0.00085,
  beta_end: 0.012,
  beta_schedule: "scaled_linear",
  set_alpha_to_one: false,
  steps_offset: 1,
  prediction_type: predictionType,
  ...(predictionType === "v_prediction" ? { clip_sample: false } : { skip_prk_steps: true }),
});

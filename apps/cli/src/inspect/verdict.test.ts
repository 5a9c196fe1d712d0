import type { SafetensorsHeader } from "@likeness/engine";
import { expect, test } from "vitest";
import { verdict } from "./verdict.ts";

type Keys = Readonly<Record<string, readonly number[]>>;

const header = (keys: Keys, metadata: Record<string, string> = {}): SafetensorsHeader => ({
  path: "x",
  metadata,
  dataStart: 0,
  tensors: new Map(Object.entries(keys).map(([k, shape]) => [k, { dtype: "F32", shape, offset: 0, length: 0 }])),
});

const block = "down_blocks_0_attentions_0_transformer_blocks_0";
const module = "down_blocks.0.attentions.0.transformer_blocks.0";

// keys as the projects write them
test.each<[string, Keys, Record<string, string>, string]>([
  [
    "concept",
    { "bundle_emb.<S*>.string_to_param.*": [1, 768], [`lora_unet_${block}_attn2_to_k.lora_down.weight`]: [4, 768] },
    {
      "date.token": "<S*>",
      "date.base": "ab12",
      "date.base_name": "pocket",
      "date.hard_token": "duck",
      ss_network_dim: "4",
    },
    'concept <S*> for pocket (ab12): 1 matrices, rank 4, nearest word "duck"',
  ],
  [
    "concept",
    {
      [`lora_unet_${block}_attn2_to_k.lora_down.weight`]: [16, 768],
      "lora_unet_mid_block_resnets_0_conv1.lora_down.weight": [4, 1280, 3, 3],
      "lora_unet_mid_block_resnets_0_conv2.lora_down.weight": [4, 1280, 3, 3],
    },
    { "date.token": "<S*>", "date.base": "ab12", ss_network_dim: "16", "date.conv_rank": "4" },
    "concept <S*> for a base model (ab12): 1 matrices, rank 16 and 2 convolutions, rank 4",
  ],
  [
    "kohya-lora",
    {
      [`lora_unet_${block}_attn2_to_k.lora_down.weight`]: [4, 768],
      [`lora_unet_${block}_attn2_to_k.lora_up.weight`]: [320, 4],
    },
    {},
    "kohya LoRA: 1 matrices, rank 4, for SD 1.x (text width 768)",
  ],
  [
    "diffusers-lora",
    { [`unet.${module}.attn2.to_k.lora_A.weight`]: [8, 1024], [`unet.${module}.attn2.to_k.lora_B.weight`]: [320, 8] },
    {},
    "diffusers LoRA: 1 matrices, rank 8, for SD 2.x (text width 1024)",
  ],
  [
    "diffusers-lora",
    {
      [`unet.${module}.attn2.processor.to_k_lora.down.weight`]: [4, 768],
      [`unet.${module}.attn2.processor.to_k_lora.up.weight`]: [320, 4],
    },
    {},
    "diffusers LoRA: 1 matrices, rank 4, for SD 1.x (text width 768)",
  ],
  [
    "cloneofsimo-lora",
    { "unet:6:down": [1, 768], "unet:6:up": [320, 1], "<s1>": [768], "<s2>": [768] },
    {},
    "cloneofsimo LoRA with <s1>, <s2>: 1 matrices, rank 1, for SD 1.x (text width 768)",
  ],
  [
    "textual-inversion",
    { "<cat-toy>": [2, 768] },
    {},
    "textual inversion <cat-toy>: 2 vectors, for SD 1.x (text width 768)",
  ],
  ["textual-inversion", { emb_params: [1, 1024] }, {}, "textual inversion: 1 vector, for SD 2.x (text width 1024)"],
  ["textual-inversion", { clip_l: [1, 768], clip_g: [1, 1280] }, {}, "textual inversion: 1 vector, for SDXL"],
  [
    "model-weights",
    { "time_embedding.linear_1.weight": [4, 4], "conv_in.weight": [4, 4, 3, 3] },
    {},
    "weights of UNet2DConditionModel",
  ],
  ["model-weights", { "encoder.conv_in.weight": [4], "decoder.conv_in.weight": [4] }, {}, "weights of AutoencoderKL"],
  ["model-weights", { "visual.class_embedding": [4] }, {}, "weights of open_clip's CLIP"],
  [
    "model-checkpoint",
    {
      "model.diffusion_model.out.2.weight": [4],
      "first_stage_model.quant_conv.bias": [8],
      "cond_stage_model.transformer.text_model.final_layer_norm.bias": [4],
    },
    {},
    "checkpoint of Stable Diffusion 1.x in one file (LDM layout): UNet, autoencoder, text encoder; predicts epsilon",
  ],
  [
    "model-checkpoint",
    { "model.diffusion_model.out.2.weight": [4], "cond_stage_model.model.ln_final.bias": [4] },
    { "modelspec.prediction_type": "v" },
    "checkpoint of Stable Diffusion 2.x in one file (LDM layout): UNet, text encoder; predicts v_prediction; without autoencoder (first_stage_model.*): can't be a base model",
  ],
  [
    "model-checkpoint",
    { "model.diffusion_model.out.2.weight": [4], "conditioner.embedders.0.transformer.x": [4] },
    {},
    "checkpoint in one file: Stable Diffusion XL, which can't be a base model here",
  ],
  ["model-weights", { "text_model.embeddings.token_embedding.weight": [9, 4] }, {}, "weights of CLIPTextModel"],
  [
    "training-checkpoint",
    { "conv_in.weight": [1], "ema.conv_in.weight": [1] },
    { step: "500" },
    "checkpoint of a training run at step 500",
  ],
  ["unknown", { x: [1] }, {}, "tensors of a layout that isn't known here"],
  ["unknown", {}, {}, "no tensors"],
])("%s", (kind, keys, metadata, text) => expect(verdict(header(keys, metadata))).toEqual({ kind, text }));

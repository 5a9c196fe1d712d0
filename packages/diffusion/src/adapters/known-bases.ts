/** The two families of base models that LoRAs are made for, by the width of their text states. */
import { CLIPTextConfig } from "../config/clip.ts";
import { UNet2DConditionConfig } from "../config/unet.ts";
import type { NamedLoraBase } from "./read-lora.ts";

/** SD 1.4/1.5 for 768, SD 2.0/2.1 for 1024: configs alone, enough to say which layers a LoRA changes. */
export function knownBase(textWidth: number): NamedLoraBase | undefined {
  const text = TEXT[textWidth];
  if (!text) return undefined;
  const unet = textWidth === 1024 ? { use_linear_projection: true, attention_head_dim: [5, 10, 20, 20] } : {};
  return {
    name: textWidth === 768 ? "SD 1.x" : "SD 2.x",
    unet: { config: UNet2DConditionConfig.parse({ cross_attention_dim: textWidth, ...unet }) },
    textEncoder: { config: CLIPTextConfig.parse({ model_type: "clip_text_model", hidden_size: textWidth, ...text }) },
  };
}

const TEXT: Readonly<Record<number, object>> = {
  768: { intermediate_size: 3072, num_hidden_layers: 12, num_attention_heads: 12 }, // CLIP ViT-L/14
  1024: { intermediate_size: 4096, num_hidden_layers: 23, num_attention_heads: 16 }, // OpenCLIP ViT-H/14 but its last
};

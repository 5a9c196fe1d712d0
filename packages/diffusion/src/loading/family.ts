/** What a model is that isn't Stable Diffusion 1.x or 2.x: named, so that nobody has to guess why it is refused. */
import { LikenessError, type SafetensorsHeader } from "@likeness/engine";

/** Pipeline classes of diffusers → families. */
const PIPELINES: readonly (readonly [RegExp, string])[] = [
  [/^StableDiffusionXL/, "Stable Diffusion XL"],
  [/^StableDiffusion3/, "Stable Diffusion 3"],
  [/^StableCascade|^Wuerstchen/, "Stable Cascade"],
  [/^Flux/, "Flux"],
  [/^PixArt/, "PixArt"],
  [/^Sana/, "Sana"],
  [/^Kandinsky/, "Kandinsky"],
  [/^Hunyuan/, "Hunyuan"],
  [/^AuraFlow/, "AuraFlow"],
  [/^Lumina/, "Lumina"],
  [/^QwenImage/, "Qwen-Image"],
  [/^IF/, "DeepFloyd IF"],
  [/Inpaint|Fill/, "an inpainting model"],
  [/ControlNet/, "a ControlNet pipeline"],
  [/Upscale/, "an upscaler"],
  [/Depth2Img/, "a depth-to-image model"],
  [/InstructPix2Pix/, "InstructPix2Pix"],
  [/UnCLIP/i, "an unCLIP model"],
  [/Video|^(Wan|LTX|CogVideo|Mochi|Animate)/, "a video model"],
];

/** Keys of single files → families and other kinds of file. */
const KEYS: readonly (readonly [RegExp, string])[] = [
  [/^conditioner\.embedders\./, "Stable Diffusion XL"],
  [/(^|\.)joint_blocks\.\d+\./, "Stable Diffusion 3"],
  [/(^|\.)double_blocks\.\d+\./, "Flux"],
  [/(^|\.)(adaln_single|t_block)\.|(^|\.)blocks\.\d+\.scale_shift_table$/, "PixArt"],
  [/(^|\.)double_layers\.\d+\./, "AuraFlow"],
  [/^(model\.diffusion_model\.)?(cap_embedder|txt_in)\./, "a transformer model of another family"],
  [/^control_model\.|(^|\.)input_hint_block\./, "a ControlNet"],
  [/^low_scale_model\.|(^|\.)label_emb\.weight$/, "an upscaler"],
  [/^embedder\.|^noise_augmentor\./, "an unCLIP model"],
  [/(^|[._])lora[._](up|down|A|B|unet|te)|\.lora_[AB]\./, "a LoRA"],
  [/^(string_to_param|emb_params|<.+>$)/, "a textual inversion"],
  [/^time_embedding\.linear_1\./, "a UNet alone, in diffusers' keys"],
  [/^(encoder\.down_blocks|encoder\.down)\.0\./, "an autoencoder alone"],
  [/^first_stage_model\./, "an autoencoder alone"],
  [/(^|\.)embeddings\.token_embedding\.weight$/, "a text encoder alone"],
];

/** @throws LikenessError that names the family of a pipeline that isn't supported */
export function refusePipeline(className: string, where: string): never {
  const family = PIPELINES.find(([mark]) => mark.test(className))?.[1];
  throw new LikenessError("E_MODEL", {
    what: "model",
    where,
    needed: "Stable Diffusion 1.x or 2.x (StableDiffusionPipeline)",
    found: family ? `${family} (${className})` : className,
    next: "Other families aren't supported.",
  });
}

/** What a single file is, if it is no checkpoint of Stable Diffusion 1.x or 2.x. */
export function familyOfKeys({ tensors }: SafetensorsHeader): string | undefined {
  const keys = [...tensors.keys()];
  return KEYS.find(([mark]) => keys.some((k) => mark.test(k)))?.[1];
}

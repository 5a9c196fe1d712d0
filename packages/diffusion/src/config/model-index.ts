/** model_index.json of a diffusers folder. */
import { z } from "zod";

const part = (...classes: readonly [string, ...string[]]) =>
  z.tuple([z.string().nullable(), z.enum(classes).nullable()]);
const anything = z.tuple([z.string().nullable(), z.string().nullable()]).optional();

export const ModelIndex = z.strictObject({
  _class_name: z.literal(
    "StableDiffusionPipeline",
    "needed StableDiffusionPipeline: SD 1.x and 2.x are what is supported",
  ),
  _diffusers_version: z.string().optional(),
  _name_or_path: z.string().optional(),
  unet: part("UNet2DConditionModel"),
  vae: part("AutoencoderKL"),
  text_encoder: part("CLIPTextModel"),
  tokenizer: part("CLIPTokenizer", "CLIPTokenizerFast"),
  scheduler: z.tuple([z.string(), z.string()]),
  image_encoder: part("CLIPVisionModelWithProjection").optional(),
  feature_extractor: anything,
  safety_checker: anything,
  requires_safety_checker: z.boolean().optional(),
});

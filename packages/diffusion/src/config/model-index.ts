/** model_index.json of a diffusers folder. */
import { z } from "zod";

const part = (...classes: readonly [string, ...string[]]) =>
  z.tuple([z.string().nullable(), z.enum(classes).nullable()]);
/** What we don't run; a part that isn't there is [null, null]. */
const anything = z.tuple([z.string().nullable(), z.string().nullable()]).nullable().optional();

export const ModelIndex = z.strictObject({
  /** Image-to-image pipelines have the same parts. */
  _class_name: z.enum(["StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline"]),
  _diffusers_version: z.string().optional(),
  _name_or_path: z.string().optional(),
  unet: part("UNet2DConditionModel"),
  vae: part("AutoencoderKL"),
  text_encoder: part("CLIPTextModel"),
  tokenizer: part("CLIPTokenizer", "CLIPTokenizerFast"),
  scheduler: z.tuple([z.string(), z.string()]),
  image_encoder: part("CLIPVisionModelWithProjection", "CLIPVisionModel").nullable().optional(),
  feature_extractor: anything,
  safety_checker: anything,
  requires_safety_checker: z.unknown().optional(),
});

/** The base model that a command's flags name. */
import { loadModel, type PredictionType, type StableDiffusionModel } from "@likeness/diffusion";
import type { Values } from "./args/command.ts";
import { MODEL } from "./commands/shared-flags.ts";
import { expectFolder, findModel } from "./paths.ts";

export const MODEL_FLAGS = {
  model: MODEL,
  variant: {
    type: "string",
    hint: "NAME",
    description: "weights NAME.fp16.safetensors and such; by default the plain files, or the only variant there is",
  },
  modelConfig: {
    type: "string",
    hint: "DIR",
    description:
      "for a model in one file: a diffusers folder whose configs describe it; by default its keys and shapes",
    aliases: ["original-config"],
  },
  tokenizer: { type: "string", hint: "DIR", description: "tokenizer folder; by default the model's, or CLIP's own" },
  predictionType: {
    type: "string",
    choices: ["epsilon", "v_prediction"],
    description: "what the UNet predicts; by default what the model says, and v_prediction for a 2.x in one file",
  },
} as const;

/** What the tuning-encoder sees a photo with. */
export const IMAGE_ENCODER = {
  type: "string",
  hint: "DIR|FILE|ID",
  description: "CLIP vision tower, of transformers or open_clip; by default the model's image_encoder/",
} as const;

/** @throws LikenessError, ConfigError, SafetensorsError or TokenizerError, each naming what is wrong */
export function openModel(
  flags: Values<typeof MODEL_FLAGS> & { readonly imageEncoder?: string | undefined; readonly int8?: boolean },
): StableDiffusionModel {
  const { model, variant, modelConfig: config, tokenizer, predictionType, imageEncoder, int8 } = flags;
  return loadModel(findModel(model), {
    variant,
    config: config === undefined ? undefined : expectFolder("--model-config", config),
    tokenizer: tokenizer === undefined ? undefined : expectFolder("--tokenizer", tokenizer),
    predictionType: predictionType as PredictionType | undefined,
    int8,
    imageEncoder: imageEncoder === undefined ? undefined : findModel(imageEncoder, "image encoder"),
  });
}

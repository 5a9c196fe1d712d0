/** A Stable Diffusion model from a diffusers folder or from one file: configs, weights, tokenizer, scheduler. */
import { statSync } from "node:fs";
import { int8Weights, LikenessError } from "@likeness/engine";
import { loadCLIPVision } from "./loading/clip.ts";
import { modelFingerprint } from "./loading/fingerprint.ts";
import { folderParts } from "./loading/folder.ts";
import type { LoadOptions, Parts, StableDiffusionModel } from "./loading/model.ts";
import { singleFileParts } from "./loading/single-file.ts";
import { createScheduler } from "./schedulers/index.ts";

export { type Component, pathsOf } from "./loading/component.ts";
export { fingerprint } from "./loading/fingerprint.ts";
export type { LoadOptions, PredictionType, StableDiffusionModel } from "./loading/model.ts";

export { type CheckpointReport, describeCheckpoint } from "./loading/single-file.ts";
export { PICKLE, PICKLE_REASON, weightFiles, weightVariants } from "./loading/weight-files.ts";

/**
 * @param path a folder in diffusers' layout, or a .safetensors checkpoint in the original layout
 * @throws LikenessError, ConfigError, SafetensorsError or TokenizerError, each naming the file
 */
export function loadModel(path: string, options: LoadOptions = {}): StableDiffusionModel {
  const isFile = statSync(path, { throwIfNoEntry: false })?.isFile();
  const { schedulerConfig, schedulerFile, ...parts } = isFile
    ? singleFileParts(path, options)
    : folderParts(path, options);
  expectFit(parts, path);
  const { predictionType, imageEncoder, int8 = false } = options;
  const settings = predictionType
    ? { ...(schedulerConfig as object), prediction_type: predictionType }
    : schedulerConfig;
  const scaleFactor = 2 ** (parts.vae.config.block_out_channels.length - 1);
  let known: string | undefined;
  return {
    ...parts,
    int8,
    unet: int8 ? { ...parts.unet, weights: int8Weights(parts.unet.weights) } : parts.unet,
    get fingerprint() {
      return (known ??= modelFingerprint(parts));
    },
    imageEncoder: imageEncoder === undefined ? parts.imageEncoder : loadCLIPVision(imageEncoder),
    scheduler: (name) => createScheduler(settings, name, schedulerFile),
    scaleFactor,
    resolution: (parts.unet.config.sample_size ?? 64) * scaleFactor,
  };
}

/** @throws LikenessError if the parts aren't of one text-to-image model */
function expectFit(
  { unet, vae, textEncoder, tokenizer }: Omit<Parts, "schedulerConfig" | "schedulerFile">,
  where: string,
): void {
  const { in_channels: into, out_channels: out, cross_attention_dim: context } = unet.config;
  const { latent_channels: latent } = vae.config;
  const fail = (what: string, needed: string, found: string, next: string): never => {
    throw new LikenessError("E_MODEL", { what, where, needed, found, next });
  };
  const kinds: Readonly<Record<number, string>> = {
    9: "an inpainting model",
    8: "InstructPix2Pix",
    5: "a depth model",
  };
  if (into !== latent || out !== latent)
    fail(
      "UNet",
      `${latent} channels in and out`,
      `${into} and ${out}: ${kinds[into] ?? "another model"}`,
      "Take a text-to-image model.",
    );
  if (textEncoder.config.hidden_size !== context)
    fail(
      "text encoder",
      `width ${context}, which the UNet reads`,
      `width ${textEncoder.config.hidden_size}`,
      "Take all parts of one model.",
    );
  if (tokenizer.vocabSize > textEncoder.config.vocab_size)
    fail(
      "tokenizer",
      `at most ${textEncoder.config.vocab_size} tokens, as the text encoder has`,
      String(tokenizer.vocabSize),
      "Take the model's own tokenizer.",
    );
}

/** Checks that every key of every component has been read; call it once all programs are built. @throws WeightError */
export function expectAllRead({ unet, vae, textEncoder }: StableDiffusionModel): void {
  for (const { files } of [unet, vae, textEncoder]) {
    const left = files.unread().filter((k) => !k.endsWith("position_ids"));
    if (left.length)
      throw new LikenessError("E_WEIGHT_UNREAD", {
        what: `"${left[0]}"`,
        where: files.files.map((f) => f.path).join(", "),
        needed: "only keys that the model uses",
        found: `${left.length} more`,
        next: "The config.json doesn't fit the weights.",
      });
  }
}

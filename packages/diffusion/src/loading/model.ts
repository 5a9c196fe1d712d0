/** What a loaded model is, whatever files it came from. */
import type { CLIPTextConfig, CLIPVisionConfig } from "../config/clip.ts";
import type { GenerationConfig } from "../config/generation.ts";
import type { UNet2DConditionConfig } from "../config/unet.ts";
import type { AutoencoderKLConfig } from "../config/vae.ts";
import type { Scheduler } from "../schedulers/index.ts";
import type { CLIPTokenizer } from "../tokenizers/index.ts";
import type { Component } from "./component.ts";

export type PredictionType = "epsilon" | "v_prediction";

export interface LoadOptions {
  /** "fp16" for NAME.fp16.safetensors; by default the plain files, or the only variant that is there. Folders only. */
  readonly variant?: string | undefined;
  /** What the UNet predicts, against what the scheduler's config says. */
  readonly predictionType?: PredictionType | undefined;
  /** A tokenizer/ folder in place of the model's own. */
  readonly tokenizer?: string | undefined;
  /** A diffusers folder whose configs, scheduler and tokenizer describe a single file. Single files only. */
  readonly config?: string | undefined;
  /** A CLIP vision tower as loadCLIPVision reads it, in place of the model's own image_encoder/ or where it has none. */
  readonly imageEncoder?: string | undefined;
  /** The UNet multiplies by its weights in 8 bits on a CPU: faster, not quite the same (docs/decisions/0009-int8.md). */
  readonly int8?: boolean | undefined;
}

export interface StableDiffusionModel {
  /** Where parts that belong to the model are looked for, such as tuning_encoder/; it need not exist. */
  readonly folder: string;
  /** "ORG/NAME" for a model of the Hugging Face cache, else the name of its folder or file. */
  readonly name: string;
  readonly unet: Component<UNet2DConditionConfig>;
  readonly vae: Component<AutoencoderKLConfig>;
  readonly textEncoder: Component<CLIPTextConfig>;
  /** Only in folders that carry one, or as named when loading. */
  readonly imageEncoder: Component<CLIPVisionConfig> | undefined;
  readonly tokenizer: CLIPTokenizer;
  /** What its folder says of steps and guidance; nothing where there is no generation_config.json. */
  readonly generationConfig: GenerationConfig;
  /** Whether it was loaded so that the UNet multiplies in 8 bits. */
  readonly int8: boolean;
  /** The model's own scheduler, or another by name. */
  scheduler(name?: string): Scheduler;
  /** Pixels per latent, along a side. */
  readonly scaleFactor: number;
  /** Picture side that the model was made for, in pixels. */
  readonly resolution: number;
  /** Tells base models apart by samples of their weights, whatever files these are in (`modelFingerprint`). */
  readonly fingerprint: string;
}

export type Parts = Pick<
  StableDiffusionModel,
  "folder" | "name" | "unet" | "vae" | "textEncoder" | "imageEncoder" | "tokenizer" | "generationConfig"
> & {
  /** Content and place of scheduler_config.json. */
  readonly schedulerConfig: unknown;
  readonly schedulerFile: string;
};

/** A Stable Diffusion model in a diffusers folder: configs, weights by component, tokenizer, scheduler. */
import { createHash } from "node:crypto";
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { type FileWeights, LikenessError, openWeights, readSafetensorsHeader, type Weights } from "@likeness/engine";
import { CLIPTextConfig, CLIPVisionConfig } from "./config/clip.ts";
import { ModelIndex } from "./config/model-index.ts";
import { readConfig, readJson } from "./config/parse.ts";
import { UNet2DConditionConfig } from "./config/unet.ts";
import { AutoencoderKLConfig } from "./config/vae.ts";
import { oldAttentionKeys } from "./models/autoencoder-kl.ts";
import { createScheduler, type Scheduler } from "./schedulers/index.ts";
import { type CLIPTokenizer, loadCLIPTokenizer } from "./tokenizers/index.ts";

/** One model of the folder: what it is like and where its weights come from. */
export interface Component<Config> {
  readonly config: Config;
  readonly weights: Weights;
  readonly files: FileWeights;
}

export interface StableDiffusionModel {
  readonly folder: string;
  readonly name: string;
  readonly unet: Component<UNet2DConditionConfig>;
  readonly vae: Component<AutoencoderKLConfig>;
  readonly textEncoder: Component<CLIPTextConfig>;
  /** Only in folders that carry one. */
  readonly imageEncoder: Component<CLIPVisionConfig> | undefined;
  readonly tokenizer: CLIPTokenizer;
  /** The folder's own scheduler, or another by name ("ddim", "ddpm"). */
  scheduler(name?: string): Scheduler;
  /** Pixels per latent, along a side. */
  readonly scaleFactor: number;
  /** Picture side that the model was made for, in pixels. */
  readonly resolution: number;
  /** Tells base models apart: sha256 of the UNet's and the text encoder's headers and of samples of their data. */
  readonly fingerprint: string;
}

/** @throws LikenessError, ConfigError, SafetensorsError or TokenizerError, each naming the file */
export function loadModel(folder: string): StableDiffusionModel {
  if (!existsSync(folder))
    throw new LikenessError("E_MODEL", {
      what: "model",
      where: folder,
      needed: "a diffusers folder",
      found: "no such folder",
      next: "Check --model.",
    });
  if (!existsSync(join(folder, "model_index.json")))
    throw new LikenessError("E_MODEL", {
      what: "model",
      where: folder,
      needed: "a diffusers folder with model_index.json",
      found: "none",
      next: "Check --model.",
    });
  readConfig(ModelIndex, join(folder, "model_index.json"));
  const config = <S extends Parameters<typeof readConfig>[0]>(schema: S, part: string) =>
    readConfig(schema, join(folder, part, "config.json"));
  const unet = component(config(UNet2DConditionConfig, "unet"), weightFiles(folder, "unet", "diffusion_pytorch_model"));
  const text = component(config(CLIPTextConfig, "text_encoder"), weightFiles(folder, "text_encoder", "model"));
  const hasImage = existsSync(join(folder, "image_encoder", "config.json"));
  const vaeConfig = config(AutoencoderKLConfig, "vae");
  const schedulerFile = join(folder, "scheduler", "scheduler_config.json");
  const scaleFactor = 2 ** (vaeConfig.block_out_channels.length - 1);
  return {
    folder,
    name: basename(folder),
    unet,
    vae: component(vaeConfig, weightFiles(folder, "vae", "diffusion_pytorch_model")),
    textEncoder: text,
    imageEncoder: hasImage
      ? component(config(CLIPVisionConfig, "image_encoder"), weightFiles(folder, "image_encoder", "model"))
      : undefined,
    tokenizer: loadCLIPTokenizer(join(folder, "tokenizer")),
    scheduler: (name) => createScheduler(readJson(schedulerFile), name, schedulerFile),
    scaleFactor,
    resolution: (unet.config.sample_size ?? 64) * scaleFactor,
    fingerprint: fingerprint([...unet.files.files, ...text.files.files].map((f) => f.path)),
  };
}

/** Spellings of other writers: a key that gives one away, and how today's keys are stored there. */
const DIALECTS: readonly { readonly mark: string; rename(key: string): string }[] = [
  { mark: "encoder.mid_block.attentions.0.query.weight", rename: oldAttentionKeys }, // diffusers' autoencoder, to 2023
  { mark: "embeddings.token_embedding.weight", rename: (key) => key.replace(/^text_model\./, "") }, // transformers 5
];

function component<C>(config: C, paths: readonly string[]): Component<C> {
  const headers = paths.map(readSafetensorsHeader);
  const dialect = DIALECTS.find(({ mark }) => headers.some((h) => h.tensors.has(mark)));
  const files = openWeights(paths, dialect?.rename);
  return { config, files, weights: files.weights() };
}

/** The .safetensors of one part: whole or in shards. @throws LikenessError if there is none */
function weightFiles(folder: string, part: string, stem: string): string[] {
  const dir = join(folder, part);
  const whole = join(dir, `${stem}.safetensors`);
  if (existsSync(whole)) return [whole];
  const index = `${whole}.index.json`;
  if (existsSync(index)) {
    const { weight_map } = readJson(index) as { weight_map: Record<string, string> };
    return [...new Set(Object.values(weight_map))].sort().map((name) => join(dir, name));
  }
  const pickle = existsSync(dir) ? readdirSync(dir).find((f) => /\.(bin|ckpt|pt|pth)$/.test(f)) : undefined;
  throw new LikenessError("E_MODEL", {
    what: `${part} weights`,
    where: dir,
    needed: `${stem}.safetensors`,
    found: pickle ?? "none",
    next: pickle
      ? "A pickle can run any code when it is opened, so it isn't: convert it to .safetensors."
      : "Fetch the model again with its weights.",
  });
}

/** Header and 64 samples of 4 KiB of each file: cheap, and different for models of one architecture. */
export function fingerprint(paths: readonly string[]): string {
  const hash = createHash("sha256");
  for (const path of paths) {
    const { tensors } = readSafetensorsHeader(path);
    hash.update(JSON.stringify([...tensors].map(([k, t]) => [k, t.dtype, t.shape])));
    hash.update(String(statSync(path).size));
    for (const chunk of samples(path)) hash.update(chunk);
  }
  return hash.digest("hex").slice(0, 16);
}

function samples(path: string): Buffer[] {
  const { size } = statSync(path);
  if (size < 1 << 20) return [readFileSync(path)];
  const file = openSync(path, "r");
  try {
    return Array.from({ length: 64 }, (_, i) => {
      const chunk = Buffer.alloc(4096);
      readSync(file, chunk, 0, 4096, Math.floor(((size - 4096) * i) / 63));
      return chunk;
    });
  } finally {
    closeSync(file);
  }
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

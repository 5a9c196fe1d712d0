/** A model in a diffusers folder. */
import { existsSync, readdirSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { LikenessError } from "@likeness/engine";
import { CLIPTextConfig, CLIPVisionConfig } from "../config/clip.ts";
import { GenerationConfig } from "../config/generation.ts";
import { ModelIndex } from "../config/model-index.ts";
import { readConfig, readJson } from "../config/parse.ts";
import { UNet2DConditionConfig } from "../config/unet.ts";
import { AutoencoderKLConfig } from "../config/vae.ts";
import { repoOfSnapshot } from "../hub/cache.ts";
import { loadCLIPTokenizer } from "../tokenizers/index.ts";
import { component, dialectOf } from "./component.ts";
import { refusePipeline } from "./family.ts";
import type { LoadOptions, Parts } from "./model.ts";
import { type WeightFiles, weightFiles } from "./weight-files.ts";

/** The configs of a folder: all that a single file lacks. */
export function folderConfigs(folder: string) {
  readIndex(folder);
  const config = <S extends Parameters<typeof readConfig>[0]>(schema: S, part: string) =>
    readConfig(schema, join(folder, part, "config.json"));
  const schedulerFile = join(folder, "scheduler", "scheduler_config.json");
  return {
    unet: config(UNet2DConditionConfig, "unet"),
    vae: config(AutoencoderKLConfig, "vae"),
    text: config(CLIPTextConfig, "text_encoder"),
    schedulerFile,
    schedulerConfig: readJson(schedulerFile),
    generationConfig: generationOf(folder),
  };
}

/** @throws LikenessError, ConfigError, SafetensorsError or TokenizerError, each naming the file */
export function folderParts(folder: string, { variant, tokenizer, config }: LoadOptions): Parts {
  if (config !== undefined)
    throw new LikenessError("E_MODEL", {
      what: "config",
      where: config,
      needed: "a model in a single file",
      found: `${folder}, a folder, which has its own configs`,
    });
  const { unet, vae, text, schedulerConfig, schedulerFile, generationConfig } = folderConfigs(folder);
  const files = (part: string, stem: string): WeightFiles => weightFiles(join(folder, part), stem, variant);
  const found = {
    unet: files("unet", "diffusion_pytorch_model"),
    vae: files("vae", "diffusion_pytorch_model"),
    text: files("text_encoder", "model"),
  };
  const hasImage = existsSync(join(folder, "image_encoder", "config.json"));
  const image = hasImage ? files("image_encoder", "model") : undefined;
  expectVariant(folder, variant, [...Object.values(found), ...(image ? [image] : [])]);
  const open = <C>(c: C, { paths }: WeightFiles) => component(c, paths, dialectOf(paths));
  return {
    folder,
    name: repoOfSnapshot(resolve(folder)) ?? basename(resolve(folder)),
    unet: open(unet, found.unet),
    vae: open(vae, found.vae),
    textEncoder: open(text, found.text),
    imageEncoder: image && open(readConfig(CLIPVisionConfig, join(folder, "image_encoder", "config.json")), image),
    tokenizer: loadCLIPTokenizer(tokenizer ?? join(folder, "tokenizer")),
    schedulerConfig,
    schedulerFile,
    generationConfig,
  };
}

function generationOf(folder: string): GenerationConfig {
  const path = join(folder, "generation_config.json");
  return existsSync(path) ? readConfig(GenerationConfig, path) : {};
}

function readIndex(folder: string): void {
  const path = join(folder, "model_index.json");
  if (!existsSync(path)) refuseFolder(folder);
  const className = (readJson(path) as { _class_name?: unknown } | null)?._class_name;
  if (typeof className === "string" && !ModelIndex.shape._class_name.safeParse(className).success)
    refusePipeline(className, path);
  readConfig(ModelIndex, path);
}

function refuseFolder(folder: string): never {
  const there = existsSync(folder);
  const names = there ? readdirSync(folder) : [];
  const single = names.find((n) => n.endsWith(".safetensors"));
  throw new LikenessError("E_MODEL", {
    what: "model",
    where: folder,
    needed: there ? "a diffusers folder with model_index.json" : "a diffusers folder",
    found: there ? (names.includes("config.json") ? "a folder of one component" : "none") : "no such folder",
    next: names.includes("config.json")
      ? "Name the folder above it."
      : single
        ? `If ${single} is a whole checkpoint, name the file.`
        : "Check --model.",
  });
}

/** @throws LikenessError if no component has the variant that was asked for */
function expectVariant(folder: string, variant: string | undefined, parts: readonly WeightFiles[]): void {
  if (variant === undefined || parts.some((p) => p.variant === variant)) return;
  const others = [...new Set(parts.map((p) => p.variant ?? "none"))].join(", ");
  throw new LikenessError("E_MODEL", {
    what: `variant ${JSON.stringify(variant)}`,
    where: folder,
    needed: `files such as diffusion_pytorch_model.${variant}.safetensors`,
    found: others === "none" ? "only files without a variant" : `variant ${others}`,
    next: "Leave the variant out, or fetch it.",
  });
}

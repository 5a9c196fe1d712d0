/** A model in one file of the original ("LDM") layout. */
import { existsSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { LikenessError, readSafetensorsHeader, type SafetensorsHeader } from "@likeness/engine";
import { type CLIPTokenizer, loadCLIPTokenizer, openaiCLIPTokenizer } from "../tokenizers/index.ts";
import { component } from "./component.ts";
import { familyOfKeys } from "./family.ts";
import { folderConfigs } from "./folder.ts";
import {
  type Generation,
  generationOf,
  ldmSchedulerConfig,
  ldmTextConfig,
  ldmUNetConfig,
  ldmVaeConfig,
  predictionTypeOf,
} from "./ldm-config.ts";
import {
  LDM_CLIP,
  LDM_OPEN_CLIP,
  LDM_UNET,
  LDM_VAE,
  ldmClipKeys,
  ldmOpenClipKeys,
  ldmUNetKeys,
  ldmVaeKeys,
} from "./ldm-keys.ts";
import type { LoadOptions, Parts, PredictionType } from "./model.ts";
import { PICKLE, PICKLE_REASON } from "./weight-files.ts";

/**
 * Sizes, heads and the scheduler follow from keys and shapes, or from the folder `config`. The tokenizer is the one
 * named, that of `config`, tokenizer/ beside the file, or CLIP's own.
 * @throws LikenessError, ConfigError, SafetensorsError or TokenizerError, each naming the file
 */
export function singleFileParts(file: string, { variant, tokenizer, config, predictionType }: LoadOptions): Parts {
  if (PICKLE.test(file)) refuse(file, "a pickle", PICKLE_REASON);
  if (variant !== undefined)
    refuse(file, `variant ${JSON.stringify(variant)} of a single file`, "Leave the variant out.");
  const header = readSafetensorsHeader(file);
  const generation = expectCheckpoint(header, file);
  const predicts = predictionType ?? predictionTypeOf(header, generation);
  const pixels = generation === "2.x" && predicts === "v_prediction" ? 768 : 512;
  const described = config === undefined ? undefined : folderConfigs(config);
  const unet = described?.unet ?? ldmUNetConfig(header, pixels / 8);
  const vae = described?.vae ?? ldmVaeConfig(header, pixels);
  const text = described?.text ?? ldmTextConfig(header, generation);
  const has = (key: string): boolean => header.tensors.has(key);
  const textKeys = generation === "2.x" ? ldmOpenClipKeys(text) : ldmClipKeys(has);
  const name = basename(file, ".safetensors");
  return {
    folder: join(dirname(file), name),
    name,
    unet: component(unet, [file], ldmUNetKeys(unet)),
    vae: component(vae, [file], ldmVaeKeys(vae, has)),
    textEncoder: component(text, [file], textKeys),
    imageEncoder: undefined,
    tokenizer: tokenizerFor(file, generation, tokenizer, config),
    schedulerConfig: described?.schedulerConfig ?? ldmSchedulerConfig(predicts),
    schedulerFile: described?.schedulerFile ?? file,
    generationConfig: described?.generationConfig ?? {},
  };
}

function tokenizerFor(
  file: string,
  generation: Generation,
  named: string | undefined,
  config: string | undefined,
): CLIPTokenizer {
  if (named !== undefined) return loadCLIPTokenizer(named);
  const folders = [config ?? dirname(file), dirname(file)].map((f) => join(f, "tokenizer"));
  const beside = folders.find((f) => existsSync(f));
  return beside ? loadCLIPTokenizer(beside) : openaiCLIPTokenizer(generation === "2.x" ? "!" : "<|endoftext|>");
}

/** What a file in the LDM layout holds. */
export interface CheckpointReport {
  readonly generation: Generation;
  readonly predictionType: PredictionType;
  /** Models that are there, and those that are not, with their keys. */
  readonly parts: readonly string[];
  readonly missing: readonly string[];
  /** Another family, which isn't supported. */
  readonly family: string | undefined;
}

/** undefined for a file of another layout. */
export function describeCheckpoint(header: SafetensorsHeader): CheckpointReport | undefined {
  const keys = [...header.tensors.keys()];
  const has = (...prefixes: string[]): boolean => keys.some((k) => prefixes.some((p) => k.startsWith(p)));
  if (!has(LDM_UNET, LDM_VAE)) return undefined;
  const models = [
    ["UNet", has(LDM_UNET), `${LDM_UNET}*`],
    ["autoencoder", has(LDM_VAE), `${LDM_VAE}*`],
    ["text encoder", has(LDM_CLIP, LDM_OPEN_CLIP), `${LDM_CLIP}* or ${LDM_OPEN_CLIP}*`],
  ] as const;
  const family = familyOfKeys(header);
  const generation = generationOf(header);
  return {
    generation,
    predictionType: predictionTypeOf(header, generation),
    parts: models.filter(([, there]) => there).map(([name]) => name),
    missing: models.filter(([, there]) => !there).map(([name, , where]) => `${name} (${where})`),
    family: family?.endsWith("alone") ? undefined : family,
  };
}

/** All three models of a pipeline are there. */
function expectCheckpoint(header: SafetensorsHeader, file: string): Generation {
  const report = describeCheckpoint(header);
  const family = report ? report.family : (familyOfKeys(header) ?? "another kind of file");
  if (!report || family) return refuse(file, family!, "Other files can't be a base model.");
  if (report.missing.length)
    refuse(file, report.missing.map((m) => `no ${m}`).join(", "), "Take the whole checkpoint, or a diffusers folder.");
  return report.generation;
}

function refuse(file: string, found: string, next: string): never {
  const needed = "a checkpoint of Stable Diffusion 1.x or 2.x in one .safetensors file";
  throw new LikenessError("E_MODEL", { what: "model", where: file, needed, found, next });
}

/** A model in one file of the original ("LDM") layout. */
import { existsSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { LikenessError, readSafetensorsHeader, type SafetensorsHeader } from "@likeness/engine";
import { type CLIPTokenizer, loadCLIPTokenizer, openaiCLIPTokenizer } from "../tokenizers/index.ts";
import { component } from "./component.ts";
import { familyOfKeys } from "./family.ts";
import { fingerprint } from "./fingerprint.ts";
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
import type { LoadOptions, Parts } from "./model.ts";
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
  const textKeys = generation === "2.x" ? ldmOpenClipKeys(text) : ldmClipKeys((key) => header.tensors.has(key));
  const name = basename(file, ".safetensors");
  return {
    folder: join(dirname(file), name),
    name,
    unet: component(unet, [file], ldmUNetKeys(unet)),
    vae: component(vae, [file], ldmVaeKeys(vae)),
    textEncoder: component(text, [file], textKeys),
    imageEncoder: undefined,
    tokenizer: tokenizerFor(file, generation, tokenizer, config),
    schedulerConfig: described?.schedulerConfig ?? ldmSchedulerConfig(predicts),
    schedulerFile: described?.schedulerFile ?? file,
    fingerprint: fingerprint([file]),
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

/** All three models of a pipeline are there. */
function expectCheckpoint(header: SafetensorsHeader, file: string): Generation {
  const keys = [...header.tensors.keys()];
  const has = (prefix: string): boolean => keys.some((k) => k.startsWith(prefix));
  const family = has(LDM_UNET) || has(LDM_VAE) ? familyOf(header) : (familyOfKeys(header) ?? "another kind of file");
  if (family) refuse(file, family, "Other files can't be a base model.");
  const missing = [
    has(LDM_UNET) ? "" : `no UNet (${LDM_UNET}*)`,
    has(LDM_VAE) ? "" : `no autoencoder (${LDM_VAE}*)`,
    has(LDM_CLIP) || has(LDM_OPEN_CLIP) ? "" : `no text encoder (${LDM_CLIP}* or ${LDM_OPEN_CLIP}*)`,
  ].filter(Boolean);
  if (missing.length) refuse(file, missing.join(", "), "Take the whole checkpoint, or a diffusers folder.");
  return generationOf(header);
}

/** Another family in the LDM layout. */
function familyOf(header: SafetensorsHeader): string | undefined {
  const family = familyOfKeys(header);
  return family?.endsWith("alone") ? undefined : family;
}

function refuse(file: string, found: string, next: string): never {
  const needed = "a checkpoint of Stable Diffusion 1.x or 2.x in one .safetensors file";
  throw new LikenessError("E_MODEL", { what: "model", where: file, needed, found, next });
}

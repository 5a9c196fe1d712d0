/** CLIP models on their own, from transformers' or open_clip's files: the tuning-encoder's backbone, the metric. */
import { existsSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { type KeyMap, LikenessError, readSafetensorsHeader, type SafetensorsHeader } from "@likeness/engine";
import type { z } from "zod";
import { CLIPConfig, CLIPVisionConfig } from "../config/clip.ts";
import { parseOpenClipConfig } from "../config/open-clip.ts";
import { parseConfig, readConfig, readJson } from "../config/parse.ts";
import { type Component, component, dialectOf } from "./component.ts";
import { openClipKeys } from "./open-clip.ts";
import { PICKLE, PICKLE_REASON, weightFiles } from "./weight-files.ts";

const OPEN_CLIP_CONFIG = "open_clip_config.json";

interface Source {
  /** Where config.json or open_clip_config.json would be. */
  readonly folder: string;
  readonly paths: readonly string[];
  readonly headers: readonly SafetensorsHeader[];
  /** In open_clip's keys; else in transformers'. */
  readonly open: boolean;
}

/**
 * Both towers of a CLIPModel.
 * @param path a folder of transformers or of open_clip, or a .safetensors file with its config beside it
 * @throws LikenessError, ConfigError or SafetensorsError, each naming the file
 */
export function loadCLIP(path: string): Component<CLIPConfig> {
  const source = find(path);
  const config = source.open ? openConfig(source) : readConfig(CLIPConfig, join(source.folder, "config.json"));
  return component(
    config,
    source.paths,
    keys(source, (k) => !/(^|\.)(attn_mask|position_ids)$/.test(k)),
  );
}

/**
 * The vision tower of a CLIPModel, a CLIPVisionModel or a CLIPVisionModelWithProjection.
 * @param path as in loadCLIP; a file in open_clip's keys may come without a config: its shapes tell it, with exact GELU
 * @throws LikenessError, ConfigError or SafetensorsError, each naming the file
 */
export function loadCLIPVision(path: string): Component<CLIPVisionConfig> {
  const source = find(path);
  const owns = (key: string): boolean =>
    !key.endsWith("position_ids") &&
    /^(visual\.|vision_model\.|visual_projection\.|embeddings\.|encoder\.|p(re|ost)_lay)/.test(key);
  return component(visionConfig(source), source.paths, keys(source, owns));
}

function visionConfig(source: Source): CLIPVisionConfig {
  const file = join(source.folder, "config.json");
  if (source.open) {
    if (existsSync(join(source.folder, OPEN_CLIP_CONFIG))) return openConfig(source).vision_config;
    if (!existsSync(file)) return visionByShapes(source);
  }
  const json = readJson(file);
  if ((json as { model_type?: unknown } | null)?.model_type !== "clip")
    return parseConfig(CLIPVisionConfig, json, file);
  const { vision_config, projection_dim } = parseConfig(CLIPConfig, json, file);
  return { ...vision_config, projection_dim };
}

const openConfig = ({ folder }: Source): CLIPConfig => {
  const file = join(folder, OPEN_CLIP_CONFIG);
  // OpenCLIP's own repositories carry transformers' config too, which says the same
  if (!existsSync(file) && existsSync(join(folder, "config.json")))
    return readConfig(CLIPConfig, join(folder, "config.json"));
  return parseOpenClipConfig(readJson(file), file);
};

/** Heads of width 64, but for the two wide towers: 16 heads of 80 in ViT-H, 16 of 104 in ViT-bigG. */
const heads = (width: number): number => (width === 1280 || width === 1664 ? 16 : Math.max(1, Math.floor(width / 64)));

function visionByShapes({ headers: [header], paths }: Source): CLIPVisionConfig {
  const shape = (key: string): readonly number[] => header!.tensors.get(`visual.${key}`)?.shape ?? [];
  const [width = 0, , patch = 0] = shape("conv1.weight");
  const side = Math.sqrt((shape("positional_embedding")[0] ?? 0) - 1);
  const layers = [...header!.tensors.keys()].filter((k) => /^visual\..*resblocks\.\d+\.ln_1\.weight$/.test(k)).length;
  const json: z.input<typeof CLIPVisionConfig> = {
    hidden_size: width,
    intermediate_size: shape("transformer.resblocks.0.mlp.c_fc.weight")[0],
    num_hidden_layers: layers,
    num_attention_heads: heads(width),
    patch_size: patch,
    image_size: patch * side,
    projection_dim: shape("proj")[1],
    hidden_act: "gelu",
  };
  return parseConfig(CLIPVisionConfig, json, paths[0]!);
}

function keys({ open, paths, headers }: Source, owns: (key: string) => boolean): KeyMap {
  const has = (key: string): boolean => headers.some((h) => h.tensors.has(key));
  // open_clip's models with a text tower of their own class keep it below "text."
  const map = open ? openClipKeys("", has("text.token_embedding.weight") ? "text." : "") : dialectOf(paths);
  return { locate: (key) => key, ...map, owns };
}

function find(path: string): Source {
  if (PICKLE.test(path)) refuse(path, "a pickle", PICKLE_REASON);
  const isFolder = statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
  const openFile = join(path, "open_clip_model.safetensors");
  const useOpen = isFolder && existsSync(openFile) && !existsSync(join(path, "model.safetensors"));
  const paths = !isFolder ? [path] : useOpen ? [openFile] : weightFiles(path, "model").paths;
  const headers = paths.map(readSafetensorsHeader);
  const has = (key: string): boolean => headers.some((h) => h.tensors.has(key));
  const open = has("visual.class_embedding");
  if (!open && !["vision_model.embeddings.", "embeddings."].some((at) => has(`${at}class_embedding`)))
    refuse(path, "neither", "Take OpenCLIP ViT-H/14 for the tuning-encoder, CLIP ViT-B/16 for evaluation.");
  return { folder: isFolder ? path : dirname(path), paths, headers, open };
}

function refuse(where: string, found: string, next: string): never {
  const needed = "a CLIP vision tower, in transformers' keys (vision_model.*) or open_clip's (visual.*)";
  throw new LikenessError("E_MODEL", { what: "image encoder", where, needed, found, next });
}

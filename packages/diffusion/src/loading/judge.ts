/** What judges an evaluation: a judge trained here, or a CLIPModel of transformers or open_clip. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { type FileWeights, resizeBilinear, type Tensor } from "@likeness/engine";
import { JudgeConfig } from "../config/judge.ts";
import { parseConfig, readJson } from "../config/parse.ts";
import { textFeatures } from "../models/clip.ts";
import { clipVisionModel, imageEmbeds } from "../models/clip-vision.ts";
import { type JudgedPicture, judgePicture } from "../models/judge.ts";
import { type CLIPTokenizer, loadCLIPTokenizer } from "../tokenizers/index.ts";
import { clipPixels } from "../training/clip.ts";
import { loadCLIP } from "./clip.ts";
import { component } from "./component.ts";
import { weightFiles } from "./weight-files.ts";

export interface Judge {
  readonly files: FileWeights;
  readonly tokenizer: CLIPTokenizer;
  /** ids (B, L) int32 with the positions (B) of their ends → (B, D), not normalised. */
  text(ids: Tensor, eos: Tensor): Tensor;
  /** pixels (B, 3, H, W) in [−1, 1], of any size. A CLIPModel has one vector for both questions. */
  picture(pixels: Tensor): JudgedPicture;
}

/**
 * @param folder of a judge (config.json with "PictureJudge"), or of a CLIPModel; the tokenizer's files are in it, or in tokenizer/
 * @throws LikenessError, ConfigError, SafetensorsError or TokenizerError, each naming the file
 */
export function loadJudge(folder: string): Judge {
  const file = join(folder, "config.json");
  const json = existsSync(file) ? (readJson(file) as { architectures?: unknown } | null) : undefined;
  const own = Array.isArray(json?.architectures) && json.architectures[0] === "PictureJudge";
  const towers = own ? judgeTowers(folder, parseConfig(JudgeConfig, json, file)) : clipTowers(folder);
  const inside = join(folder, "tokenizer");
  return { ...towers, tokenizer: loadCLIPTokenizer(existsSync(inside) ? inside : folder) };
}

type Towers = Omit<Judge, "tokenizer">;

function judgeTowers(folder: string, config: JudgeConfig): Towers {
  const { weights: w, files } = component(config, weightFiles(folder, "model").paths, undefined);
  return {
    files,
    text: (ids, eos) => textFeatures(w, config, ids, eos),
    picture: (pixels) => judgePicture(w, config, sized(pixels, config.vision_config.image_size)),
  };
}

function clipTowers(folder: string): Towers {
  const { config, weights: w, files } = loadCLIP(folder);
  const vision = { ...config.vision_config, projection_dim: config.projection_dim };
  return {
    files,
    text: (ids, eos) => textFeatures(w, config, ids, eos),
    picture: (pixels) => {
      const { pooled } = clipVisionModel(w, vision, clipPixels(sized(pixels, vision.image_size)));
      const embeds = imageEmbeds(w, vision, pooled);
      return { embeds, instance: embeds };
    },
  };
}

const sized = (pixels: Tensor, side: number): Tensor => resizeBilinear(pixels, [side, side]);

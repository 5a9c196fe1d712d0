/** What a .safetensors file is, by its keys, shapes and metadata. Layouts: docs of diffusers, kohya-ss and cloneofsimo. */
import type { SafetensorsHeader } from "@likeness/engine";
import { checkpointText } from "./checkpoint.ts";

export type Kind =
  | "concept"
  | "kohya-lora"
  | "diffusers-lora"
  | "cloneofsimo-lora"
  | "textual-inversion"
  | "model-weights"
  | "model-checkpoint"
  | "pictures"
  | "training-checkpoint"
  | "latents"
  | "unknown";

export interface Verdict {
  readonly kind: Kind;
  /** The kind and its facts in words. */
  readonly text: string;
}

type Rule = (header: SafetensorsHeader, keys: readonly string[]) => Verdict | undefined;

/** The first rule that knows the file decides. */
export function verdict(header: SafetensorsHeader): Verdict {
  const keys = [...header.tensors.keys()];
  for (const rule of RULES) {
    const found = rule(header, keys);
    if (found) return found;
  }
  return { kind: "unknown", text: keys.length === 0 ? "no tensors" : "tensors of a layout that isn't known here" };
}

const concept: Rule = ({ metadata: m, tensors }) => {
  if (m["date.base"] === undefined) return undefined;
  const rank = m.ss_network_dim ? `, rank ${m.ss_network_dim}` : "";
  const base = `${m["date.base_name"] ?? "a base model"} (${m["date.base"]})`;
  const downs = [...tensors].filter(([k]) => k.endsWith(".lora_down.weight"));
  const convolutions = downs.filter(([, { shape }]) => shape.length === 4).length;
  const beside = convolutions > 0 ? ` and ${convolutions} convolutions, rank ${m["date.conv_rank"] ?? "unknown"}` : "";
  const hard = m["date.hard_token"] ? `, nearest word ${JSON.stringify(m["date.hard_token"])}` : "";
  const text = `concept ${m["date.token"] ?? "without a token"} for ${base}: ${downs.length - convolutions} matrices${rank}${beside}${hard}`;
  return { kind: "concept", text };
};

const cloneofsimo: Rule = ({ tensors }, keys) => {
  if (!keys.some((k) => /^(unet|text_encoder):\d+:(up|down)$/.test(k))) return undefined;
  const tokens = keys.filter((k) => /^<.*>$/.test(k));
  const named = tokens.length ? ` with ${tokens.join(", ")}` : "";
  return { kind: "cloneofsimo-lora", text: `cloneofsimo LoRA${named}${loraFacts(tensors, /^unet:\d+:down$/)}` };
};

const kohya: Rule = ({ tensors }, keys) =>
  keys.some((k) => /^lora_(unet|te\d?)_.+\.lora_(up|down)\.weight$/.test(k))
    ? { kind: "kohya-lora", text: `kohya LoRA${loraFacts(tensors, /\.lora_down\.weight$/)}` }
    : undefined;

const diffusers: Rule = ({ tensors }, keys) =>
  keys.some((k) => /(\.lora_[AB]|[._]lora\.(up|down)|\.lora_linear_layer\.(up|down))\.weight$/.test(k))
    ? { kind: "diffusers-lora", text: `diffusers LoRA${loraFacts(tensors, /(\.lora_A|[._]lora\.down)\.weight$/)}` }
    : undefined;

const textualInversion: Rule = ({ tensors }, keys) => {
  const [key = ""] = keys;
  const isPair = keys.length === 2 && keys.includes("clip_l") && keys.includes("clip_g");
  const single = keys.length === 1 && (/^<.+>$|^emb_params$/.test(key) || tensors.get(key)!.shape.join() === "768");
  if (!isPair && !single) return undefined;
  const { shape } = tensors.get(key)!;
  const name = /^<.+>$/.test(key) ? ` ${key}` : "";
  const vectors = shape.length > 1 ? shape[0]! : 1;
  const base = isPair ? "SDXL" : baseByWidth(shape.at(-1)!);
  return {
    kind: "textual-inversion",
    text: `textual inversion${name}: ${vectors} vector${vectors > 1 ? "s" : ""}, for ${base}`,
  };
};

/** Component → a key that only it has. */
const PARTS: readonly (readonly [name: string, mark: RegExp])[] = [
  ["UNet2DConditionModel", /^time_embedding\.linear_1\.weight$/],
  ["AutoencoderKL", /^decoder\.conv_in\.weight$/],
  ["CLIPTextModel", /(^|\.)embeddings\.token_embedding\.weight$/],
  ["CLIPVisionModel", /(^|\.)embeddings\.patch_embedding\.weight$/],
  ["open_clip's CLIP", /^visual\.class_embedding$/],
];

const oneFile: Rule = (header) => {
  const text = checkpointText(header);
  return text === undefined ? undefined : { kind: "model-checkpoint", text };
};

const model: Rule = (_header, keys) => {
  const parts = PARTS.filter(([, mark]) => keys.some((k) => mark.test(k))).map(([name]) => name);
  if (parts.length === 0) return undefined;
  const clip = parts.join() === "CLIPTextModel,CLIPVisionModel";
  return { kind: "model-weights", text: `weights of ${clip ? "CLIPModel" : parts.join(" and ")}` };
};

const pictures: Rule = ({ tensors, metadata }) => {
  const { dtype, shape } = tensors.get("images") ?? {};
  if (dtype !== "U8" || shape?.length !== 4 || metadata.captions === undefined) return undefined;
  return { kind: "pictures", text: `${shape[0]} captioned pictures of ${shape[2]}x${shape[1]} pixels` };
};

const checkpoint: Rule = ({ metadata }, keys) =>
  metadata.step !== undefined && keys.some((k) => k.startsWith("ema."))
    ? { kind: "training-checkpoint", text: `checkpoint of a training run at step ${metadata.step}` }
    : undefined;

const latents: Rule = ({ tensors }, keys) =>
  keys.join() === "latents"
    ? { kind: "latents", text: `latents of ${tensors.get("latents")!.shape[0]} pictures` }
    : undefined;

const RULES: readonly Rule[] = [
  concept,
  checkpoint,
  pictures,
  latents,
  cloneofsimo,
  kohya,
  diffusers,
  textualInversion,
  oneFile,
  model,
];

/** Rank and base model, off the shapes of the down matrices (r, in). */
function loraFacts(tensors: SafetensorsHeader["tensors"], down: RegExp): string {
  const shapes = [...tensors].filter(([k]) => down.test(k)).map(([, t]) => t.shape);
  const ranks = [...new Set(shapes.map((s) => s[0]!))].sort((a, b) => a - b);
  const cross = [...tensors].find(([k]) => /attn2[._](to|processor\.to)_k/.test(k) && down.test(k))?.[1].shape[1];
  // cloneofsimo's keys name no layer: the text width is the one that isn't a width of the UNet
  const widths = new Set(shapes.map((s) => s[1]!));
  const text = cross ?? [768, 1024, 2048].find((w) => widths.has(w));
  const rank = ranks.length === 0 ? "" : `, rank ${ranks.join(" and ")}`;
  return `: ${shapes.length} matrices${rank}${text === undefined ? "" : `, for ${baseByWidth(text)}`}`;
}

const BASES: Readonly<Record<number, string>> = { 768: "SD 1.x", 1024: "SD 2.x", 2048: "SDXL" };
const baseByWidth = (width: number): string => `${BASES[width] ?? "a model"} (text width ${width})`;

/** `--lora FILE[:SCALE]` and `--embedding FILE[:TOKEN]`: a model with what they add. */
import { basename } from "node:path";
import { type Lora, readEmbedding, readLora, type StableDiffusionModel, withAdapters } from "@likeness/diffusion";
import { brief, LikenessError } from "@likeness/engine/errors";
import { expectFile, look } from "./paths.ts";

export const LORA = {
  type: "string",
  hint: "FILE[:SCALE]",
  description: "a LoRA of diffusers, PEFT, kohya or cloneofsimo; several add up",
  multiple: true,
} as const;

export const EMBEDDING = {
  type: "string",
  hint: "FILE[:TOKEN]",
  description: "a textual inversion, and another word for it if you like; may stand several times",
  multiple: true,
  aliases: ["textual-inversion"],
} as const;

export interface AdapterFlags {
  readonly lora: readonly string[];
  readonly embedding: readonly string[];
}

export interface AdaptedModel {
  readonly model: StableDiffusionModel;
  /** What was added, for the settings in a picture: "LoRA" → "disney:0.8". */
  readonly settings: Readonly<Record<string, string>>;
}

/**
 * The model with the LoRAs and embeddings that flags name.
 * @param warn told of keys that were left out, and of files that change nothing
 * @throws LikenessError; see readLora, readEmbedding, withAdapters
 */
export function adapted(
  model: StableDiffusionModel,
  { lora, embedding }: AdapterFlags,
  warn: (text: string) => void,
): AdaptedModel {
  const loras = lora.map((text) => {
    const [path, end] = split("--lora", text, true);
    return { path, scale: scaleOf(end), lora: readLora(path, model, { scale: scaleOf(end) }) };
  });
  for (const { lora: l } of loras) tell(l, warn);
  const tokens = embedding.map((text) => {
    const [path, token] = split("--embedding", text);
    return { path, vectors: readEmbedding(path, model, token) };
  });
  const named = (path: string): string => basename(path).replace(/\.safetensors$/, "");
  return {
    model: withAdapters(model, { loras: loras.map((l) => l.lora), embeddings: tokens.flatMap((t) => t.vectors) }),
    settings: {
      ...(loras.length && { LoRA: loras.map(({ path, scale }) => `${named(path)}:${scale}`).join(" ") }),
      ...(tokens.length && { Embedding: tokens.flatMap((t) => t.vectors.map(({ token }) => token)).join(" ") }),
    },
  };
}

/** Words, not silence, about what a LoRA doesn't do. */
function tell({ path, report: { ignored, matched, zero } }: Lora, warn: (text: string) => void): void {
  const [first] = ignored;
  if (first) {
    const count = `${ignored.length} of ${ignored.length + matched.length} keys are left out`;
    warn(`${path}: ${count}, such as ${brief(first.key, 200)}: ${first.reason}`);
  }
  if (zero) warn(`${path}: all its up factors are zero: it changes nothing`);
}

/** The path, and what follows the first colon after which a path to something ends. */
function split(flag: string, text: string, folders = false): [path: string, end: string | undefined] {
  const cuts = [...text.matchAll(/:/g)].map(({ index }) => index).filter((i) => look(text.slice(0, i)));
  const at = look(text) ? text.length : (cuts[0] ?? text.length);
  const path = text.slice(0, at);
  const end = at < text.length ? text.slice(at + 1) : undefined;
  if (folders && look(path)?.isDirectory()) return [path, end];
  return [expectFile(flag, path), end];
}

function scaleOf(text: string | undefined): number {
  const scale = text === undefined ? 1 : text.trim() === "" ? Number.NaN : Number(text);
  if (Number.isFinite(scale)) return scale;
  const [what, where, needed] = ["--lora", "likeness generate", "a number after the file's colon, such as :0.8"];
  throw new LikenessError("E_USAGE", { what, where, needed, found: brief(text) });
}

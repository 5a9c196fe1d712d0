/** Files of textual inversion → vectors for new tokens (method.md 4.3). */
import { basename } from "node:path";
import { brief, LikenessError, readFloats, readSafetensorsHeader, type SafetensorsHeader } from "@likeness/engine";
import { familyOf, type LoraBase } from "./lora-modules.ts";
import { expectNoPickle } from "./pickle.ts";

/** A learned token: in prompts it stands for `count` vectors. */
export interface TokenVectors {
  readonly token: string;
  /** (count, D) row by row, D the width of the token table. */
  readonly vectors: Float32Array;
  readonly count: number;
  readonly path: string;
}

/** Names of the one tensor in files whose word is the file's name: A1111, kohya, ComfyUI, OneTrainer. */
const NAMELESS: ReadonlySet<string> = new Set(["emb_params", "clip_l", "string_to_param.*"]);

/**
 * Reads learned tokens: `learned_embeds.safetensors` of diffusers (its keys are the tokens), or `emb_params` of A1111
 * and kohya (its word is the file's name without extension).
 * @param token another word for it; only for files with one token
 * @throws LikenessError E_EMBEDDING if it is no embedding; E_EMBEDDING_BASE if it is for another width; SafetensorsError
 */
export function readEmbedding(
  path: string,
  base: LoraBase & { readonly name: string },
  token?: string,
): TokenVectors[] {
  expectNoPickle("embedding", path);
  const header = readSafetensorsHeader(path);
  const keys = [...header.tensors.keys()];
  if (keys.includes("clip_g")) throw otherBase(header, base, "SDXL");
  const isVectors = (key: string): boolean => [1, 2].includes(header.tensors.get(key)!.shape.length);
  const strange = keys.find((k) => !isVectors(k) || /\.weight$|^lora_|:(up|down)$/.test(k));
  if (keys.length === 0 || strange !== undefined)
    throw new LikenessError("E_EMBEDDING", {
      what: "embedding",
      where: path,
      needed: 'tensors (n, D) named by their token or "emb_params"',
      found: strange === undefined ? "no tensors" : brief(strange, 200),
      next: "A LoRA goes with --lora; see likeness inspect.",
    });
  if (token !== undefined && keys.length > 1)
    throw new LikenessError("E_EMBEDDING", {
      what: "embedding",
      where: path,
      needed: `a file with one token, to call it ${token}`,
      found: `${keys.length}: ${brief(keys)}`,
      next: "Leave the token out: the file names its own.",
    });
  const stem = basename(path).replace(/\.[^.]*$/, "");
  return keys.map((key) => tokenVectors(header, key, token ?? (NAMELESS.has(key) ? stem : key), base));
}

/** The vectors under a key. @throws LikenessError */
export function tokenVectors(
  header: SafetensorsHeader,
  key: string,
  token: string,
  base: LoraBase & { readonly name: string },
): TokenVectors {
  const { shape } = header.tensors.get(key)!;
  const width = base.textEncoder.config.hidden_size;
  const count = shape.length === 2 ? shape[0]! : 1;
  if (shape.at(-1) !== width || shape.length > 2) throw otherBase(header, base, familyOf(shape.at(-1) ?? 0));
  const vectors = readFloats(header, key);
  if (count === 0 || !vectors.every(Number.isFinite))
    throw new LikenessError("E_EMBEDDING", {
      what: brief(key, 200),
      where: header.path,
      needed: "one or more vectors of finite values",
      found: count === 0 ? "none" : "others",
      next: "The file is damaged.",
    });
  if (!/^\S+$/u.test(token))
    throw new LikenessError("E_EMBEDDING", {
      what: "token",
      where: header.path,
      needed: "a word without spaces",
      found: brief(token),
      next: "Give it one: --embedding FILE:TOKEN.",
    });
  return { token, vectors, count, path: header.path };
}

function otherBase(
  header: SafetensorsHeader,
  { name, textEncoder }: LoraBase & { readonly name: string },
  made: string,
): LikenessError {
  return new LikenessError("E_EMBEDDING_BASE", {
    what: "embedding",
    where: header.path,
    needed: `one for ${name}, ${familyOf(textEncoder.config.hidden_size)}`,
    found: `one for ${made}`,
    next: "Use it with its own base model.",
  });
}

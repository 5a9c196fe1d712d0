/** The judges: CLIP's two towers and the retrieval encoder as functions from texts and pictures to unit vectors. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import {
  type CLIPVisionConfig,
  type Component,
  clipPixels,
  clipTextModel,
  clipVisionModel,
  embedTokens,
  imageEmbeds,
  normalizeRows,
  pooledText,
  type StableDiffusionModel,
  textEmbeds,
  tokenFeeds,
  toPlanes,
} from "@likeness/diffusion";
import { type Feeds, input, LikenessError, openWeights, type Runtime, resizeBilinear } from "@likeness/engine";

/** Turns things into vectors of length one, so that a dot product is a cosine. */
export interface Embedder<T> {
  embed(things: readonly T[], signal?: AbortSignal): Promise<Float32Array[]>;
  release(): Promise<void>;
}

/** Where the text projection of a model's CLIP pair is: Stable Diffusion's folders have no place for it. */
export const projectionFile = (model: StableDiffusionModel): string =>
  join(model.folder, "image_encoder", "text_projection.safetensors");

/** @throws LikenessError if the model has no picture encoder with a text projection beside it */
export function expectClipPair({ imageEncoder, folder, ...model }: StableDiffusionModel): Component<CLIPVisionConfig> {
  const file = projectionFile({ imageEncoder, folder, ...model });
  if (imageEncoder && existsSync(file)) return imageEncoder;
  throw new LikenessError("E_MODEL", {
    what: "image_encoder",
    where: folder,
    needed: "CLIP's picture encoder with text_projection.safetensors beside it, which judge the pictures",
    found: imageEncoder ? "no text_projection.safetensors" : "no picture encoder",
    next: "Train a CLIP pair: likeness train with task clip.",
  });
}

/** Texts through the model's text encoder and its projection. Each text is computed once. */
export async function textEmbedder(
  runtime: Runtime,
  model: StableDiffusionModel,
  batch: number = 64,
): Promise<Embedder<string>> {
  const { projection_dim: dim } = expectClipPair(model).config;
  const { weights: w, config } = model.textEncoder;
  const ids = input("input_ids", [batch, model.tokenizer.modelMaxLength], "int32");
  const states = clipTextModel(w, config, { inputsEmbeds: embedTokens(w, config, ids) }).lastHiddenState;
  const pooled = pooledText(states, input("eos", [batch], "int32"));
  const projection = openWeights([projectionFile(model)]).weights();
  const program = await runtime.compile({ outputs: { y: normalizeRows(textEmbeds(projection, config, dim, pooled)) } });
  const known = new Map<string, Float32Array>();
  const feeds = (texts: readonly string[]): Feeds => ({ ...tokenFeeds(model.tokenizer, texts) });
  return {
    embed: async (texts, signal) => {
      const fresh = [...new Set(texts)].filter((t) => !known.has(t));
      const rows = await inBatches(fresh, batch, async (some) => (await program.run(feeds(some), { signal })).y!);
      for (const [i, row] of rows.entries()) known.set(fresh[i]!, row);
      return texts.map((t) => known.get(t)!);
    },
    release: () => program.release(),
  };
}

/** Pictures, (side, side, 3) bytes each, through a CLIP vision tower, resized to what it reads. */
export async function pictureEmbedder(
  runtime: Runtime,
  { weights: w, config }: Component<CLIPVisionConfig>,
  side: number,
  batch: number = 16,
): Promise<Embedder<Uint8Array>> {
  const to = config.image_size;
  const pixels = input("pixels", [batch, 3, side, side]);
  const sized = side === to ? pixels : resizeBilinear(pixels, [to, to]);
  const { pooled } = clipVisionModel(w, config, clipPixels(sized));
  const program = await runtime.compile({ outputs: { y: normalizeRows(imageEmbeds(w, config, pooled)) } });
  const planes = (pictures: readonly Uint8Array[]): Float32Array => {
    const all = new Float32Array(batch * 3 * side * side);
    for (const [i, p] of pictures.entries()) toPlanes(p, all.subarray(i * p.length, (i + 1) * p.length), side, side);
    return all;
  };
  return {
    embed: (pictures, signal) =>
      inBatches(pictures, batch, async (some) => (await program.run({ pixels: planes(some) }, { signal })).y!),
    release: () => program.release(),
  };
}

/** Rows of a program of fixed batch size; the last batch is filled up with its last thing. */
async function inBatches<T>(
  things: readonly T[],
  batch: number,
  run: (some: readonly T[]) => Promise<ArrayLike<number>>,
): Promise<Float32Array[]> {
  const rows: Float32Array[] = [];
  for (let at = 0; at < things.length; at += batch) {
    const some = things.slice(at, at + batch);
    const y = Float32Array.from(
      await run(Array.from({ length: batch }, (_, i) => some[Math.min(i, some.length - 1)]!)),
    );
    const d = y.length / batch;
    for (let i = 0; i < some.length; i++) rows.push(y.slice(i * d, (i + 1) * d));
  }
  return rows;
}

/** Dot product; a cosine of unit vectors. */
export const dot = (a: Float32Array, b: Float32Array): number => a.reduce((sum, x, i) => sum + x * b[i]!, 0);

/** Place of one score among all, from 1, largest first; equals count as before it. NaN is last. */
export const rankOf = (scores: readonly number[], right: number): number =>
  1 + scores.filter((s, i) => i !== right && !(s < scores[right]!)).length;

/** Entropy in nats of how often each thing was counted: 0 if one has all, ln(n) if n have the same. */
export function entropy(counts: readonly number[]): number {
  const total = counts.reduce((a, b) => a + b, 0);
  return counts.reduce((h, c) => (c === 0 ? h : h - (c / total) * Math.log(c / total)), 0);
}

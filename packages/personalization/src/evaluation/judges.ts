/** What the judges say about a picture. */
import { join } from "node:path";
import {
  type CLIPVisionConfig,
  type Component,
  cachedFloats,
  fingerprint,
  type StableDiffusionModel,
} from "@likeness/diffusion";
import type { Runtime } from "@likeness/engine";
import { dot, type Embedder, expectClipPair, pictureEmbedder, rankOf, textEmbedder } from "./metrics.ts";
import type { CellRecord, Named } from "./records.ts";
import { type Choice, captionOf, type EvaluationPrompt, type EvaluationSet, type Nouns } from "./set.ts";

export interface Judges {
  readonly text: Embedder<string>;
  readonly picture: Embedder<Uint8Array>;
  readonly instance: Embedder<Uint8Array>;
  /** Vectors of all instances by the retrieval encoder. */
  readonly instances: readonly Float32Array[];
  release(): Promise<void>;
}

/** The judges with the vectors of all instances, which are kept in the run's folder. */
export async function openJudges(
  runtime: Runtime,
  model: StableDiffusionModel,
  set: EvaluationSet,
  retrieval: Component<CLIPVisionConfig>,
  { run, signal }: { readonly run: string; readonly signal?: AbortSignal | undefined },
): Promise<Judges> {
  const side = model.resolution;
  const text = await textEmbedder(runtime, model);
  const picture = await pictureEmbedder(runtime, expectClipPair(model), side);
  const instance = await pictureEmbedder(runtime, retrieval, side);
  const source = fingerprint([set.path, ...retrieval.files.files.map((f) => f.path)]);
  const d = retrieval.config.projection_dim;
  const flat = await cachedFloats(join(run, "instances.safetensors"), source, async () => {
    const all = new Float32Array(set.instances * d);
    for (let at = 0; at < set.instances; at += 256) {
      const n = Math.min(256, set.instances - at);
      const rows = await instance.embed(
        Array.from({ length: n }, (_, i) => set.pictures.bytes(at + i)),
        signal,
      );
      for (const [i, row] of rows.entries()) all.set(row, (at + i) * d);
    }
    return all;
  });
  return {
    ...{ text, picture, instance },
    instances: Array.from({ length: set.instances }, (_, i) => flat.subarray(i * d, (i + 1) * d)),
    release: async () => {
      for (const embedder of [text, picture, instance]) await embedder.release();
    },
  };
}

/** For each picture, the place of the right instance among all, from 1. */
export async function instanceRanks(
  { instance, instances }: Judges,
  pictures: readonly Uint8Array[],
  right: number,
  signal?: AbortSignal,
): Promise<number[]> {
  const rows = await instance.embed(pictures, signal);
  return rows.map((row) =>
    rankOf(
      instances.map((other) => dot(row, other)),
      right,
    ),
  );
}

/** Pictures of a taught subject from one prompt. `photo` is the photo's vector by CLIP. */
export async function judgeCell(
  judges: Judges,
  pictures: readonly Uint8Array[],
  {
    prompt,
    subject,
    photo,
  }: { prompt: EvaluationPrompt; subject: EvaluationSet["subjects"][number]; photo: Float32Array },
  signal?: AbortSignal,
): Promise<Omit<CellRecord, "prompt">> {
  const { text, picture } = judges;
  const rows = await picture.embed(pictures, signal);
  const [caption] = await text.embed([captionOf(prompt.caption, subject.nouns)], signal);
  const told = await attributesOf(text, rows, prompt.choices, subject.nouns, signal);
  return {
    clip_i: rows.map((row) => dot(row, photo)),
    clip_t: rows.map((row) => dot(row, caption!)),
    rank: await instanceRanks(judges, pictures, subject.instance, signal),
    attributes: told,
  };
}

/** A picture for a prompt that names its subject. */
export async function judgeBackbone(
  { text, picture }: Pick<Judges, "text" | "picture">,
  pixels: Uint8Array,
  { caption, choices, name }: EvaluationSet["backbone"]["prompts"][number],
  names: readonly Nouns[],
  signal?: AbortSignal,
): Promise<Named> {
  const rows = await picture.embed([pixels], signal);
  const captions = await text.embed(
    names.map((nouns) => captionOf(caption, nouns)),
    signal,
  );
  const scores = captions.map((c) => dot(c, rows[0]!));
  const told = await attributesOf(text, rows, choices, names[name]!, signal);
  const attributes = Object.fromEntries(Object.entries(told).map(([key, [right]]) => [key, right!]));
  return { clip_t: scores[name]!, rank: rankOf(scores, name), attributes };
}

/** For each attribute, 1 for each picture that the right caption fits best. */
async function attributesOf(
  text: Embedder<string>,
  pictures: readonly Float32Array[],
  choices: readonly Choice[],
  nouns: Nouns,
  signal?: AbortSignal,
): Promise<Record<string, number[]>> {
  const told: Record<string, number[]> = {};
  for (const { attribute, right, captions } of choices) {
    const rows = await text.embed(
      captions.map((c) => captionOf(c, nouns)),
      signal,
    );
    told[attribute] = pictures.map((p) =>
      Number(
        rankOf(
          rows.map((row) => dot(row, p)),
          right,
        ) === 1,
      ),
    );
  }
  return told;
}

/** What the judge says about a picture. */
import { join } from "node:path";
import { cachedFloats, fingerprint, type Judge, pathsOf } from "@likeness/diffusion";
import type { Runtime } from "@likeness/engine";
import { dot, type Embedder, pictureEmbedder, rankOf, type Seen, textEmbedder } from "./metrics.ts";
import type { CellRecord, Named } from "./records.ts";
import { type Choice, captionOf, type EvaluationPrompt, type EvaluationSet, type Nouns } from "./set.ts";

export interface OpenJudge {
  readonly text: Embedder<string, Float32Array>;
  readonly picture: Embedder<Uint8Array, Seen>;
  /** Vectors of all instances. */
  readonly instances: readonly Float32Array[];
  release(): Promise<void>;
}

/** The judge with the vectors of all instances, which are kept in the run's folder. */
export async function openJudge(
  runtime: Runtime,
  judge: Judge,
  set: EvaluationSet,
  { run, signal }: { readonly run: string; readonly signal?: AbortSignal | undefined },
): Promise<OpenJudge> {
  const text = await textEmbedder(runtime, judge);
  const picture = await pictureEmbedder(runtime, judge, set.pictures.height);
  const source = fingerprint([set.path, ...pathsOf(judge)]);
  const flat = await cachedFloats(join(run, "instances.safetensors"), source, async () => {
    const rows: Float32Array[] = [];
    for (let at = 0; at < set.instances; at += 256) {
      const n = Math.min(256, set.instances - at);
      const some = Array.from({ length: n }, (_, i) => set.pictures.bytes(at + i));
      rows.push(...(await picture.embed(some, signal)).map((seen) => seen.instance));
    }
    const all = new Float32Array(rows.length * rows[0]!.length);
    for (const [i, row] of rows.entries()) all.set(row, i * row.length);
    return all;
  });
  const d = flat.length / set.instances;
  return {
    ...{ text, picture },
    instances: Array.from({ length: set.instances }, (_, i) => flat.subarray(i * d, (i + 1) * d)),
    release: async () => {
      for (const embedder of [text, picture]) await embedder.release();
    },
  };
}

/** The place of the right instance among all, from 1. */
export const instanceRank = ({ instances }: OpenJudge, { instance }: Seen, right: number): number =>
  rankOf(
    instances.map((other) => dot(instance, other)),
    right,
  );

/** A picture of a taught subject from one prompt. */
export async function judgeCell(
  judge: OpenJudge,
  picture: Seen,
  { prompt, subject, photo }: { prompt: EvaluationPrompt; subject: EvaluationSet["subjects"][number]; photo: Seen },
  signal?: AbortSignal,
): Promise<Omit<CellRecord, "prompt">> {
  const [caption] = await judge.text.embed([captionOf(prompt.caption, subject.nouns)], signal);
  return {
    clip_i: dot(picture.embeds, photo.embeds),
    clip_t: dot(picture.embeds, caption!),
    instance: dot(picture.instance, photo.instance),
    rank: instanceRank(judge, picture, subject.instance),
    attributes: await attributesOf(judge.text, picture, prompt.choices, subject.nouns, signal),
  };
}

/** A picture for a prompt that names its subject. */
export async function judgeBackbone(
  { text, picture }: Pick<OpenJudge, "text" | "picture">,
  pixels: Uint8Array,
  { caption, choices, name }: EvaluationSet["backbone"]["prompts"][number],
  names: readonly Nouns[],
  signal?: AbortSignal,
): Promise<Named> {
  const [seen] = await picture.embed([pixels], signal);
  const captions = await text.embed(
    names.map((nouns) => captionOf(caption, nouns)),
    signal,
  );
  const scores = captions.map((c) => dot(c, seen!.embeds));
  const attributes = await attributesOf(text, seen!, choices, names[name]!, signal);
  return { clip_t: scores[name]!, rank: rankOf(scores, name), attributes };
}

/** For each attribute, 1 if the right caption fits the picture best. */
async function attributesOf(
  text: OpenJudge["text"],
  picture: Seen,
  choices: readonly Choice[],
  nouns: Nouns,
  signal?: AbortSignal,
): Promise<Record<string, number>> {
  const told: Record<string, number> = {};
  for (const { attribute, right, captions } of choices) {
    const rows = await text.embed(
      captions.map((c) => captionOf(c, nouns)),
      signal,
    );
    const scores = rows.map((row) => dot(row, picture.embeds));
    told[attribute] = Number(rankOf(scores, right) === 1);
  }
  return told;
}

/** A judge's towers as functions from texts and pictures to unit vectors. */
import { type Judge, normalizeRows, tokenFeeds, toPlanes } from "@likeness/diffusion";
import { type Feeds, input, type Runtime } from "@likeness/engine";

/** Turns things into vectors of length one, so that a dot product is a cosine. */
export interface Embedder<T, V> {
  embed(things: readonly T[], signal?: AbortSignal): Promise<V[]>;
  release(): Promise<void>;
}

/** What a judge sees in a picture: a vector to compare with texts, one to compare with other pictures. */
export interface Seen {
  readonly embeds: Float32Array;
  readonly instance: Float32Array;
}

/** Each text is computed once. */
export async function textEmbedder(
  runtime: Runtime,
  judge: Judge,
  batch: number = 64,
): Promise<Embedder<string, Float32Array>> {
  const ids = input("input_ids", [batch, judge.tokenizer.modelMaxLength], "int32");
  const y = normalizeRows(judge.text(ids, input("eos", [batch], "int32")));
  const program = await runtime.compile({ outputs: { y } });
  const known = new Map<string, Float32Array>();
  const feeds = (texts: readonly string[]): Feeds => ({ ...tokenFeeds(judge.tokenizer, texts) });
  return {
    embed: async (texts, signal) => {
      const fresh = [...new Set(texts)].filter((t) => !known.has(t));
      const { y } = await inBatches(fresh, batch, (some) => program.run(feeds(some), { signal }));
      for (const [i, row] of (y ?? []).entries()) known.set(fresh[i]!, row);
      return texts.map((t) => known.get(t)!);
    },
    release: () => program.release(),
  };
}

/** Pictures, (side, side, 3) bytes each. */
export async function pictureEmbedder(
  runtime: Runtime,
  judge: Judge,
  side: number,
  batch: number = 16,
): Promise<Embedder<Uint8Array, Seen>> {
  const { embeds, instance } = judge.picture(input("pixels", [batch, 3, side, side]));
  const program = await runtime.compile({
    outputs: { embeds: normalizeRows(embeds), instance: normalizeRows(instance) },
  });
  const planes = (pictures: readonly Uint8Array[]): Float32Array => {
    const all = new Float32Array(batch * 3 * side * side);
    for (const [i, p] of pictures.entries()) toPlanes(p, all.subarray(i * p.length, (i + 1) * p.length), side, side);
    return all;
  };
  return {
    embed: async (pictures, signal) => {
      const rows = await inBatches(pictures, batch, (some) => program.run({ pixels: planes(some) }, { signal }));
      return pictures.map((_, i) => ({ embeds: rows.embeds![i]!, instance: rows.instance![i]! }));
    },
    release: () => program.release(),
  };
}

/** Rows of each output of a program of fixed batch size; the last batch is filled up with its last thing. */
async function inBatches<T>(
  things: readonly T[],
  batch: number,
  run: (some: readonly T[]) => Promise<Readonly<Record<string, ArrayLike<number>>>>,
): Promise<Record<string, Float32Array[]>> {
  const rows: Record<string, Float32Array[]> = {};
  for (let at = 0; at < things.length; at += batch) {
    const some = things.slice(at, at + batch);
    const outputs = await run(Array.from({ length: batch }, (_, i) => some[Math.min(i, some.length - 1)]!));
    for (const [name, values] of Object.entries(outputs)) {
      const y = Float32Array.from(values);
      const d = y.length / batch;
      for (let i = 0; i < some.length; i++) (rows[name] ??= []).push(y.slice(i * d, (i + 1) * d));
    }
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

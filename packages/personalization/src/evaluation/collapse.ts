/** What becomes of the embedding and the offsets: does the encoder say one word for everything, do norms run away? */
import type { StableDiffusionModel } from "@likeness/diffusion";
import type { Runtime } from "@likeness/engine";
import type { Concept } from "../concept.ts";
import { wordTable } from "../method/personal-unet.ts";
import type { ConceptRecord } from "./records.ts";

/** Rows of the words' table, read once. */
export interface Words {
  readonly ids: Int32Array;
  /** (words, D) */
  readonly rows: Float32Array;
}

export async function readWords(runtime: Runtime, model: StableDiffusionModel): Promise<Words> {
  const { ids, table } = wordTable(model);
  const { table: rows } = await runtime.evaluate({ table });
  return { ids, rows: rows as Float32Array };
}

type Shape = Pick<ConceptRecord, "word" | "cosine" | "norm" | "offsets">;

/** Nearest word by cosine, that cosine, ‖v‖, and the mean over all matrices of ‖(α/r)·A·B‖²_F. */
export function shapeOf(
  { embedding: v, factors, rank, loraAlpha }: Concept,
  words: Words,
  model: StableDiffusionModel,
): Shape {
  const d = v.length;
  let [best, cosine] = [0, Number.NEGATIVE_INFINITY];
  const norm = Math.hypot(...v);
  for (let i = 0; i < words.ids.length; i++) {
    const row = words.rows.subarray(i * d, (i + 1) * d);
    let [along, square] = [0, 0];
    for (let j = 0; j < d; j++) {
      along += v[j]! * row[j]!;
      square += row[j]! ** 2;
    }
    const c = along / (norm * Math.sqrt(square));
    if (c > cosine) [best, cosine] = [i, c];
  }
  const total = factors.reduce((sum, { a, b }) => sum + productNorm(a, b, rank), 0);
  return {
    word: model.tokenizer.decode([words.ids[best]!]).trim(),
    cosine,
    norm,
    offsets: ((loraAlpha / rank) ** 2 * total) / factors.length,
  };
}

/** ‖A·B‖²_F of A (in, r) and B (r, out) as Σ (AᵀA)∘(B·Bᵀ): never makes the product. */
export function productNorm(a: Float32Array, b: Float32Array, r: number): number {
  const [n, m] = [a.length / r, b.length / r];
  let sum = 0;
  for (let i = 0; i < r; i++)
    for (let j = 0; j < r; j++) {
      let [left, right] = [0, 0];
      for (let k = 0; k < n; k++) left += a[k * r + i]! * a[k * r + j]!;
      for (let k = 0; k < m; k++) right += b[i * m + k]! * b[j * m + k]!;
      sum += left * right;
    }
  return sum;
}

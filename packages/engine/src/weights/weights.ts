/** Weights as models read them: by the checkpoint's own keys, whatever lies behind. */
import type { Shape, Tensor } from "../core/tensor.ts";

/** How a weight starts when a model is made to be trained. */
export type Init =
  | { readonly kind: "zeros" }
  | { readonly kind: "ones" }
  | { readonly kind: "normal"; readonly std: number; readonly mean?: number }
  | { readonly kind: "uniform"; readonly bound: number };

/** A low-rank change of one matrix, y = x·Wᵀ + scale·(x·a)·b (Eq. 2 of the paper), or of one convolution. */
export interface LowRank {
  /** (in, r), or (B, in, r) with one change per sample of the batch; of a convolution (r, in, kh, kw), with its stride */
  readonly a: Tensor;
  /** (r, out) or (B, r, out); of a convolution (out, r, 1, 1) */
  readonly b: Tensor;
  /** One for all, or one for each of the batch, (B). */
  readonly scale: number | Tensor;
}

export interface Weights {
  /** What this view's keys begin with, "" or ending in a dot. */
  readonly prefix: string;
  /** The weight under `key` below this view. @throws WeightError if it is missing or of another shape */
  get(key: string, shape: Shape, init?: Init): Tensor;
  has(key: string): boolean;
  /** The view on `name.…` below this one. */
  at(name: string): Weights;
  /** The low-rank changes of the matrix under `key` that this view carries; they add up. */
  lowRank(key: string): readonly LowRank[];
}

/** A weight that the model needs is missing, of another shape, or left over. */
export class WeightError extends Error {
  override readonly name = "WeightError";
  readonly code: "E_WEIGHT_MISSING" | "E_WEIGHT_SHAPE" | "E_WEIGHT_UNREAD";
  constructor(code: WeightError["code"], message: string) {
    super(`${message} [${code}]`);
    this.code = code;
  }
}

/** A source of weights by full key; `view` makes a Weights of it. */
export interface WeightSource {
  get(key: string, shape: Shape, init?: Init): Tensor;
  has(key: string): boolean;
  lowRank?(key: string): readonly LowRank[];
}

export const view = (source: WeightSource, prefix: string = ""): Weights => ({
  prefix,
  get: (key, shape, init) => source.get(prefix + key, shape, init),
  has: (key) => source.has(prefix + key),
  at: (name) => view(source, `${prefix}${name}.`),
  lowRank: (key) => source.lowRank?.(prefix + key) ?? [],
});

/** `base` with low-rank changes on some matrices beside those it has, by full key of the matrix ("….to_q.weight"). */
export const withLowRank = (base: Weights, changes: ReadonlyMap<string, LowRank>): Weights =>
  view({
    get: (key, shape, init) => base.get(key, shape, init),
    has: (key) => base.has(key),
    lowRank: (key) => (changes.has(key) ? [...base.lowRank(key), changes.get(key)!] : base.lowRank(key)),
  });

/** Weights mapped from .safetensors files. */
import { weight } from "../core/leaves.ts";
import { sameShape, show } from "../core/shape.ts";
import type { Shape, Tensor } from "../core/tensor.ts";
import { readSafetensorsHeader, SafetensorsError, type SafetensorsHeader, weightRef } from "./safetensors.ts";
import { view, WeightError, type Weights } from "./weights.ts";

/** All tensors of some files under their keys; each key once. */
export class FileWeights {
  readonly files: readonly SafetensorsHeader[];
  private readonly where = new Map<string, SafetensorsHeader>();
  private readonly read = new Set<string>();
  /** Keys that a model may ask for under another name: asked → stored. */
  private readonly rename: (key: string) => string;

  constructor(paths: readonly string[], rename: (key: string) => string = (k) => k) {
    this.files = paths.map(readSafetensorsHeader);
    this.rename = rename;
    for (const file of this.files)
      for (const key of file.tensors.keys()) {
        const before = this.where.get(key);
        if (before)
          throw new SafetensorsError(file.path, {
            what: key,
            needed: "each key once",
            found: `it in ${before.path} too`,
          });
        this.where.set(key, file);
      }
  }

  get(key: string, shape: Shape): Tensor {
    const stored = this.rename(key);
    const file = this.where.get(stored);
    const names = this.files.map((f) => f.path).join(", ");
    if (!file)
      throw new WeightError(
        "E_WEIGHT_MISSING",
        `${stored}: needed shape ${show(shape)}, found no such key in ${names}.`,
      );
    const found = file.tensors.get(stored)!.shape;
    if (!sameShape(found, shape))
      throw new WeightError(
        "E_WEIGHT_SHAPE",
        `${stored}: needed shape ${show(shape)} by the config, found ${show(found)} in ${file.path}.`,
      );
    this.read.add(stored);
    return weight(weightRef(file, stored));
  }

  has(key: string): boolean {
    return this.where.has(this.rename(key));
  }

  weights(): Weights {
    return view(this);
  }

  keys(): string[] {
    return [...this.where.keys()];
  }

  /** Keys that no model has read so far. */
  unread(): string[] {
    return this.keys().filter((k) => !this.read.has(k));
  }
}

/** The weights of some files together. @throws SafetensorsError */
export const openWeights = (paths: readonly string[], rename?: (key: string) => string): FileWeights =>
  new FileWeights(paths, rename);

/** Weights mapped from .safetensors files. */
import { type WeightRef, weight } from "../core/leaves.ts";
import { sameShape, show } from "../core/shape.ts";
import type { Shape, Tensor } from "../core/tensor.ts";
import { brief } from "../errors.ts";
import { transpose } from "../ops/movement.ts";
import { readSafetensorsHeader, SafetensorsError, type SafetensorsHeader, weightRef } from "./safetensors.ts";
import { view, WeightError, type Weights } from "./weights.ts";

/** How a file keeps a tensor that models ask for under another key; the bytes stay where they are. */
export interface Stored {
  readonly key: string;
  /** Rows `index` of `of` equal parts along the first axis: q, k and v in one matrix. */
  readonly part?: { readonly index: number; readonly of: number };
  /** A matrix kept as (in, out); it is turned in the graph. */
  readonly transposed?: boolean;
  /** A matrix kept as the kernel of a 1×1 convolution: axes of length 1 at the end don't count. */
  readonly flat?: boolean;
}

/** Another spelling of keys. */
export interface KeyMap {
  /** Where the tensor is that models ask for under `key`. */
  locate(key: string): string | Stored;
  /** Whether a stored key is the model's at all; all are, if not given. */
  owns?(stored: string): boolean;
}

/** All tensors of some files under their keys; each key once. */
export class FileWeights {
  readonly files: readonly SafetensorsHeader[];
  private readonly where = new Map<string, SafetensorsHeader>();
  /** Stored key → parts that models have read, of how many. */
  private readonly read = new Map<string, { readonly parts: Set<number>; readonly of: number }>();
  private readonly map: KeyMap;

  constructor(paths: readonly string[], map: KeyMap = { locate: (key) => key }) {
    this.files = paths.map(readSafetensorsHeader);
    this.map = map;
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
    const stored = this.stored(key);
    const file = this.where.get(stored.key);
    const names = this.files.map((f) => f.path).join(", ");
    if (!file)
      throw new WeightError(
        "E_WEIGHT_MISSING",
        `${stored.key}: needed shape ${show(shape)}, found no such key in ${names}.`,
      );
    const ref = partOf(weightRef(file, stored.key), stored, stored.transposed ? [...shape].reverse() : shape);
    const found = stored.transposed ? [...ref.shape].reverse() : ref.shape;
    if (!sameShape(found, shape))
      throw new WeightError(
        "E_WEIGHT_SHAPE",
        `${stored.key}: needed shape ${show(shape)} by the config, found ${show(found)} in ${file.path}.`,
      );
    const { index, of } = stored.part ?? { index: 0, of: 1 };
    if (!this.read.has(stored.key)) this.read.set(stored.key, { parts: new Set(), of });
    this.read.get(stored.key)!.parts.add(index);
    return stored.transposed ? transpose(weight(ref), [1, 0]) : weight(ref);
  }

  has(key: string): boolean {
    return this.where.has(this.stored(key).key);
  }

  weights(): Weights {
    return view(this);
  }

  /** Stored keys, without those of other models in the same files. */
  keys(): string[] {
    return [...this.where.keys()].filter((k) => this.map.owns?.(k) ?? true);
  }

  /** Keys that no model has read so far, or not in all parts. */
  unread(): string[] {
    return this.keys().filter((k) => {
      const read = this.read.get(k);
      return !read || read.parts.size < read.of;
    });
  }

  private stored(key: string): Stored {
    const found = this.map.locate(key);
    return typeof found === "string" ? { key: found } : found;
  }
}

/** The bytes of one part; `flat` takes the wanted shape if only axes of length 1 tell the two apart. */
function partOf(ref: WeightRef, { key, part, flat }: Stored, wanted: Shape): WeightRef {
  const [rows = 1, ...rest] = ref.shape;
  if (part && rows % part.of !== 0)
    throw new SafetensorsError(ref.file, {
      what: brief(key),
      needed: `a first axis that ${part.of} divides`,
      found: String(rows),
    });
  const length = part ? ref.length / part.of : ref.length;
  const cut: WeightRef = part
    ? { ...ref, offset: ref.offset + part.index * length, length, shape: [rows / part.of, ...rest] }
    : ref;
  const bare = (shape: Shape): Shape => shape.slice(0, shape.findLastIndex((d) => d !== 1) + 1);
  return flat && sameShape(bare(cut.shape), bare(wanted)) ? { ...cut, shape: wanted } : cut;
}

/** The weights of some files together. @throws SafetensorsError */
export const openWeights = (paths: readonly string[], map?: KeyMap): FileWeights => new FileWeights(paths, map);

/** Weights that are trained: variables made on first use, with their start values. */

import { variable } from "../core/leaves.ts";
import { sameShape, show, size } from "../core/shape.ts";
import type { Shape, Tensor } from "../core/tensor.ts";
import { counterRandom } from "../random/index.ts";
import type { Runtime } from "../runtime/types.ts";
import { type Init, view, WeightError, type Weights } from "./weights.ts";

export class Variables {
  private readonly tensors = new Map<string, Tensor>();
  private readonly values = new Map<string, Float32Array>();
  private readonly start: (key: string) => Float32Array | undefined;
  private readonly seed: number;

  /** @param start values to begin with instead of the init, by key (a checkpoint) */
  constructor({
    seed = 0,
    start = () => undefined,
  }: { seed?: number; start?: (key: string) => Float32Array | undefined } = {}) {
    this.seed = seed;
    this.start = start;
  }

  /** The view that models read; each variable is named `${name}${key}`. */
  weights(name: string = ""): Weights {
    return view({ get: (key, shape, init) => this.get(name + key, shape, init), has: () => true });
  }

  get(key: string, shape: Shape, init: Init = { kind: "normal", std: 0.02 }): Tensor {
    const before = this.tensors.get(key);
    if (before) {
      if (!sameShape(before.shape, shape))
        throw new WeightError("E_WEIGHT_SHAPE", `${key}: needed shape ${show(shape)}, found ${show(before.shape)}.`);
      return before;
    }
    const value = this.start(key) ?? initialize(shape, init, this.seed, key);
    if (value.length !== size(shape))
      throw new WeightError("E_WEIGHT_SHAPE", `${key}: needed shape ${show(shape)}, found ${value.length} values.`);
    const made = variable(key, shape);
    this.tensors.set(key, made);
    this.values.set(key, value);
    return made;
  }

  /** All variables so far, in order of creation. */
  all(): Tensor[] {
    return [...this.tensors.values()];
  }

  count(): number {
    return this.all().reduce((n, t) => n + size(t.shape), 0);
  }

  /** Puts the start values into the runtime. */
  async load(runtime: Runtime): Promise<void> {
    const shapes = Object.fromEntries([...this.tensors].map(([k, t]) => [k, t.shape]));
    await runtime.write(Object.fromEntries(this.values), shapes);
  }
}

/** Start values of one weight; they depend on the seed and the key alone, not on the order of creation. */
export function initialize(shape: Shape, init: Init, seed: number, key: string): Float32Array {
  const n = size(shape);
  if (init.kind === "zeros" || init.kind === "ones") return new Float32Array(n).fill(init.kind === "ones" ? 1 : 0);
  const random = counterRandom(seed, key);
  if (init.kind === "uniform") return random.uniform(n).map((u) => (2 * u - 1) * init.bound);
  const { std, mean = 0 } = init;
  return random.normal(n).map((z) => mean + std * z);
}

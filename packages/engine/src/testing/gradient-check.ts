/** Finite differences: the slope along one random direction against the gradient's. */
import { constant } from "../core/op.ts";
import { size } from "../core/shape.ts";
import type { Tensor } from "../core/tensor.ts";
import { add, mul } from "../ops/arithmetic.ts";
import { sum } from "../ops/reduce.ts";
import { evaluate } from "../runtime/runtime.ts";
import { grad } from "../transforms/grad.ts";

/** Deterministic pseudo-random values in [lo, hi). */
export function ramp(n: number, seed: number, [lo, hi]: readonly [number, number] = [-1, 1]): Float32Array {
  let state = (seed * 2654435761 + 12345) >>> 0;
  return Float32Array.from({ length: n }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return lo + ((state >>> 0) / 2 ** 32) * (hi - lo);
  });
}

/**
 * |slope of f along v − ⟨∇f, v⟩| for random directions v, over its usual size ‖∇f‖·‖v‖/√n (JAX's check_vjp). Only
 * float32 entries of `xs` move. eps suits float32.
 */
export async function vjpError(
  f: (...xs: Tensor[]) => Tensor,
  xs: readonly Tensor[],
  eps: number = 1e-2,
): Promise<number> {
  const moving = xs.map((x, i) => [x, i] as const).filter(([x]) => x.dtype === "float32");
  const vs = moving.map(([x], i) => constant(ramp(size(x.shape), 100 + i), x.shape));
  const y = f(...xs);
  const dy = constant(ramp(size(y.shape), 99), y.shape);
  const inner = (a: readonly Tensor[], b: readonly Tensor[]): Tensor => a.map((t, i) => sum(mul(t, b[i]!))).reduce(add);
  const at = (e: number): Tensor => {
    const moved = [...xs];
    for (const [k, [x, i]] of moving.entries()) moved[i] = add(x, mul(vs[k]!, e));
    return inner([f(...moved)], [dy]);
  };
  const gs = grad(
    inner([y], [dy]),
    moving.map(([x]) => x),
  );
  const r = await evaluate({ up: at(eps), down: at(-eps), slope: inner(gs, vs), gg: inner(gs, gs), vv: inner(vs, vs) });
  const n = moving.reduce((count, [x]) => count + size(x.shape), 0);
  const found = (r.up[0]! - r.down[0]!) / (2 * eps);
  return Math.abs(found - r.slope[0]!) * Math.sqrt(n / (r.gg[0]! * r.vv[0]! + 1e-30));
}

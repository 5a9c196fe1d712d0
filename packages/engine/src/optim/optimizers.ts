/** Optimizers as graphs: new parameter values and new state as tensors, to be compiled as a program's updates. */
import { input, leafName, variable } from "../core/leaves.ts";
import { constant } from "../core/op.ts";
import { size } from "../core/shape.ts";
import type { Shape, Tensor } from "../core/tensor.ts";
import { add, div, maximum, minimum, mul, sqrt, square, sub } from "../ops/arithmetic.ts";
import { dot, matmul } from "../ops/matmul.ts";
import { concat, reshape, split, unsqueeze } from "../ops/movement.ts";
import { sum } from "../ops/reduce.ts";
import type { Feeds, Runtime } from "../runtime/types.ts";

export interface Optimizer {
  readonly updates: readonly (readonly [Tensor, Tensor])[];
  /** Norm of the whole gradient before clipping: a scalar. */
  readonly gradNorm: Tensor;
  /** State variables, zero at the start. */
  readonly state: readonly { readonly name: string; readonly shape: Shape }[];
  /** Inputs of one run; `step` counts from 1. */
  feeds(step: number, lr: number): Feeds;
}

export interface AdamWOptions {
  readonly betas?: readonly [number, number];
  readonly eps?: number;
  /** Decoupled decay, per unit of learning rate; a function decides by the parameter's name. */
  readonly weightDecay?: number | ((name: string) => number);
  /** Gradients are scaled down to this global norm if they exceed it. */
  readonly maxGradNorm?: number;
  /** Factor on the learning rate by the parameter's name. */
  readonly lrScale?: (name: string) => number;
  /** Keeps an exponential moving average of each parameter in variables "ema.NAME". */
  readonly emaDecay?: number;
}

export interface MuonOptions extends AdamWOptions {
  /** Which parameters are orthogonalised, as matrices of shape[0] rows; AdamW takes the others, all if left out. */
  readonly matrices?: (name: string, shape: Shape) => boolean;
  readonly momentum?: number;
}

/**
 * AdamW, as torch.optim.AdamW: decay, then moments, then θ ← θ − lr/c₁ · m / (√(v/c₂) + eps), with the bias
 * corrections c₁ = 1 − β₁ᵗ and c₂ = 1 − β₂ᵗ fed at each run; here both sides of the fraction are times √c₂. Loshchilov & Hutter 2019, arXiv:1711.05101.
 */
export const adamW = (params: readonly Tensor[], grads: readonly Tensor[], options: AdamWOptions = {}): Optimizer =>
  muon(params, grads, options);

/**
 * Muon, as torch.optim.Muon with Nesterov momentum and adjust_lr_fn "match_rms_adamw", which makes AdamW's learning rate
 * right for it: b ← μ·b + (1 − μ)·g and θ ← θ − 0.2·√(larger side)·lr · orthogonal((1 − μ)·g + μ·b), after the same
 * decay as AdamW's. Jordan et al. 2024, kellerjordan.github.io/posts/muon; Liu et al. 2025, arXiv:2502.16982.
 */
export function muon(params: readonly Tensor[], grads: readonly Tensor[], options: MuonOptions): Optimizer {
  const {
    betas: [b1, b2] = [0.9, 0.999],
    eps = 1e-8,
    weightDecay = 0,
    maxGradNorm,
    lrScale = () => 1,
    emaDecay,
    matrices: isMatrix = () => false,
    momentum = 0.95,
  } = options;
  const lr = input("optimizer.lr", []);
  const stepSize = input("optimizer.step_size", []); // lr·√c₂ / c₁
  const root = input("optimizer.root", []); // √c₂
  const gradNorm = globalNorm(grads);
  // Every pass over the parameters costs as much as the step has memory to move: factors are folded into scalars.
  const clip = maxGradNorm === undefined ? constant(1) : minimum(constant(1), div(maxGradNorm, add(gradNorm, 1e-6)));
  const gain = mul(clip, 1 - b1);
  const gain2 = mul(square(clip), 1 - b2);
  const tiny = mul(root, eps);
  const push = mul(clip, 1 - momentum);
  const state: { name: string; shape: Shape }[] = [];
  const keep = (name: string, shape: Shape): Tensor => {
    state.push({ name, shape });
    return variable(name, shape);
  };
  const decayOf = (name: string): number => (typeof weightDecay === "function" ? weightDecay(name) : weightDecay);
  /** New state of a parameter, and what its value loses. */
  const adam = (p: Tensor, name: string, grad: Tensor): [states: Optimizer["updates"], loss: Tensor] => {
    const [m, v] = [keep(`adamw.m.${name}`, p.shape), keep(`adamw.v.${name}`, p.shape)];
    const m2 = add(mul(m, b1), mul(grad, gain));
    const v2 = add(mul(v, b2), mul(square(grad), gain2));
    const rate = lrScale(name) === 1 ? stepSize : mul(stepSize, lrScale(name));
    const states = [
      [m, m2],
      [v, v2],
    ] as const;
    return [states, mul(rate, div(m2, add(sqrt(v2), tiny)))];
  };
  const ready = byReadiness(params, grads);
  const matrices = new Set(params.filter((p) => isMatrix(leafName(p), p.shape)));
  /** New momentum of a matrix, and what is orthogonalised. */
  const pushes = new Map(
    ready
      .filter(([p]) => matrices.has(p))
      .map(([p, grad]) => {
        const b = keep(`muon.momentum.${leafName(p)}`, p.shape);
        const pushed = mul(grad, push);
        const next = add(mul(b, momentum), pushed);
        const matrix = reshape(add(pushed, mul(next, momentum)), [p.shape[0]!, -1]);
        return [p, { state: [b, next] as const, matrix }];
      }),
  );
  const directions = orthogonaliseAll([...pushes].map(([p, { matrix }]) => [p, matrix]));
  const orthogonal = (p: Tensor, name: string): [states: Optimizer["updates"], loss: Tensor] => {
    const { state, matrix } = pushes.get(p)!;
    const rate = mul(lr, 0.2 * Math.sqrt(Math.max(...matrix.shape)) * lrScale(name));
    return [[state], mul(rate, reshape(directions.get(p)!, p.shape))];
  };
  const updates = ready.flatMap(([p, grad]) => {
    const name = leafName(p);
    const [states, loss] = matrices.has(p) ? orthogonal(p, name) : adam(p, name, grad);
    const decay = decayOf(name) * lrScale(name);
    const p2 = sub(decay ? mul(p, sub(1, mul(lr, decay))) : p, loss);
    const all: (readonly [Tensor, Tensor])[] = [...states, [p, p2]];
    if (emaDecay !== undefined) {
      const ema = variable(`ema.${name}`, p.shape);
      all.push([ema, add(mul(ema, emaDecay), mul(p2, 1 - emaDecay))]);
    }
    return all;
  });
  const feeds = (step: number, rate: number): Feeds => ({
    ...(matrices.size < params.length && {
      "optimizer.step_size": Float32Array.of((rate * Math.sqrt(1 - b2 ** step)) / (1 - b1 ** step)),
      "optimizer.root": Float32Array.of(Math.sqrt(1 - b2 ** step)),
    }),
    ...((matrices.size || params.some((p) => decayOf(leafName(p)))) && { "optimizer.lr": Float32Array.of(rate) }),
  });
  return { updates, gradNorm, state, feeds };
}

/** Coefficients of the quintic a·x + b·x³ + c·x⁵ whose iterates take all of (0, 1] near 1 (Jordan et al. 2024). */
const QUINTIC = [3.4445, -4.775, 2.0315] as const;

/** Each matrix made orthogonal, those of one shape in one batch: a small product costs a GPU its start, not its arithmetic. */
function orthogonaliseAll<Key>(matrices: readonly (readonly [Key, Tensor])[]): Map<Key, Tensor> {
  const shapes = [...new Set(matrices.map(([, { shape }]) => String(shape)))];
  return new Map(
    shapes.flatMap((shape) => {
      const group = matrices.filter(([, u]) => String(u.shape) === shape);
      const batch = concat(
        group.map(([, u]) => unsqueeze(u, [0])),
        0,
      );
      const parts = split(orthogonalise(batch), Array(group.length).fill(1), 0);
      return group.map(([key], i) => [key, parts[i]!] as const);
    }),
  );
}

/**
 * U·Vᵀ of each u = U·Σ·Vᵀ, roughly (singular values end between 0.7 and 1.2): five Newton-Schulz steps on the smaller
 * Gram matrix.
 * @param u (K, rows, columns)
 */
function orthogonalise(u: Tensor): Tensor {
  const [, rows, columns] = u.shape as [number, number, number];
  const wide = rows <= columns;
  const n = Math.min(rows, columns);
  const [a, b, c] = QUINTIC;
  const identity = constant(
    Array.from({ length: n * n }, (_, i) => (i % (n + 1) ? 0 : a)),
    [n, n],
  );
  let x = div(u, maximum(sqrt(sum(square(u), [1, 2], true)), 1e-7));
  for (let i = 0; i < 5; i++) {
    const gram = matmul(x, x, wide ? { transB: true } : { transA: true });
    const quintic = add(identity, add(mul(gram, b), matmul(gram, gram, { alpha: c })));
    x = wide ? matmul(quintic, x) : matmul(x, quintic);
  }
  return x;
}

/** SGD with momentum, as torch.optim.SGD: b ← μ·b + g, θ ← θ − lr·b (b starts as g, which zeros give too). */
export function sgd(
  params: readonly Tensor[],
  grads: readonly Tensor[],
  { momentum = 0 }: { readonly momentum?: number } = {},
): Optimizer {
  const lr = input("optimizer.lr", []);
  const state: { name: string; shape: Shape }[] = [];
  const gradNorm = globalNorm(grads);
  const updates = byReadiness(params, grads).flatMap(([p, g]): (readonly [Tensor, Tensor])[] => {
    if (!momentum) return [[p, sub(p, mul(lr, g))]];
    const name = `sgd.momentum.${leafName(p)}`;
    state.push({ name, shape: p.shape });
    const b = variable(name, p.shape);
    const b2 = add(mul(b, momentum), g);
    return [
      [b, b2],
      [p, sub(p, mul(lr, b2))],
    ];
  });
  return { updates, gradNorm, state, feeds: (_step, rate) => ({ "optimizer.lr": Float32Array.of(rate) }) };
}

export interface Accumulation {
  /** The sums so far, as variables: what an optimizer takes in place of gradients. */
  readonly sums: readonly Tensor[];
  /** Adds one part's gradients. */
  readonly updates: Optimizer["updates"];
  /** Starts the next sum. */
  readonly clear: Optimizer["updates"];
  /** Zero at the start. */
  readonly state: Optimizer["state"];
}

/** Sums of `share`·gradient over several runs, for batches that don't fit into one. */
export function accumulate(params: readonly Tensor[], grads: readonly Tensor[], share: number): Accumulation {
  const state = params.map((p) => ({ name: `sum.${leafName(p)}`, shape: p.shape }));
  const sums = state.map(({ name, shape }) => variable(name, shape));
  return {
    sums,
    updates: byReadiness(sums, grads).map(([sum, g]) => [sum, add(sum, mul(g, share))]),
    clear: sums.map((sum) => [sum, mul(sum, 0)]),
    state,
  };
}

/** ‖g‖ over all gradients together: a scalar. */
const globalNorm = (grads: readonly Tensor[]): Tensor => sqrt(grads.map((g) => dot(g, g)).reduce(add));

/** Pairs in the order in which the backward pass finishes the gradients, so that each is used up at once. */
const byReadiness = (params: readonly Tensor[], grads: readonly Tensor[]): [Tensor, Tensor][] =>
  params.map((p, i): [Tensor, Tensor] => [p, grads[i]!]).sort((a, b) => a[1].node.id - b[1].node.id);

/** Writes the zero state of an optimizer or a sum into the runtime. */
export async function resetState(runtime: Runtime, { state }: Pick<Optimizer, "state">): Promise<void> {
  const values = Object.fromEntries(state.map(({ name, shape }) => [name, new Float32Array(size(shape))]));
  await runtime.write(values, Object.fromEntries(state.map(({ name, shape }) => [name, shape])));
}

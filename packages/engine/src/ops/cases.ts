/** One table of cases for every op: finite differences, checkpointing and the golden numbers all run through it. */
import { constant } from "../core/op.ts";
import { size } from "../core/shape.ts";
import type { Tensor } from "../core/tensor.ts";
import { ramp } from "../testing/gradient-check.ts";
import { grad } from "../transforms/grad.ts";
import * as ops from "./index.ts";

export interface Case {
  readonly f: (...xs: Tensor[]) => Tensor;
  readonly shapes: readonly (readonly number[])[];
  /** Range of the random inputs; default [−1, 1). */
  readonly range?: readonly [number, number];
  /** int32 inputs, by position. */
  readonly ints?: Readonly<Record<number, readonly number[]>>;
  /** The op has no gradient. */
  readonly constant?: true;
}

const unary = (f: (x: Tensor) => Tensor, range?: readonly [number, number]): Case[] => [
  { f, shapes: [[2, 3, 5]], ...(range && { range }) },
];
const binary = (f: (a: Tensor, b: Tensor) => Tensor, range?: readonly [number, number]): Case[] =>
  [
    [
      [3, 4],
      [3, 4],
    ],
    [
      [2, 1, 4],
      [3, 1],
    ],
    [[4], [2, 3, 4]],
  ].map((shapes) => ({ f, shapes, ...(range && { range }) }));

/** Keeps the operands of a kinked function away from a tie. */
const apart = (b: Tensor): Tensor => ops.add(b, constant([3, -3, 3, -3]));

const conv = (stride: number, padding: number) => (x: Tensor, w: Tensor, b?: Tensor) =>
  ops.conv2d(x, w, b, { stride, padding });

/** Ops of the engine → cases. The type makes an op without a case a compile error. */
export const cases: Record<Exclude<keyof typeof ops, NotOps>, Case[]> = {
  add: binary(ops.add),
  sub: binary(ops.sub),
  mul: binary(ops.mul),
  div: binary(ops.div, [0.5, 2]),
  maximum: binary((a, b) => ops.maximum(a, apart(b))),
  minimum: binary((a, b) => ops.minimum(a, apart(b))),
  neg: unary(ops.neg),
  exp: unary(ops.exp),
  log: unary(ops.log, [0.5, 2]),
  sqrt: unary(ops.sqrt, [0.5, 2]),
  square: unary(ops.square),
  abs: unary(ops.abs, [0.2, 1]),
  sin: unary(ops.sin, [-3, 3]),
  cos: unary(ops.cos, [-3, 3]),
  pow: unary((x) => ops.pow(x, 2.5), [0.5, 2]),
  clip: unary((x) => ops.clip(x, -2, 2)),
  where: [{ f: (a, b) => ops.where(ops.greater(constant(ramp(12, 5), [3, 4]), 0), a, b), shapes: [[3, 4], [4]] }],
  stopGradient: [{ f: (x) => ops.add(x, ops.stopGradient(constant(1))), shapes: [[3]] }],
  cast: unary((x) => ops.cast(x, "float32")),
  equal: [{ f: (x) => ops.cast(ops.equal(x, x), "float32"), shapes: [[4]], constant: true }],
  greater: [{ f: (x) => ops.cast(ops.greater(x, 0), "float32"), shapes: [[4]], constant: true }],
  greaterEqual: [{ f: (x) => ops.cast(ops.greaterEqual(x, 0), "float32"), shapes: [[4]], constant: true }],
  sigmoid: unary(ops.sigmoid, [-6, 6]),
  tanh: unary(ops.tanh, [-2, 2]),
  erf: unary(ops.erf, [-2, 2]),
  relu: unary(ops.relu, [0.2, 1]),
  silu: unary(ops.silu, [-6, 6]),
  quickGelu: unary(ops.quickGelu, [-4, 4]),
  gelu: unary(ops.gelu, [-4, 4]),
  geluTanh: unary(ops.geluTanh, [-4, 4]),
  softplus: unary(ops.softplus, [-6, 6]),
  sum: [
    { f: (x) => ops.sum(x), shapes: [[2, 3]] },
    { f: (x) => ops.sum(x, [0, -1]), shapes: [[2, 3, 4]] },
  ],
  mean: [
    { f: (x) => ops.mean(x), shapes: [[2, 3]] },
    { f: (x) => ops.mean(x, [1], true), shapes: [[2, 3, 4]] },
  ],
  max: [{ f: (x) => ops.max(x, [1]), shapes: [[3, 7]] }],
  logSumExp: [
    { f: (x) => ops.logSumExp(x, [1]), shapes: [[3, 7]], range: [-5, 5] },
    { f: (x) => ops.logSumExp(x), shapes: [[3, 2]], range: [90, 95] },
  ],
  softmax: [
    { f: (x) => ops.softmax(x), shapes: [[3, 7]], range: [-4, 4] },
    { f: (x) => ops.softmax(x, 1), shapes: [[2, 5, 3]], range: [-4, 4] },
  ],
  argMax: [{ f: (x) => ops.cast(ops.argMax(x), "float32"), shapes: [[3, 7]], constant: true }],
  topK: [
    { f: (x) => ops.topK(x, 3).values, shapes: [[3, 7]], constant: true },
    { f: (x) => ops.cast(ops.topK(x, 3).indices, "float32"), shapes: [[2, 2, 7]], constant: true },
  ],
  reshape: unary((x) => ops.reshape(x, [5, -1])),
  unsqueeze: unary((x) => ops.unsqueeze(x, [0, 2])),
  squeeze: [{ f: (x) => ops.squeeze(x, [1]), shapes: [[3, 1, 2]] }],
  transpose: unary((x) => ops.transpose(x, [2, 0, 1])),
  expand: [{ f: (x) => ops.expand(x, [4, 2, 3]), shapes: [[2, 1]] }],
  concat: [
    {
      f: (a, b, c) => ops.concat([a, b, c], 1),
      shapes: [
        [2, 3],
        [2, 1],
        [2, 4],
      ],
    },
  ],
  split: [{ f: (x) => ops.mul(ops.split(x, [2, 3], 1)[1]!, 2), shapes: [[2, 5]] }],
  slice: [
    { f: (x) => ops.slice(x, [1, 0], [3, 2], [0, 2]), shapes: [[4, 3, 5]] },
    { f: (x) => ops.slice(x, [1], [6], [1], [2]), shapes: [[2, 7]] },
    { f: (x) => ops.slice(x, [0], [7], [1], [3]), shapes: [[2, 7]] },
  ],
  pad: [
    {
      f: (x) =>
        ops.pad(x, [
          [0, 1],
          [2, 0],
        ]),
      shapes: [[3, 2]],
    },
  ],
  matmul: [
    {
      f: (a, b) => ops.matmul(a, b),
      shapes: [
        [3, 4],
        [4, 5],
      ],
    },
    {
      f: (a, b) => ops.matmul(a, b, { transA: true, transB: true, alpha: 0.5 }),
      shapes: [
        [4, 3],
        [5, 4],
      ],
    },
    {
      f: (a, b) => ops.matmul(a, b),
      shapes: [
        [2, 3, 4],
        [4, 5],
      ],
    },
    {
      f: (a, b) => ops.matmul(a, b, { transB: true }),
      shapes: [
        [2, 1, 3, 4],
        [3, 5, 4],
      ],
    },
    {
      f: (a, b) => ops.matmul(a, b, { transA: true, alpha: 2 }),
      shapes: [
        [2, 4, 3],
        [2, 4, 5],
      ],
    },
    {
      f: (a, b) => ops.matmul(a, b, { transA: true, transB: true }),
      shapes: [
        [2, 4, 3],
        [2, 5, 4],
      ],
    },
  ],
  linear: [
    { f: (x, w, b) => ops.linear(x, w, b), shapes: [[2, 3, 4], [5, 4], [5]] },
    {
      f: (x, w) => ops.linear(x, w),
      shapes: [
        [3, 4],
        [5, 4],
      ],
    },
  ],
  dot: [
    {
      f: (a, b) => ops.dot(a, b),
      shapes: [
        [2, 3],
        [2, 3],
      ],
    },
  ],
  conv2d: [
    { f: conv(1, 1), shapes: [[2, 3, 6, 5], [4, 3, 3, 3], [4]] },
    {
      f: conv(1, 1),
      shapes: [
        [1, 4, 5, 5],
        [2, 4, 3, 3],
      ],
    },
    { f: conv(2, 1), shapes: [[2, 3, 6, 6], [4, 3, 3, 3], [4]] },
    {
      f: conv(2, 0),
      shapes: [
        [2, 3, 7, 7],
        [4, 3, 3, 3],
      ],
    },
    { f: conv(1, 0), shapes: [[2, 3, 4, 4], [5, 3, 1, 1], [5]] },
    {
      f: conv(4, 0),
      shapes: [
        [2, 3, 8, 8],
        [5, 3, 4, 4],
      ],
    },
    {
      f: conv(1, 1),
      shapes: [
        [1, 8, 2, 2],
        [8, 8, 3, 3],
      ],
    },
    { f: conv(1, 1), shapes: [[3, 5, 4, 6], [2, 5, 3, 3], [2]] },
    {
      f: conv(1, 2),
      shapes: [
        [2, 2, 5, 6],
        [3, 2, 5, 5],
      ],
    },
  ],
  conv2dInputGrad: [
    {
      f: (dy, w) => ops.conv2dInputGrad(dy, w, [2, 3, 6, 6], { stride: 2, padding: 1 }),
      shapes: [
        [2, 4, 3, 3],
        [4, 3, 3, 3],
      ],
    },
  ],
  conv2dWeightGrad: [
    {
      f: (x, dy) => ops.conv2dWeightGrad(x, dy, [4, 3, 3, 3], { stride: 1, padding: 1 }),
      shapes: [
        [2, 3, 5, 5],
        [2, 4, 5, 5],
      ],
    },
  ],
  normalize: [{ f: (x) => ops.normalize(x), shapes: [[3, 16]] }],
  layerNorm: [{ f: (x, w, b) => ops.layerNorm(x, w, b), shapes: [[2, 3, 8], [8], [8]] }],
  groupNorm: [{ f: (x, w, b) => ops.groupNorm(x, w, b, { groups: 2 }), shapes: [[2, 4, 3, 3], [4], [4]] }],
  attention: [
    {
      f: (q, k, v) => ops.attention(q, k, v),
      shapes: [
        [2, 2, 3, 4],
        [2, 2, 5, 4],
        [2, 2, 5, 6],
      ],
    },
    {
      f: (q, k, v) => ops.attention(q, k, v, { scale: 0.7, mask: constant([0, -1e9, 0, 0, 0, 0], [2, 3]) }),
      shapes: [
        [3, 2, 4],
        [3, 3, 4],
        [3, 3, 4],
      ],
    },
  ],
  gather: [
    {
      f: (t, i) => ops.gather(t, i),
      shapes: [
        [5, 3],
        [2, 2],
      ],
      ints: { 1: [0, 4, 4, 2] },
    },
  ],
  scatterRows: [{ f: (dy, i) => ops.scatterRows(dy, i, [5, 3]), shapes: [[4, 3], [4]], ints: { 1: [0, 4, 4, 2] } }],
  resizeNearest: [{ f: (x) => ops.resizeNearest(x, 2), shapes: [[2, 3, 2, 3]] }],
  resizeBilinear: [
    { f: (x) => ops.resizeBilinear(x, [7, 5]), shapes: [[1, 2, 3, 4]] },
    { f: (x) => ops.resizeBilinear(x, [2, 3]), shapes: [[1, 2, 5, 6]] },
  ],
};

/** Exports of `ops` that are no ops: helpers shared between families. */
type NotOps = "unbroadcast" | "unary" | "tiles";

/** The inputs of a case, as constants. */
export const caseInputs = ({ shapes, range, ints = {} }: Case): Tensor[] =>
  shapes.map((shape, i) =>
    ints[i]
      ? constant([...ints[i]], shape, "int32")
      : constant(
          ramp(
            shape.reduce((n, d) => n * d, 1),
            i + 1,
            range,
          ),
          shape,
        ),
  );

/** The case's value as `y` and, unless it is constant, its gradients by the float32 inputs as `g0`, `g1`, … */
export function caseOutputs(c: Case): Record<string, Tensor> {
  const xs = caseInputs(c);
  const y = c.f(...xs);
  if (c.constant) return { y };
  const moving = xs.filter((x) => x.dtype === "float32");
  const dy = constant(ramp(size(y.shape), 99), y.shape);
  return { y, ...Object.fromEntries(grad(ops.sum(ops.mul(y, dy)), moving).map((g, i) => [`g${i}`, g])) };
}

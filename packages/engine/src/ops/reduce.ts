/** Reductions. Axes default to all; gradients spread the cotangent back over them. */
import { defineOp, defineOp1 } from "../core/op.ts";
import { axisOf, size } from "../core/shape.ts";
import type { Tensor } from "../core/tensor.ts";
import type { GraphBuilder } from "../onnx/builder.ts";
import { add, cast, div, equal, exp, log, mul, stopGradient, sub } from "./arithmetic.ts";
import { expand, reshape } from "./movement.ts";

export type Reduction = (x: Tensor, axes?: readonly number[], keepdims?: boolean) => Tensor;

interface ReduceAttrs extends Readonly<Record<string, unknown>> {
  readonly axes: readonly number[];
  readonly keepdims: boolean;
}

const reduced = (shape: readonly number[], { axes, keepdims }: ReduceAttrs): number[] =>
  keepdims ? shape.map((d, i) => (axes.includes(i) ? 1 : d)) : shape.filter((_, i) => !axes.includes(i));

/** dy with the reduced axes back in place as 1, so that it broadcasts against x. */
const kept = (dy: Tensor, x: Tensor, attrs: ReduceAttrs): Tensor =>
  reshape(dy, reduced(x.shape, { ...attrs, keepdims: true }));

/**
 * A GPU makes each number of a reduction in one workgroup. Where that one has many to go through, the innermost axes are
 * reduced first; these they are.
 */
function innermost(shape: readonly number[], axes: readonly number[]): number[] {
  const sorted = [...axes].sort((a, b) => a - b);
  if (axes.length < 2 || axes.reduce((n, a) => n * shape[a]!, 1) < 4096) return [];
  const inner = sorted.filter((a, i) => sorted.length - i === shape.length - a);
  return inner.length > 0 && inner.length < sorted.length ? inner : sorted.slice(-1);
}

function reduction(name: string, onnx: string, vjp: (x: Tensor, dy: Tensor, y: Tensor) => Tensor): Reduction {
  const make = defineOp1<ReduceAttrs>({
    name,
    infer: ([x], attrs) => ({ shape: reduced(x!.shape, attrs), dtype: x!.dtype }),
    lower: (g, [x], { attrs, inputs }) => {
      const first = g.device === "webgpu" ? innermost(inputs[0]!.shape, attrs.axes) : [];
      const part = first.length ? g.add(onnx, [x!, g.ints(first)], { keepdims: 1 }) : x!;
      return g.add(onnx, [part, g.ints(attrs.axes)], { keepdims: Number(attrs.keepdims) });
    },
    vjp: ({ inputs: [x], outputs: [y], attrs }, [dy]) => [vjp(x!, kept(dy!, x!, attrs), kept(y!, x!, attrs))],
  });
  return (x, axes, keepdims = false) => {
    const all = (axes ?? x.shape.map((_, i) => i)).map((a) => axisOf(a, x.shape.length, name));
    return all.length ? make([x], { axes: all, keepdims }) : x;
  };
}

export const sum: Reduction = reduction("sum", "ReduceSum", (x, dy) => expand(dy, x.shape));
export const mean: Reduction = reduction("mean", "ReduceMean", (x, dy) =>
  expand(mul(dy, size(dy.shape) / size(x.shape)), x.shape),
);
/** Tied maxima share the gradient, as torch.amax. */
export const max: Reduction = reduction("max", "ReduceMax", (x, dy, y) => {
  const hit = cast(equal(x, y), "float32");
  const axes = x.shape.map((_, i) => i).filter((i) => dy.shape[i] === 1);
  return mul(hit, div(dy, sum(hit, axes, true)));
});

/** log Σ exp, stable for any finite input. */
export const logSumExp: Reduction = (x, axes, keepdims = false) => {
  const m = stopGradient(max(x, axes, true));
  const y = add(log(sum(exp(sub(x, m)), axes, true)), m);
  return keepdims ? y : reshape(y, sum(x, axes).shape);
};

/** exp(x) / Σ exp(x) along one axis; dx = y·(dy − Σ dy·y). */
export const softmax: (x: Tensor, axis?: number) => Tensor = (x, axis = -1) =>
  softmaxOp([x], { axis: axisOf(axis, x.shape.length, "softmax") });
const softmaxOp = defineOp1<{ axis: number }>({
  name: "softmax",
  infer: ([x]) => x!,
  lower: (g, [x], { attrs }) => g.add("Softmax", [x!], { axis: attrs.axis }),
  vjp: ({ outputs: [y], attrs: { axis } }, [dy]) => [mul(y!, sub(dy!, sum(mul(dy!, y!), [axis], true)))],
});

/** Index of the largest entry along an axis (int32, axis removed); the first of ties. No gradient. */
export const argMax: (x: Tensor, axis?: number) => Tensor = (x, axis = -1) =>
  argMaxOp([x], { axis: axisOf(axis, x.shape.length, "argMax") });
const argMaxOp = defineOp1<{ axis: number }>({
  name: "argMax",
  infer: ([x], { axis }) => ({ shape: x!.shape.filter((_, i) => i !== axis), dtype: "int32" }),
  lower: (g, [x], { attrs, inputs }) => {
    if (g.device !== "webgpu") return g.cast(g.add("ArgMax", [x!], { axis: attrs.axis, keepdims: 0 }), "int32");
    const first = firstOfLargest(g, x!, inputs[0]!.shape, attrs.axis);
    return g.cast(g.reshape(first, withoutAxis(inputs[0]!.shape, attrs.axis)), "int32");
  },
});

const withoutAxis = (shape: readonly number[], axis: number): number[] => shape.filter((_, i) => i !== axis);

/** 0, 1, 2 … along one axis, to broadcast against x. */
const places = (g: GraphBuilder, shape: readonly number[], axis: number): string =>
  g.floats(
    Float32Array.from({ length: shape[axis]! }, (_, i) => i),
    shape.map((d, i) => (i === axis ? d : 1)),
  );

/** Where the largest entry along an axis is, as float32, the axis kept: the WebGPU provider casts no int64. */
function firstOfLargest(g: GraphBuilder, x: string, shape: readonly number[], axis: number): string {
  const largest = g.add("ReduceMax", [x, g.ints([axis])], { keepdims: 1 });
  const found = g.add("Where", [
    g.add("Equal", [x, largest]),
    places(g, shape, axis),
    g.scalar(shape[axis]!), // behind all places
  ]);
  return g.add("ReduceMin", [found, g.ints([axis])], { keepdims: 1 });
}

/** The k largest entries of the last axis, largest first: values and int32 indices (..., k). Neither has a gradient. */
export function topK(x: Tensor, k: number): { values: Tensor; indices: Tensor } {
  const [values, indices] = topKOp([x], { k });
  return { values: values!, indices: indices! };
}
const topKOp = defineOp<{ k: number }>({
  name: "topK",
  infer: ([x], { k }) => {
    const shape = [...x!.shape.slice(0, -1), k];
    return [
      { shape, dtype: x!.dtype },
      { shape, dtype: "int32" },
    ];
  },
  lower: (g, [x], { attrs, inputs }) => {
    const [values, indices] = g.addMany("TopK", 2, [x!, g.ints([attrs.k])], { axis: -1 });
    return [values!, g.device === "webgpu" ? oneByOne(g, x!, inputs[0]!.shape, attrs.k) : g.cast(indices!, "int32")];
  },
  vjp: () => [undefined],
});

/** Places of the k largest of the last axis (int32): each is found, then hidden from the next search. */
function oneByOne(g: GraphBuilder, x: string, shape: readonly number[], k: number): string {
  const axis = shape.length - 1;
  const found: string[] = [];
  for (let rest = x; found.length < k; ) {
    found.push(firstOfLargest(g, rest, shape, axis));
    rest = g.add("Where", [g.add("Equal", [places(g, shape, axis), found.at(-1)!]), g.scalar(-3.4e38), rest]);
  }
  return g.cast(g.add("Concat", found, { axis }), "int32");
}

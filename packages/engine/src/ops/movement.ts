/** Ops that move entries and compute nothing. */
import { constant, defineOp, defineOp1 } from "../core/op.ts";
import { axisOf, broadcast, ShapeError, sameShape, show, size } from "../core/shape.ts";
import type { Shape, Tensor } from "../core/tensor.ts";
import { unbroadcast } from "./arithmetic.ts";

/** The same entries in another shape; one extent may be −1. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const rest = -size(shape);
  const full = shape.includes(-1) ? shape.map((d) => (d === -1 ? size(x.shape) / rest : d)) : shape;
  if (size(full) !== size(x.shape) || full.some((d) => !Number.isInteger(d)))
    throw new ShapeError(`reshape: ${show(x.shape)} does not fit ${show(shape)}. [E_SHAPE]`);
  return sameShape(full, x.shape) ? x : reshapeOp([x], { shape: full });
}
const reshapeOp = defineOp1<{ shape: Shape }>({
  name: "reshape",
  infer: ([x], { shape }) => ({ shape, dtype: x!.dtype }),
  lower: (g, [x], { attrs }) => g.reshape(x!, attrs.shape),
  vjp: ({ inputs: [x] }, [dy]) => [reshape(dy!, x!.shape)],
});

/** Inserts axes of extent 1 at the given places of the result. */
export function unsqueeze(x: Tensor, axes: readonly number[]): Tensor {
  const rank = x.shape.length + axes.length;
  const at = axes.map((a) => axisOf(a, rank, "unsqueeze"));
  const dims = [...x.shape];
  return reshape(
    x,
    Array.from({ length: rank }, (_, i) => (at.includes(i) ? 1 : dims.shift()!)),
  );
}

/** Removes axes of extent 1. */
export function squeeze(x: Tensor, axes: readonly number[]): Tensor {
  const at = axes.map((a) => axisOf(a, x.shape.length, "squeeze"));
  return reshape(
    x,
    x.shape.filter((_, i) => !at.includes(i)),
  );
}

/** Axis i of the result is axis perm[i] of x. */
export const transpose: (x: Tensor, perm: readonly number[]) => Tensor = (x, perm) => transposeOp([x], { perm });
const transposeOp = defineOp1<{ perm: readonly number[] }>({
  name: "transpose",
  infer: ([x], { perm }) => {
    if (
      [...perm].sort().join() !==
      x!.shape
        .map((_, i) => i)
        .sort()
        .join()
    )
      throw new ShapeError(`transpose: [${perm}] is no permutation of the axes of ${show(x!.shape)}. [E_SHAPE]`);
    return { shape: perm.map((p) => x!.shape[p]!), dtype: x!.dtype };
  },
  lower: (g, [x], { attrs }) => g.transpose(x!, attrs.perm),
  vjp: ({ attrs: { perm } }, [dy]) => [
    transpose(
      dy!,
      perm.map((_, i) => perm.indexOf(i)),
    ),
  ],
});

/** x repeated along its axes of extent 1 (and new leading ones) to `shape`. */
export function expand(x: Tensor, shape: Shape): Tensor {
  if (!sameShape(broadcast(x.shape, shape, "expand"), shape))
    throw new ShapeError(`expand: ${show(x.shape)} does not expand to ${show(shape)}. [E_SHAPE]`);
  return sameShape(x.shape, shape) ? x : expandOp([x], { shape });
}
const expandOp = defineOp1<{ shape: Shape }>({
  name: "expand",
  infer: ([x], { shape }) => ({ shape, dtype: x!.dtype }),
  lower: (g, [x], { attrs }) => g.add("Expand", [x!, g.extents(attrs.shape)]),
  vjp: ({ inputs: [x] }, [dy]) => [unbroadcast(dy!, x!.shape)],
});

export function concat(xs: readonly Tensor[], axis: number): Tensor {
  const first = xs[0];
  if (!first) throw new ShapeError("concat: needed at least one tensor, found none. [E_SHAPE]");
  return xs.length === 1 ? first : concatOp(xs, { axis: axisOf(axis, first.shape.length, "concat") });
}
const concatOp = defineOp1<{ axis: number }>({
  name: "concat",
  infer: (xs, { axis }) => {
    const shape = [...xs[0]!.shape];
    shape[axis] = xs.reduce((n, x) => n + x.shape[axis]!, 0);
    for (const x of xs)
      if (x.shape.length !== shape.length || x.shape.some((d, i) => i !== axis && d !== shape[i]))
        throw new ShapeError(`concat: ${xs.map((t) => show(t.shape)).join(", ")} differ off axis ${axis}. [E_SHAPE]`);
    return { shape, dtype: xs[0]!.dtype };
  },
  lower: (g, xs, { attrs }) => g.add("Concat", xs, { axis: attrs.axis }),
  vjp: ({ inputs, attrs: { axis } }, [dy]) =>
    split(
      dy!,
      inputs.map((x) => x.shape[axis]!),
      axis,
    ),
});

/** Consecutive pieces of the given sizes. */
export function split(x: Tensor, sizes: readonly number[], axis: number): Tensor[] {
  const at = axisOf(axis, x.shape.length, "split");
  if (sizes.some((n) => n < 1) || sizes.reduce((a, b) => a + b, 0) !== x.shape[at])
    throw new ShapeError(`split: ${sizes.join(" + ")} is not axis ${axis} of ${show(x.shape)}. [E_SHAPE]`);
  return sizes.length === 1 ? [x] : [...splitOp([x], { sizes, axis: at })];
}
/** WebGPU lets a shader have at least eight buffers; ONNX Runtime's Split has one for each piece, and the input. */
const MOST_PIECES = 6;

const splitOp = defineOp<{ sizes: readonly number[]; axis: number }>({
  name: "split",
  infer: ([x], { sizes, axis }) =>
    sizes.map((n) => ({ shape: x!.shape.map((d, a) => (a === axis ? n : d)), dtype: x!.dtype })),
  lower: (g, [x], { attrs: { sizes, axis } }) => {
    if (g.device === "cpu" || sizes.length <= MOST_PIECES)
      return g.addMany("Split", sizes.length, [x!, g.ints(sizes)], { axis });
    let at = 0;
    return sizes.map((n) => {
      at += n;
      return g.slice(x!, [at - n], [at], [axis]);
    });
  },
  vjp: ({ outputs, attrs: { axis } }, dys) => [
    concat(
      dys.map((dy, i) => dy ?? expand(constant(0), outputs[i]!.shape)),
      axis,
    ),
  ],
});

interface SliceAttrs extends Readonly<Record<string, unknown>> {
  readonly starts: readonly number[];
  readonly ends: readonly number[];
  readonly axes: readonly number[];
  readonly steps: readonly number[];
}

/** x[starts:ends:steps] on the given axes; negative bounds count from the end, step ≥ 1. */
export function slice(
  x: Tensor,
  starts: readonly number[],
  ends: readonly number[],
  axes: readonly number[],
  steps: readonly number[] = starts.map(() => 1),
): Tensor {
  const at = axes.map((a) => axisOf(a, x.shape.length, "slice"));
  const [from, to] = [starts, ends].map((list) => list.map((n, i) => (n < 0 ? n + x.shape[at[i]!]! : n)));
  at.forEach((a, i) => {
    if (!(from![i]! >= 0 && from![i]! < to![i]! && to![i]! <= x.shape[a]! && steps[i]! >= 1))
      throw new ShapeError(
        `slice: [${starts[i]}:${ends[i]}:${steps[i]}] is outside axis ${a} of ${show(x.shape)}. [E_SHAPE]`,
      );
  });
  return sliceOp([x], { starts: from!, ends: to!, axes: at, steps });
}
const sliceOp = defineOp1<SliceAttrs>({
  name: "slice",
  infer: ([x], { starts, ends, axes, steps }) => {
    const shape = [...x!.shape];
    axes.forEach((a, i) => {
      shape[a] = Math.ceil((ends[i]! - starts[i]!) / steps[i]!);
    });
    return { shape, dtype: x!.dtype };
  },
  lower: (g, [x], { attrs: { starts, ends, axes, steps } }) =>
    g.slice(x!, starts, ends, axes, steps.every((s) => s === 1) ? undefined : steps),
  vjp: ({ inputs: [x], attrs }, [dy]) => [unslice(dy!, x!.shape, attrs)],
});

/** dy put back where `slice` took it from, zeros elsewhere. */
function unslice(dy: Tensor, shape: Shape, { starts, axes, steps }: SliceAttrs): Tensor {
  let spread = dy;
  axes.forEach((a, i) => {
    const step = steps[i]!;
    if (step === 1) return;
    // every entry is followed by step − 1 zeros
    const n = spread.shape[a]!;
    const wide = unsqueeze(spread, [a + 1]);
    const zeros: [number, number][] = wide.shape.map((_, j) => [0, j === a + 1 ? step - 1 : 0]);
    const dims = spread.shape.map((d, j) => (j === a ? n * step : d));
    spread = reshape(pad(wide, zeros), dims);
    if (starts[i]! + n * step > shape[a]!) spread = slice(spread, [0], [shape[a]! - starts[i]!], [a]);
  });
  const pads = shape.map((d, a): [number, number] => {
    const i = axes.indexOf(a);
    return i < 0 ? [0, 0] : [starts[i]!, d - starts[i]! - spread.shape[a]!];
  });
  return pad(spread, pads);
}

/** Puts `before` and `after` entries of `value` around each axis. */
export function pad(x: Tensor, pads: readonly (readonly [number, number])[], value: number = 0): Tensor {
  if (pads.length !== x.shape.length || pads.flat().some((p) => p < 0))
    throw new ShapeError(`pad: needed ${x.shape.length} pairs of counts ≥ 0, found [${pads.join("] [")}]. [E_SHAPE]`);
  return pads.every(([a, b]) => a === 0 && b === 0) ? x : padOp([x], { pads, value });
}
const padOp = defineOp1<{ pads: readonly (readonly [number, number])[]; value: number }>({
  name: "pad",
  infer: ([x], { pads }) => ({ shape: x!.shape.map((d, i) => d + pads[i]![0] + pads[i]![1]), dtype: x!.dtype }),
  lower: (g, [x], { attrs: { pads, value } }) =>
    g.add("Pad", [x!, g.ints([...pads.map((p) => p[0]), ...pads.map((p) => p[1])]), g.scalar(value)]),
  vjp: ({ inputs: [x], attrs: { pads } }, [dy]) => {
    const axes = x!.shape.map((_, i) => i);
    return [
      slice(
        dy!,
        pads.map((p) => p[0]),
        pads.map((p, i) => p[0] + x!.shape[i]!),
        axes,
      ),
    ];
  },
});

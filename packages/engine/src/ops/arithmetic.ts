/** Elementwise arithmetic with numpy's broadcasting. */
import { defineOp1 } from "../core/op.ts";
import { broadcast, sameShape } from "../core/shape.ts";
import type { DType, Operand, Shape, Tensor } from "../core/tensor.ts";
import type { GraphBuilder } from "../onnx/builder.ts";
import { reshape } from "./movement.ts";
import { sum } from "./reduce.ts";

export type Unary = (x: Tensor) => Tensor;
export type Binary = (a: Operand, b: Operand) => Tensor;

/** Sums a cotangent over the axes along which a tensor of `shape` was broadcast. */
export function unbroadcast(dy: Tensor, shape: Shape): Tensor {
  if (sameShape(dy.shape, shape)) return dy;
  const lead = dy.shape.length - shape.length;
  const axes = dy.shape.map((_, i) => i).filter((i) => i < lead || (shape[i - lead] === 1 && dy.shape[i] !== 1));
  return reshape(axes.length ? sum(dy, axes, true) : dy, shape);
}

type BinaryVjp = (a: Tensor, b: Tensor, dy: Tensor, y: Tensor) => [Tensor | undefined, Tensor | undefined];

function binary(name: string, onnx: string, vjp: BinaryVjp | undefined, dtype?: DType): Binary {
  const make = defineOp1<Record<never, never>>({
    name,
    infer: ([a, b]) => ({ shape: broadcast(a!.shape, b!.shape, name), dtype: dtype ?? a!.dtype }),
    lower: (g, [a, b]) => g.add(onnx, [a!, b!]),
    ...(vjp && {
      vjp: ({ inputs: [a, b], outputs: [y] }, [dy]) => {
        const [da, db] = vjp(a!, b!, dy!, y!);
        return [da && unbroadcast(da, a!.shape), db && unbroadcast(db, b!.shape)];
      },
    }),
  });
  return (a, b) => make([a, b], {});
}

/** dy on one side, and on the other the same negated, and so on: the rules read d(a∘b) = (∂a)·dy, (∂b)·dy. */
export const add: Binary = binary("add", "Add", (_a, _b, dy) => [dy, dy]);
export const sub: Binary = binary("sub", "Sub", (_a, _b, dy) => [dy, neg(dy)]);
export const mul: Binary = binary("mul", "Mul", (a, b, dy) => [mul(dy, b), mul(dy, a)]);
export const div: Binary = binary("div", "Div", (_a, b, dy, y) => [div(dy, b), neg(div(mul(dy, y), b))]);
/** At a tie the whole cotangent goes to `a`. */
export const maximum: Binary = binary("maximum", "Max", (a, b, dy) => masked(greaterEqual(a, b), dy));
/** At a tie the whole cotangent goes to `a`. */
export const minimum: Binary = binary("minimum", "Min", (a, b, dy) => masked(greaterEqual(b, a), dy));
export const equal: Binary = binary("equal", "Equal", undefined, "bool");
export const greater: Binary = binary("greater", "Greater", undefined, "bool");
export const greaterEqual: Binary = binary("greaterEqual", "GreaterOrEqual", undefined, "bool");

const masked = (takesA: Tensor, dy: Tensor): [Tensor, Tensor] => {
  const m = cast(takesA, "float32");
  return [mul(dy, m), mul(dy, sub(1, m))];
};

export function unary(name: string, onnx: string, vjp?: (x: Tensor, dy: Tensor, y: Tensor) => Tensor): Unary {
  const make = defineOp1<Record<never, never>>({
    name,
    infer: ([x]) => x!,
    lower: (g, [x]) => g.add(onnx, [x!]),
    ...(vjp && { vjp: ({ inputs: [x], outputs: [y] }, [dy]) => [vjp(x!, dy!, y!)] }),
  });
  return (x) => make([x], {});
}

export const neg: Unary = unary("neg", "Neg", (_x, dy) => neg(dy));
export const exp: Unary = unary("exp", "Exp", (_x, dy, y) => mul(dy, y));
export const log: Unary = unary("log", "Log", (x, dy) => div(dy, x));
export const sqrt: Unary = unary("sqrt", "Sqrt", (_x, dy, y) => div(mul(dy, 0.5), y));
export const abs: Unary = unary("abs", "Abs", (x, dy) => mul(dy, sign(x)));
export const sin: Unary = wave("sin", "Sin", 0, (x, dy) => mul(dy, cos(x)));
export const cos: Unary = wave("cos", "Cos", 0.5, (x, dy) => neg(mul(dy, sin(x))));
export const square: Unary = (x) => mul(x, x);

/** sin or cos. A GPU's own are only good to 2⁻¹¹ and between −π and π (Vulkan's limits), too little for timesteps. */
function wave(name: string, onnx: string, shift: number, vjp: (x: Tensor, dy: Tensor) => Tensor): Unary {
  const make = defineOp1<Record<never, never>>({
    name,
    infer: ([x]) => x!,
    lower: (g, [x]) => (g.device === "webgpu" ? waveOfParts(g, x!, shift) : g.add(onnx, [x!])),
    vjp: ({ inputs: [x] }, [dy]) => [vjp(x!, dy!)],
  });
  return (x) => make([x], {});
}

/** 1, −1/3!, 1/5! … of the sine's series; up to r¹³ the rest is below float32's rounding between −π/2 and π/2. */
const SINE = [1, -1 / 6, 1 / 120, -1 / 5040, 1 / 362880, -1 / 39916800, 1 / 6227020800];
/** π in three summands: the first two have so few bits that their product with a number below 4096 is exact. */
const PI = [3.140625, 9.675025939941406e-4, 1.5099579897537296e-7];

/**
 * sin x for shift 0, cos x for shift ½: with m = k + shift, the multiple of π next to x, both are ±sin(x − m·π), and the
 * sign alternates with k.
 */
function waveOfParts(g: GraphBuilder, x: string, shift: number): string {
  const op = (name: string, a: string, b: string | number): string =>
    g.add(name, [a, typeof b === "number" ? g.scalar(b) : b]);
  const k = g.add("Floor", [op("Add", op("Mul", x, 1 / Math.PI), 0.5 - shift)]);
  const m = shift ? op("Add", k, shift) : k;
  const r = PI.reduce((rest, part) => op("Sub", rest, op("Mul", m, part)), x);
  const r2 = op("Mul", r, r);
  const series = SINE.slice(0, -1).reduceRight((sum, c) => op("Add", op("Mul", sum, r2), c), g.scalar(SINE.at(-1)!));
  const odd = op("Sub", k, op("Mul", g.add("Floor", [op("Mul", k, 0.5)]), 2));
  const sign = shift ? op("Sub", op("Mul", odd, 2), 1) : op("Sub", g.scalar(1), op("Mul", odd, 2));
  return op("Mul", op("Mul", r, series), sign);
}

/** −1, 0 or 1; made of comparisons, as the WebGPU provider has no Sign. */
const sign: Unary = (x) => sub(cast(greater(x, 0), "float32"), cast(greater(0, x), "float32"));

/** x^p for a constant p. */
export const pow: (x: Tensor, p: number) => Tensor = (x, p) => powOp([x], { p });
const powOp = defineOp1<{ p: number }>({
  name: "pow",
  infer: ([x]) => x!,
  lower: (g, [x], { attrs }) => g.add("Pow", [x!, g.scalar(attrs.p)]),
  vjp: ({ inputs: [x], attrs: { p } }, [dy]) => [mul(dy!, mul(p, pow(x!, p - 1)))],
});

/** x limited to [lo, hi]; the gradient is 0 outside. */
export const clip: (x: Tensor, lo: number, hi: number) => Tensor = (x, lo, hi) => clipOp([x], { lo, hi });
const clipOp = defineOp1<{ lo: number; hi: number }>({
  name: "clip",
  infer: ([x]) => x!,
  lower: (g, [x], { attrs: { lo, hi } }) => g.add("Clip", [x!, g.scalar(lo), g.scalar(hi)]),
  vjp: ({ inputs: [x], attrs: { lo, hi } }, [dy]) => {
    const inside = mul(cast(greaterEqual(x!, lo), "float32"), cast(greaterEqual(hi, x!), "float32"));
    return [mul(dy!, inside)];
  },
});

/** a where the condition holds, else b; all three broadcast. */
export const where: (condition: Tensor, a: Operand, b: Operand) => Tensor = (c, a, b) => whereOp([c, a, b], {});
const whereOp = defineOp1<Record<never, never>>({
  name: "where",
  infer: ([c, a, b]) => ({
    shape: broadcast(c!.shape, broadcast(a!.shape, b!.shape, "where"), "where"),
    dtype: a!.dtype,
  }),
  lower: (g, [c, a, b]) => g.add("Where", [c!, a!, b!]),
  vjp: ({ inputs: [c, a, b] }, [dy]) => [
    undefined,
    unbroadcast(where(c!, dy!, 0), a!.shape),
    unbroadcast(where(c!, 0, dy!), b!.shape),
  ],
});

/** Another dtype; the gradient passes between float types and stops at the others. */
export const cast: (x: Tensor, dtype: DType) => Tensor = (x, dtype) => (x.dtype === dtype ? x : castOp([x], { dtype }));
const castOp = defineOp1<{ dtype: DType }>({
  name: "cast",
  infer: ([x], { dtype }) => ({ shape: x!.shape, dtype }),
  lower: (g, [x], { attrs }) => g.cast(x!, attrs.dtype),
  vjp: ({ inputs: [x], attrs }, [dy]) => [
    x!.dtype.includes("float") && attrs.dtype.includes("float") ? cast(dy!, x!.dtype) : undefined,
  ],
});

/** x, as a constant to the backward pass. */
export const stopGradient: Unary = (x) => stopOp([x], {});
const stopOp = defineOp1<Record<never, never>>({
  name: "stopGradient",
  infer: ([x]) => x!,
  lower: (_g, [x]) => x!,
  vjp: () => [undefined],
});

/** Matrix products. */
import { defineOp1, type Int8Use, type OpContext } from "../core/op.ts";
import { broadcast, ShapeError, show, size } from "../core/shape.ts";
import type { Tensor } from "../core/tensor.ts";
import { int8Ref } from "../weights/int8.ts";
import { unbroadcast } from "./arithmetic.ts";
import { int8Product, int8Workspace } from "./int8.ts";
import { reshape } from "./movement.ts";
import { product } from "./product.ts";

export interface MatmulOptions {
  readonly transA?: boolean;
  readonly transB?: boolean;
  /** Factor on the product. */
  readonly alpha?: number;
}

interface MatmulAttrs extends Readonly<Record<string, unknown>> {
  readonly transA: boolean;
  readonly transB: boolean;
  readonly alpha: number;
}

const attrsOf = ({ transA = false, transB = false, alpha = 1 }: MatmulOptions): MatmulAttrs => ({
  transA,
  transB,
  alpha,
});

/** alpha · op(a) · op(b) on the last two axes; leading axes broadcast. */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  if (a.shape.length < 2 || b.shape.length < 2)
    throw new ShapeError(`matmul: needed two axes or more, found ${show(a.shape)} and ${show(b.shape)}. [E_SHAPE]`);
  if (a.shape.length === 2 && b.shape.length === 2) return gemmOp([a, b], attrsOf(options));
  return matmulOp([a, b], attrsOf(options));
}

function productShape(a: Tensor, b: Tensor, { transA, transB }: MatmulAttrs): [number, number] {
  const [n, k] = transA ? [a.shape.at(-1)!, a.shape.at(-2)!] : [a.shape.at(-2)!, a.shape.at(-1)!];
  const [k2, m] = transB ? [b.shape.at(-1)!, b.shape.at(-2)!] : [b.shape.at(-2)!, b.shape.at(-1)!];
  if (k !== k2)
    throw new ShapeError(
      `matmul: inner extents ${k} and ${k2} differ in ${show(a.shape)}${transA ? "ᵀ" : ""} × ${show(b.shape)}${transB ? "ᵀ" : ""}. [E_SHAPE]`,
    );
  return [n, m];
}

const productFlops = ({ inputs: [a], outputs: [y], attrs }: OpContext<MatmulAttrs>): number =>
  2 * size(y!.shape) * a!.shape.at(attrs.transA ? -2 : -1)!;

/** With y = α·op(a)·op(b): d op(a) = α·dy·op(b)ᵀ and d op(b) = α·op(a)ᵀ·dy. */
function matmulVjp(a: Tensor, b: Tensor, { transA, transB, alpha }: MatmulAttrs, dy: Tensor): [Tensor, Tensor] {
  const da = transA
    ? matmul(b, dy, { transA: transB, transB: true, alpha })
    : matmul(dy, b, { transB: !transB, alpha });
  const db = transB
    ? matmul(dy, a, { transA: true, transB: transA, alpha })
    : matmul(a, dy, { transA: !transA, alpha });
  return [unbroadcast(da, a.shape), unbroadcast(db, b.shape)];
}

const matmulOp = defineOp1<MatmulAttrs>({
  name: "matmul",
  infer: ([a, b], attrs) => {
    const batch = broadcast(a!.shape.slice(0, -2), b!.shape.slice(0, -2), "matmul");
    return { shape: [...batch, ...productShape(a!, b!, attrs)], dtype: a!.dtype };
  },
  flops: productFlops,
  lower: (g, [a, b], { attrs: { transA, transB, alpha }, inputs }) => {
    if (!transA && !transB && alpha === 1) return g.add("MatMul", [a!, b!]);
    if (g.device === "cpu")
      return g.add("com.microsoft:FusedMatMul", [a!, b!], {
        transA: Number(transA),
        transB: Number(transB),
        alpha: { float: alpha },
      });
    const swap = (name: string, rank: number): string => {
      const perm = Array.from({ length: rank }, (_, i) => i);
      return g.transpose(name, [...perm.slice(0, -2), rank - 1, rank - 2]);
    };
    const left = transA ? swap(a!, inputs[0]!.shape.length) : a!;
    const right = transB ? swap(b!, inputs[1]!.shape.length) : b!;
    const y = g.add("MatMul", [left, right]);
    return alpha === 1 ? y : g.add("Mul", [y, g.scalar(alpha)]);
  },
  vjp: ({ inputs: [a, b], attrs }, [dy]) => matmulVjp(a!, b!, attrs, dy!),
});

const gemmInInt8 = ({
  inputs: [, b],
  attrs: { transA, transB, alpha },
}: OpContext<MatmulAttrs>): Int8Use | undefined =>
  transA || alpha !== 1 || !int8Ref(b!) ? undefined : transB ? "forward" : "inputGrad";

/** α·op(a)·op(b) + c for matrices; c broadcasts. */
const gemmOp = defineOp1<MatmulAttrs>({
  name: "gemm",
  infer: ([a, b], attrs) => ({ shape: productShape(a!, b!, attrs), dtype: a!.dtype }),
  flops: productFlops,
  int8: gemmInInt8,
  workspace: (ctx) => {
    const { inputs, outputs } = ctx;
    const [m, k] = inputs[0]!.shape as [number, number];
    const use = gemmInInt8(ctx);
    return use ? int8Workspace([m, k, outputs[0]!.shape[1]!], 1, use) : 0;
  },
  lower: (g, names, ctx) => {
    const { attrs, inputs, outputs } = ctx;
    const [m, n] = outputs[0]!.shape as [number, number];
    const use = g.device === "cpu" ? gemmInInt8(ctx) : undefined;
    if (use) return int8Product(g, names[0]!, m, { weight: inputs[1]!, use, bias: names[2] });
    return product(g, names, [m, n, inputs[0]!.shape[attrs.transA ? 0 : 1]!], attrs);
  },
  vjp: ({ inputs: [a, b, c], attrs }, [dy]) => [
    ...matmulVjp(a!, b!, attrs, dy!),
    ...(c ? [unbroadcast(dy!, c.shape)] : []),
  ],
});

/**
 * x·wᵀ + b, as torch's Linear.
 * @param x (..., in)
 * @param w (out, in)
 * @param b (out)
 * @returns (..., out)
 */
export function linear(x: Tensor, w: Tensor, b?: Tensor): Tensor {
  const rows = reshape(x, [-1, x.shape.at(-1)!]);
  const y = gemmOp(b ? [rows, w, b] : [rows, w], attrsOf({ transB: true }));
  return reshape(y, [...x.shape.slice(0, -1), w.shape[0]!]);
}

/** Σ a·b over all axes: a scalar. */
export const dot: (a: Tensor, b: Tensor) => Tensor = (a, b) =>
  reshape(matmul(reshape(a, [1, -1]), reshape(b, [-1, 1])), []);

/** The node or nodes that a product of two matrices becomes. */
import type { GraphBuilder } from "../onnx/builder.ts";
import type { MatmulOptions } from "./matmul.ts";

/**
 * α·op(a)·op(b), plus c if it is there, of matrices (m, k) and (k, n) after op. A GPU makes a small product of long rows in few
 * workgroups; there k is cut into parts, one product each, and their sum is taken.
 */
export function product(
  g: GraphBuilder,
  [a, b, c]: readonly string[],
  [m, n, k]: readonly number[],
  { transA = false, transB = false, alpha = 1 }: MatmulOptions,
): string {
  const parts = g.device === "webgpu" && !c ? partsOf(m!, n!, k!) : 1;
  if (parts === 1)
    return g.add("Gemm", c ? [a!, b!, c] : [a!, b!], {
      transA: Number(transA),
      transB: Number(transB),
      alpha: { float: alpha },
    });
  const each = k! / parts;
  const left = transA
    ? g.transpose(g.reshape(a!, [parts, each, m!]), [0, 2, 1])
    : g.transpose(g.reshape(a!, [m!, parts, each]), [1, 0, 2]);
  const right = transB ? g.transpose(g.reshape(b!, [n!, parts, each]), [1, 2, 0]) : g.reshape(b!, [parts, each, n!]);
  const y = g.add("ReduceSum", [g.add("MatMul", [left, right]), g.ints([0])], { keepdims: 0 });
  return alpha === 1 ? y : g.add("Mul", [y, g.scalar(alpha)]);
}

/** Enough parts of k for 512 workgroups of 32 by 32 results, each of 128 numbers or more: a divisor of k. */
function partsOf(m: number, n: number, k: number): number {
  const tiles = Math.ceil(m / 32) * Math.ceil(n / 32);
  let parts = Math.max(1, Math.min(Math.ceil(512 / tiles), Math.floor(k / 128)));
  while (k % parts) parts--;
  return parts;
}

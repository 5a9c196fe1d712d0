/** ONNX nodes of products with weights in 8 bits. */
import type { Int8Use } from "../core/op.ts";
import { size } from "../core/shape.ts";
import type { Tensor } from "../core/tensor.ts";
import type { GraphBuilder } from "../onnx/builder.ts";
import { int8Matrix, int8Ref } from "../weights/int8.ts";

/** Zero of the bytes that rows become, which are unsigned for the CPU's sake. */
const ZERO = 128;

interface Product {
  readonly weight: Tensor;
  readonly use: Int8Use;
  readonly bias?: string | undefined;
}

/** x (m, k) by a weight, each row in 8 bits of its own range: |x − x̂| ≤ max|x| / 254. */
export function int8Product(g: GraphBuilder, x: string, m: number, { weight, use, bias }: Product): string {
  const { values, scales, factors } = external(g, weight, use);
  const numbers = factors ? g.add("Mul", [x, factors]) : x;
  const [bytes, scale] = g.once(`rows of ${numbers} in 8 bits`, () => rowsInInt8(g, numbers, m)) as [string, string];
  const y = toFloat(g, [bytes, values, g.scalar(1), scales, zero(g)]);
  const rows = g.add("Mul", [y, scale]);
  return bias ? g.add("Add", [rows, bias]) : rows;
}

/** The rows as bytes, and the (m, 1) factors that make numbers of them again. */
function rowsInInt8(g: GraphBuilder, x: string, m: number): [string, string] {
  const over = (op: "ReduceMax" | "ReduceMin"): string => g.add(op, [x, g.ints([1])], { keepdims: 1 });
  const largest = g.add("Max", [over("ReduceMax"), g.add("Neg", [over("ReduceMin")]), g.scalar(1e-30)]);
  const scale = g.add("Mul", [largest, g.scalar(1 / 127)]);
  const zeros = g.initializer(new Uint8Array(m).fill(ZERO), [m], "uint8", `zeros of ${m} rows in 8 bits`);
  return [g.add("QuantizeLinear", [x, g.reshape(scale, [m]), zeros], { axis: 0 }), scale];
}

export interface Int8Convolution extends Product {
  readonly kernel: readonly [kh: number, kw: number];
  readonly stride: number;
  readonly padding: number;
}

/**
 * x (B, C, H, W) → (B, to, H', W'), channels last inside: all that a kernel sees of x is one row. Larger kernels have one range for all of
 * x, not symmetric, as after a SiLU half of it would be empty.
 */
export function int8Convolution(
  g: GraphBuilder,
  x: string,
  [b, c, h, w]: readonly number[],
  [, to, oh, ow]: readonly number[],
  { weight, use, bias, kernel: [kh, kw], stride, padding }: Int8Convolution,
): string {
  const m = b! * oh! * ow!;
  const picturesOf = (rows: string): string =>
    g.reshape(g.transpose(g.reshape(rows, [b!, oh! * ow!, to!]), [0, 2, 1]), [b!, to!, oh!, ow!]);
  if (kh * kw === 1 && stride === 1 && padding === 0) {
    const rows = g.reshape(g.transpose(g.reshape(x, [b!, c!, h! * w!]), [0, 2, 1]), [m, c!]);
    return picturesOf(int8Product(g, rows, m, { weight, use, bias }));
  }
  const { values, scales, factors } = external(g, weight, use);
  const numbers = factors ? g.add("Mul", [x, g.reshape(factors, [c!, 1, 1])]) : x;
  const quantized = g.once(`${numbers} in 8 bits`, () => g.addMany("DynamicQuantizeLinear", 3, [numbers]));
  const [bytes, scale, origin] = quantized as [string, string, string];
  const last = g.transpose(bytes, [0, 2, 3, 1]);
  const padded = padding
    ? g.add("Pad", [last, g.ints([0, padding, padding, 0, 0, padding, padding, 0]), origin])
    : last;
  const views = Array.from({ length: kh * kw }, (_, tap) => {
    const [i, j] = [Math.floor(tap / kw), tap % kw];
    return g.slice(padded, [i, j], [i + (oh! - 1) * stride + 1, j + (ow! - 1) * stride + 1], [1, 2], [stride, stride]);
  });
  if (use === "inputGrad") views.reverse(); // the kernel turned around
  const rows = g.reshape(g.add("Concat", views, { axis: 3 }), [m, kh * kw * c!]);
  return picturesOf(toFloat(g, [rows, values, scale, scales, origin, ...(bias ? ["", bias] : [])]));
}

/**
 * Bytes that a product of (m, k) with (k, n) takes beside its input and result. `each` of them for a number of the input; for a gradient
 * the input is multiplied by the factors first, and later the weight turned.
 */
export function int8Workspace([m, k, n]: readonly [number, number, number], each: number, use: Int8Use): number {
  const product = each * m * k + 4 * m * n;
  return use === "forward" ? product : Math.max((each + 4) * m * k, product + k * n);
}

interface External {
  readonly values: string;
  readonly scales: string;
  /** What the columns of x must be multiplied by first. */
  readonly factors?: string;
}

/**
 * The bytes of a weight as the right side of a product: forward (kh·kw·C, O), whose columns have the factors. For the gradient to the input the same
 * bytes turned, (kh·kw·O, C): there the factors belong to the columns of x.
 */
function external(g: GraphBuilder, weight: Tensor, use: Int8Use): External {
  const copy = int8Matrix(int8Ref(weight)!);
  const [values, scales] = [g.external(copy.values), g.external(copy.scales)];
  if (use === "forward") return { values, scales };
  const [o, c] = weight.shape as [number, number];
  const taps = size(weight.shape) / (o * c);
  const turned =
    taps === 1
      ? g.transpose(values, [1, 0])
      : g.reshape(g.transpose(g.reshape(values, [taps, c, o]), [0, 2, 1]), [taps * o, c]);
  return { values: turned, scales: g.scalar(1), factors: scales };
}

const toFloat = (g: GraphBuilder, inputs: readonly string[]): string =>
  g.add("com.microsoft:MatMulIntegerToFloat", inputs);

const zero = (g: GraphBuilder): string => g.initializer(Uint8Array.of(ZERO), [], "uint8");

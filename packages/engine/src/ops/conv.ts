/** 2-D convolution (cross-correlation, as torch) and its two gradients, each an op of its own. */
import { defineOp1, type OpContext } from "../core/op.ts";
import { expectRank, ShapeError, show, size } from "../core/shape.ts";
import type { Shape, Tensor } from "../core/tensor.ts";
import type { GraphBuilder } from "../onnx/builder.ts";
import { sum } from "./reduce.ts";

export interface ConvOptions {
  readonly stride?: number;
  /** Zeros around height and width. */
  readonly padding?: number;
}

interface ConvAttrs extends Readonly<Record<string, unknown>> {
  readonly stride: number;
  readonly padding: number;
}

/**
 * x (B, C, H, W), w (O, C, kh, kw), b (O) → (B, O, H', W') with H' = ⌊(H + 2·padding − kh) / stride⌋ + 1.
 */
export function conv2d(x: Tensor, w: Tensor, b?: Tensor, { stride = 1, padding = 0 }: ConvOptions = {}): Tensor {
  return convOp(b ? [x, w, b] : [x, w], { stride, padding });
}

const outExtent = (n: number, k: number, { stride, padding }: ConvAttrs): number =>
  Math.floor((n + 2 * padding - k) / stride) + 1;

const onnxAttrs = ({ stride, padding }: ConvAttrs, [kh, kw]: Shape): Record<string, readonly number[]> => ({
  kernel_shape: [kh!, kw!],
  strides: [stride, stride],
  pads: [padding, padding, padding, padding],
});

const convOp = defineOp1<ConvAttrs>({
  name: "conv2d",
  infer: ([x, w], attrs) => {
    expectRank(x!.shape, 4, "conv2d input");
    expectRank(w!.shape, 4, "conv2d weight");
    const [b, c, h, wd] = x!.shape as [number, number, number, number];
    const [o, c2, kh, kw] = w!.shape as [number, number, number, number];
    if (c !== c2)
      throw new ShapeError(
        `conv2d: input ${show(x!.shape)} has ${c} channels, weight ${show(w!.shape)} needs ${c2}. [E_SHAPE]`,
      );
    return { shape: [b, o, outExtent(h, kh, attrs), outExtent(wd, kw, attrs)], dtype: x!.dtype };
  },
  lower: (g, names, { attrs, inputs }) => g.add("Conv", names, onnxAttrs(attrs, inputs[1]!.shape.slice(2))),
  vjp: ({ inputs: [x, w, b], attrs }, [dy]) => [
    conv2dInputGrad(dy!, w!, x!.shape, attrs),
    conv2dWeightGrad(x!, dy!, w!.shape, attrs),
    ...(b ? [sum(dy!, [0, 2, 3])] : []),
  ],
});

/** Cotangent of conv2d's input, of shape `shape`: the transposed convolution of dy (B, O, H', W') with w. */
export const conv2dInputGrad: (dy: Tensor, w: Tensor, shape: Shape, attrs: ConvAttrs) => Tensor = (
  dy,
  w,
  shape,
  attrs,
) => inputGradOp([dy, w], { ...attrs, shape });

const inputGradOp = defineOp1<ConvAttrs & { shape: Shape }>({
  name: "conv2dInputGrad",
  infer: ([dy], { shape }) => ({ shape, dtype: dy!.dtype }),
  lower: (g, [dy, w], { attrs, inputs }) => {
    const [, c, h] = attrs.shape as [number, number, number];
    const [o, , kh, kw] = inputs[1]!.shape as [number, number, number, number];
    const { stride, padding } = attrs;
    if (kh === 1 && kw === 1 && stride === 1 && padding === 0)
      return pointwiseInputGrad(g, dy!, w!, inputs[0]!.shape, c, o);
    // A convolution with the flipped kernel runs at full speed, but flipping costs as much as the kernel is large.
    const flip =
      stride === 1 &&
      kh === kw &&
      padding <= kh - 1 &&
      (g.device === "webgpu" || size(inputs[1]!.shape) <= size(inputs[0]!.shape));
    if (flip) {
      const swapped = g.transpose(w!, [1, 0, 2, 3]);
      const flipped = g.slice(swapped, [-1, -1], [-kh - 1, -kw - 1], [2, 3], [-1, -1]);
      return g.add("Conv", [dy!, flipped], onnxAttrs({ stride: 1, padding: kh - 1 - padding }, [kh, kw]));
    }
    const extra = h - ((inputs[0]!.shape[2]! - 1) * stride - 2 * padding + kh);
    return g.add("ConvTranspose", [dy!, w!], { ...onnxAttrs(attrs, [kh, kw]), output_padding: [extra, extra] });
  },
  vjp: ({ inputs: [dy, w], attrs }, [ddx]) => [
    conv2d(ddx!, w!, undefined, attrs),
    conv2dWeightGrad(ddx!, dy!, w!.shape, attrs),
  ],
});

function pointwiseInputGrad(g: GraphBuilder, dy: string, w: string, [b, , h, wd]: Shape, c: number, o: number): string {
  const wt = g.transpose(g.reshape(w, [o, c]), [1, 0]);
  const dx = g.add("MatMul", [wt, g.reshape(dy, [b!, o, h! * wd!])]);
  return g.reshape(dx, [b!, c, h!, wd!]);
}

/** Cotangent of conv2d's weight, of shape `shape` (O, C, kh, kw), from x (B, C, H, W) and dy (B, O, H', W'). */
export const conv2dWeightGrad: (x: Tensor, dy: Tensor, shape: Shape, attrs: ConvAttrs) => Tensor = (
  x,
  dy,
  shape,
  attrs,
) => weightGradOp([x, dy], { ...attrs, shape });

const weightGradOp = defineOp1<ConvAttrs & { shape: Shape }>({
  name: "conv2dWeightGrad",
  infer: ([x], { shape }) => ({ shape, dtype: x!.dtype }),
  // One matrix product per kernel tap over shifted views: dW[:, :, i, j] = dy · shift(x, i, j)ᵀ.
  lower: (g, names, ctx) => {
    const { shape, stride, padding } = ctx.attrs;
    const [o, c, kh, kw] = shape as [number, number, number, number];
    if (kh * kw === 1 && stride === 1 && padding === 0) {
      const [x, dy] = names.map((n, i) => g.reshape(channelsFirst(g, n, ctx.inputs[i]!.shape, 0), [i ? o : c, -1]));
      return g.reshape(g.add("Gemm", [dy!, x!], { transB: 1 }), shape);
    }
    const same = stride === 1 && kh === 3 && kw === 3 && padding === 1;
    const taps = same ? tapsOfSame(g, names, ctx.inputs, o < c) : tapsOfAny(g, names, ctx);
    const stacked = g.add(
      "Concat",
      taps.map((t) => g.reshape(t, [1, o * c])),
      { axis: 0 },
    );
    return g.reshape(g.transpose(stacked, [1, 0]), shape);
  },
  vjp: ({ inputs: [x, dy], attrs }, [ddw]) => [
    conv2dInputGrad(dy!, ddw!, x!.shape, attrs),
    conv2d(x!, ddw!, undefined, attrs),
  ],
});

/**
 * The nine taps of a 3×3 convolution with padding 1. With one zero column right of each row and one zero row below each
 * picture, a shift by (i, j) is a shift of the flattened picture, so each view is one contiguous copy per channel. Of
 * the two tensors, the one with fewer channels is shifted.
 */
function tapsOfSame(
  g: GraphBuilder,
  [x, dy]: readonly string[],
  inputs: readonly Tensor[],
  shiftDy: boolean,
): string[] {
  const flat = (name: string, [b, c, h, w]: Shape): [string, number, number] => {
    const padded = g.add("Pad", [name, g.ints([0, 0, 0, 0, 0, 0, 1, 1])]);
    const first = b === 1 ? padded : g.transpose(padded, [1, 0, 2, 3]);
    const length = b! * (h! + 1) * (w! + 1);
    return [g.reshape(first, [c!, length]), length, w! + 1];
  };
  const [xs, length, row] = flat(x!, inputs[0]!.shape);
  const [dys] = flat(dy!, inputs[1]!.shape);
  const reach = row + 1;
  const wide = g.add("Pad", [shiftDy ? dys : xs, g.ints([0, reach, 0, reach])]);
  return [-1, 0, 1].flatMap((i) =>
    [-1, 0, 1].map((j) => {
      const start = reach + (shiftDy ? -1 : 1) * (i * row + j);
      const moved = g.slice(wide, [start], [start + length], [1]);
      return g.add("Gemm", shiftDy ? [moved, xs] : [dys, moved], { transB: 1 });
    }),
  );
}

function tapsOfAny(
  g: GraphBuilder,
  [x, dy]: readonly string[],
  { attrs, inputs }: OpContext<ConvAttrs & { shape: Shape }>,
): string[] {
  const [o, c, kh, kw] = attrs.shape as [number, number, number, number];
  const [, , oh, ow] = inputs[1]!.shape as [number, number, number, number];
  const { stride, padding } = attrs;
  const xs = channelsFirst(g, x!, inputs[0]!.shape, padding);
  const dys = g.reshape(channelsFirst(g, dy!, inputs[1]!.shape, 0), [o, -1]);
  const taps: string[] = [];
  for (let i = 0; i < kh; i++)
    for (let j = 0; j < kw; j++) {
      const ends = [i + (oh - 1) * stride + 1, j + (ow - 1) * stride + 1];
      const moved = g.slice(xs, [i, j], ends, [2, 3], [stride, stride]);
      taps.push(g.add("Gemm", [dys, g.reshape(moved, [c, -1])], { transB: 1 }));
    }
  return taps;
}

/** (B, C, H, W) → (C, B, H + 2p, W + 2p). */
function channelsFirst(g: GraphBuilder, x: string, [b, c, h, w]: Shape, p: number): string {
  const padded = p ? g.add("Pad", [x, g.ints([0, 0, p, p, 0, 0, p, p])]) : x;
  if (b === 1) return g.reshape(padded, [c!, 1, h! + 2 * p, w! + 2 * p]);
  return g.transpose(padded, [1, 0, 2, 3]);
}

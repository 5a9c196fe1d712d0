/** 2-D convolution (cross-correlation, as torch) and its two gradients, each an op of its own. */
import { defineOp1 } from "../core/op.ts";
import { expectRank, ShapeError, show, size } from "../core/shape.ts";
import type { Shape, Tensor } from "../core/tensor.ts";
import type { GraphBuilder } from "../onnx/builder.ts";
import { add } from "./arithmetic.ts";
import { reshape } from "./movement.ts";
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
  // One matrix product per kernel tap over shifted views: dW[:, :, i, j] = dy · shift(x, i, j)ᵀ. Of the two, the
  // tensor with fewer channels is the one to shift.
  lower: (g, [x, dy], { attrs, inputs }) => {
    const [o, c, kh, kw] = attrs.shape as [number, number, number, number];
    const [, , h, w] = inputs[0]!.shape as [number, number, number, number];
    const [, , oh, ow] = inputs[1]!.shape as [number, number, number, number];
    const { stride, padding } = attrs;
    const same = stride === 1 && oh === h && ow === w;
    const shiftDy = same && o < c && kh * kw > 1;
    const xs = channelsFirst(g, x!, inputs[0]!.shape, shiftDy ? 0 : padding);
    const dys = channelsFirst(g, dy!, inputs[1]!.shape, shiftDy ? padding : 0);
    const flatX = shiftDy ? g.reshape(xs, [c, -1]) : "";
    const flatDy = shiftDy ? "" : g.reshape(dys, [o, -1]);
    const taps: string[] = [];
    for (let i = 0; i < kh; i++)
      for (let j = 0; j < kw; j++) {
        const [si, sj] = shiftDy ? [kh - 1 - i, kw - 1 - j] : [i, j];
        const moved = shiftDy ? dys : xs;
        const shifted =
          kh * kw === 1 && stride === 1 && padding === 0
            ? moved
            : g.slice(
                moved,
                [si, sj],
                [si + (oh - 1) * stride + 1, sj + (ow - 1) * stride + 1],
                [2, 3],
                [stride, stride],
              );
        const flat = g.reshape(shifted, [shiftDy ? o : c, -1]);
        const pair = shiftDy ? [flat, flatX] : [flatDy, flat];
        taps.push(g.add("Gemm", pair, { transA: 0, transB: 1 }));
      }
    if (taps.length === 1) return g.reshape(taps[0]!, attrs.shape);
    const stacked = g.add(
      "Concat",
      taps.map((t) => g.reshape(t, [1, o * c])),
      { axis: 0 },
    );
    return g.reshape(g.transpose(stacked, [1, 0]), attrs.shape);
  },
  vjp: ({ inputs: [x, dy], attrs }, [ddw]) => [
    conv2dInputGrad(dy!, ddw!, x!.shape, attrs),
    conv2d(x!, ddw!, undefined, attrs),
  ],
});

/** (B, C, H, W) → (C, B, H + 2p, W + 2p). */
function channelsFirst(g: GraphBuilder, x: string, [b, c, h, w]: Shape, p: number): string {
  const padded = p ? g.add("Pad", [x, g.ints([0, 0, p, p, 0, 0, p, p])]) : x;
  if (b === 1) return g.reshape(padded, [c!, 1, h! + 2 * p, w! + 2 * p]);
  return g.transpose(padded, [1, 0, 2, 3]);
}

/** Adds a per-channel term: x (B, C, H, W) + b (C) or (B, C). */
export const addChannels: (x: Tensor, b: Tensor) => Tensor = (x, b) =>
  add(x, reshape(b, [b.shape.length === 2 ? b.shape[0]! : 1, x.shape[1]!, 1, 1]));

/** 2-D convolution (cross-correlation, as torch) and its two gradients, each an op of its own. */
import { defineOp1, type Int8Use, type OpContext } from "../core/op.ts";
import { expectRank, ShapeError, show, size } from "../core/shape.ts";
import type { Shape, Tensor } from "../core/tensor.ts";
import type { GraphBuilder } from "../onnx/builder.ts";
import { int8Ref } from "../weights/int8.ts";
import { int8Convolution, int8Workspace } from "./int8.ts";
import { product } from "./product.ts";
import { sum } from "./reduce.ts";
import { winograd, winogradBytes } from "./winograd.ts";

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

const convInInt8 = ({ inputs: [, w] }: OpContext<ConvAttrs>): Int8Use | undefined => int8Ref(w!) && "forward";

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
  flops: ({ inputs: [, w], outputs: [y] }) => 2 * size(y!.shape) * size(w!.shape.slice(1)),
  int8: convInInt8,
  workspace: (ctx) =>
    convInInt8(ctx)
      ? bytesInInt8(ctx, "forward")
      : workspace(ctx.inputs[0]!.shape, ctx.inputs[1]!.shape, ctx.inputs[1]!.shape[0]!, ctx.attrs),
  lower: (g, names, ctx) => {
    const { attrs, inputs } = ctx;
    const use = g.device === "cpu" ? convInInt8(ctx) : undefined;
    return use ? inInt8(g, names, ctx, use, attrs) : convolve(g, names, inputs[0]!.shape, inputs[1]!.shape, attrs);
  },
  vjp: ({ inputs: [x, w, b], attrs }, [dy]) => [
    conv2dInputGrad(dy!, w!, x!.shape, attrs),
    conv2dWeightGrad(x!, dy!, w!.shape, attrs),
    ...(b ? [sum(dy!, [0, 2, 3])] : []),
  ],
});

/** The product in 8 bits of x, or dy, with the kernel. */
const inInt8 = (
  g: GraphBuilder,
  [x, , bias]: readonly string[],
  { inputs: [from, weight], outputs: [to] }: OpContext<unknown>,
  use: Int8Use,
  attrs: ConvAttrs,
): string => {
  const [, , kh, kw] = weight!.shape as [number, number, number, number];
  return int8Convolution(g, x!, from!.shape, to!.shape, { weight: weight!, use, bias, kernel: [kh, kw], ...attrs });
};

/** Of a 1×1 kernel x is turned, channels last; of a larger one its views are made, and joined. */
const bytesInInt8 = ({ inputs: [x, w], outputs: [y] }: OpContext<unknown>, use: Int8Use): number => {
  const [b, n, ...rest] = y!.shape as [number, number, ...number[]];
  const taps = size(w!.shape.slice(2));
  return int8Workspace([b * size(rest), x!.shape[1]! * taps, n], taps === 1 ? 5 : 2, use);
};

/** Above this, the copies that Winograd's form makes of a picture cost more memory than it is worth. */
const WINOGRAD_BYTES = 40e6;

/** Whether Winograd's form of a 3×3 convolution is the better one: few pictures of many channels, not too large (bench/conv.ts). */
const winogradPays = ([b, c, h, w]: Shape, o: number): boolean => {
  const pixels = b! * h! * w!;
  const fits = pixels >= 512 && 4 * pixels * Math.max(c!, o) <= WINOGRAD_BYTES;
  return fits && b! <= 4 && h! * w! >= 256 && h! % 4 === 0 && w! % 4 === 0 && Math.min(c!, o) >= 256;
};

const isSame3x3 = ([, , kh, kw]: Shape, { stride, padding }: ConvAttrs): boolean =>
  stride === 1 && kh === 3 && kw === 3 && padding === 1;

/** What a convolution of x to `to` channels takes on the CPU; ONNX Runtime's own kernel takes little. */
const workspace = (x: Shape, kernel: Shape, to: number, attrs: ConvAttrs): number =>
  isSame3x3(kernel, attrs) && winogradPays(x, to) ? winogradBytes(x, x[1]!, to) : 0;

/** Pictures of so few pixels go through the CPU's Conv one under another (bench/conv.ts). */
const STACKED_PIXELS = 64;

/**
 * The convolution of x (B, C, H, W). ONNX Runtime's CPU kernel does one picture after another, and reaches a quarter of its
 * speed on small ones. Where the output is as large as the input, small pictures are put one under another, with zero
 * rows between them, and become one large picture.
 */
function convolve(
  g: GraphBuilder,
  [x, ...rest]: readonly string[],
  shape: Shape,
  kernel: Shape,
  attrs: ConvAttrs,
): string {
  const [b, c, h, w] = shape as [number, number, number, number];
  const [o, , kh, kw] = kernel as [number, number, number, number];
  const onnx = onnxAttrs(attrs, [kh, kw]);
  const gap = attrs.padding;
  const same = attrs.stride === 1 && kh === 2 * gap + 1 && kw === kh;
  if (g.device === "cpu" && isSame3x3(kernel, attrs) && winogradPays(shape, o))
    return winograd(g, [x!, ...rest], shape, kernel);
  if (g.device !== "cpu" || !same || b === 1 || h * w > STACKED_PIXELS) return g.add("Conv", [x!, ...rest], onnx);
  const first = g.transpose(g.reshape(x!, [b, c, h * w]), [1, 0, 2]);
  const spaced = gap ? g.add("Pad", [first, g.ints([0, 0, 0, 0, 0, gap * w])]) : first;
  const y = g.add("Conv", [g.reshape(spaced, [1, c, b * (h + gap), w]), ...rest], onnx);
  const pictures = g.reshape(y, [o, b, (h + gap) * w]);
  const cut = gap ? g.slice(pictures, [0], [h * w], [2]) : pictures;
  return g.reshape(g.transpose(cut, [1, 0, 2]), [b, o, h, w]);
}

/** Cotangent of conv2d's input, of shape `shape`: the transposed convolution of dy (B, O, H', W') with w. */
export const conv2dInputGrad: (dy: Tensor, w: Tensor, shape: Shape, attrs: ConvAttrs) => Tensor = (
  dy,
  w,
  shape,
  attrs,
) => inputGradOp([dy, w], { ...attrs, shape });

const inputGradInInt8 = ({ inputs: [, w], attrs: { stride, padding } }: OpContext<ConvAttrs>): Int8Use | undefined => {
  const [, , kh, kw] = w!.shape;
  return int8Ref(w!) && stride === 1 && kh === kw && kh === 2 * padding + 1 ? "inputGrad" : undefined;
};

const inputGradOp = defineOp1<ConvAttrs & { shape: Shape }>({
  name: "conv2dInputGrad",
  infer: ([dy], { shape }) => ({ shape, dtype: dy!.dtype }),
  int8: inputGradInInt8,
  workspace: (ctx) => {
    const [dy, w] = ctx.inputs;
    const use = inputGradInInt8(ctx);
    return use ? bytesInInt8(ctx, use) : workspace(dy!.shape, w!.shape, ctx.attrs.shape[1]!, ctx.attrs);
  },
  flops: ({ inputs: [dy, w] }) => 2 * size(dy!.shape) * size(w!.shape.slice(1)),
  lower: (g, [dy, w], ctx) => {
    const { attrs, inputs } = ctx;
    const use = g.device === "cpu" ? inputGradInInt8(ctx) : undefined;
    if (use) return inInt8(g, [dy!, w!], ctx, use, attrs);
    const [, c, h] = attrs.shape as [number, number, number];
    const [o, , kh, kw] = inputs[1]!.shape as [number, number, number, number];
    const { stride, padding } = attrs;
    if (kh === 1 && kw === 1 && stride === 1 && padding === 0)
      return pointwiseInputGrad(g, dy!, w!, inputs[0]!.shape, c, o);
    if (g.device === "cpu" && isSame3x3(inputs[1]!.shape, attrs) && winogradPays(inputs[0]!.shape, c))
      return winograd(g, [dy!, w!], inputs[0]!.shape, inputs[1]!.shape, { transposed: true });
    // A convolution with the flipped kernel runs at full speed, but flipping costs as much as the kernel is large.
    const flip =
      stride === 1 &&
      kh === kw &&
      padding <= kh - 1 &&
      (g.device === "webgpu" || size(inputs[1]!.shape) <= size(inputs[0]!.shape));
    if (flip) {
      const swapped = g.transpose(w!, [1, 0, 2, 3]);
      const flipped = g.slice(swapped, [-1, -1], [-kh - 1, -kw - 1], [2, 3], [-1, -1]);
      return convolve(g, [dy!, flipped], inputs[0]!.shape, [c, o, kh, kw], { stride: 1, padding: kh - 1 - padding });
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
  flops: ({ inputs: [, dy], attrs }) => 2 * size(dy!.shape) * size(attrs.shape.slice(1)),
  // Matrix products of shifted views: dW[:, :, i, j] = dy · shift(x, i, j)ᵀ, all taps in one while the views fit a cache.
  lower: (g, names, ctx) => {
    const { shape, stride, padding } = ctx.attrs;
    const [o, c, kh, kw] = shape as [number, number, number, number];
    if (kh * kw === 1 && stride === 1 && padding === 0) {
      const [x, dy] = names.map((n, i) => g.reshape(channelsFirst(g, n, ctx.inputs[i]!.shape, 0), [i ? o : c, -1]));
      return g.reshape(product(g, [dy!, x!], [o, c, size(ctx.inputs[1]!.shape) / o], { transB: true }), shape);
    }
    const same = isSame3x3(shape, ctx.attrs);
    const [b, , h, w] = ctx.inputs[0]!.shape as [number, number, number, number];
    const views = 4 * b * h * w * kh * kw * Math.min(o, c);
    if (same && b > 1 && g.device === "cpu" && views <= VIEWS_BYTES) return tapsInOne(g, names, ctx.inputs);
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

/** Above this, the shifted views that `tapsInOne` keeps fall out of the cache, and a product per tap is faster. */
const VIEWS_BYTES = 24e6;

/**
 * dW (O, C, 3, 3) of a convolution with padding 1. With pixels first and channels last, a shift is a cut of whole blocks; the
 * nine views side by side make one product. Of the two tensors, the one with fewer channels is shifted.
 */
function tapsInOne(g: GraphBuilder, names: readonly string[], inputs: readonly Tensor[]): string {
  const [b, c, h, w] = inputs[0]!.shape as [number, number, number, number];
  const o = inputs[1]!.shape[1]!;
  const pixels = b * h * w;
  const [xs, dys] = names.map((name, i) => g.transpose(g.reshape(name, [b * (i ? o : c), h * w]), [1, 0]));
  const shiftDy = o < c;
  const [narrow, wide] = shiftDy ? [o, c] : [c, o];
  const grid = g.reshape(shiftDy ? dys! : xs!, [h, w, b * narrow]);
  const padded = g.add("Pad", [grid, g.ints([1, 1, 0, 1, 1, 0])]);
  const views = [0, 1, 2].flatMap((i) =>
    [0, 1, 2].map((j) => {
      const [top, left] = shiftDy ? [2 - i, 2 - j] : [i, j];
      return g.reshape(g.slice(padded, [top, left], [top + h, left + w], [0, 1]), [pixels, narrow]);
    }),
  );
  const still = g.reshape(shiftDy ? xs! : dys!, [pixels, wide]);
  const taps = g.add("Gemm", [still, g.add("Concat", views, { axis: 1 })], { transA: 1 });
  const dw = g.transpose(g.reshape(taps, [wide, 9, narrow]), shiftDy ? [2, 0, 1] : [0, 2, 1]);
  return g.reshape(dw, [o, c, 3, 3]);
}

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
  const [c, o] = inputs.map(({ shape }) => shape[1]!) as [number, number];
  const [dys] = flat(dy!, inputs[1]!.shape);
  const reach = row + 1;
  const wide = g.add("Pad", [shiftDy ? dys : xs, g.ints([0, reach, 0, reach])]);
  return [-1, 0, 1].flatMap((i) =>
    [-1, 0, 1].map((j) => {
      const start = reach + (shiftDy ? -1 : 1) * (i * row + j);
      const moved = g.slice(wide, [start], [start + length], [1]);
      return product(g, shiftDy ? [moved, xs] : [dys, moved], [o, c, length], { transB: true });
    }),
  );
}

function tapsOfAny(
  g: GraphBuilder,
  [x, dy]: readonly string[],
  { attrs, inputs }: OpContext<ConvAttrs & { shape: Shape }>,
): string[] {
  const [o, c, kh, kw] = attrs.shape as [number, number, number, number];
  const [b, , oh, ow] = inputs[1]!.shape as [number, number, number, number];
  const { stride, padding } = attrs;
  const xs = channelsFirst(g, x!, inputs[0]!.shape, padding);
  const dys = g.reshape(channelsFirst(g, dy!, inputs[1]!.shape, 0), [o, -1]);
  const taps: string[] = [];
  for (let i = 0; i < kh; i++)
    for (let j = 0; j < kw; j++) {
      const ends = [i + (oh - 1) * stride + 1, j + (ow - 1) * stride + 1];
      const moved = g.slice(xs, [i, j], ends, [2, 3], [stride, stride]);
      taps.push(product(g, [dys, g.reshape(moved, [c, -1])], [o, c, b * oh * ow], { transB: true }));
    }
  return taps;
}

/** (B, C, H, W) → (C, B, H + 2p, W + 2p). */
function channelsFirst(g: GraphBuilder, x: string, [b, c, h, w]: Shape, p: number): string {
  const padded = p ? g.add("Pad", [x, g.ints([0, 0, p, p, 0, 0, p, p])]) : x;
  if (b === 1) return g.reshape(padded, [c!, 1, h! + 2 * p, w! + 2 * p]);
  return g.transpose(padded, [1, 0, 2, 3]);
}

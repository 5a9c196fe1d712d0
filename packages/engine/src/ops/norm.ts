/** Normalisations. All rest on `normalize`, ONNX's LayerNormalization without an affine part. */
import { defineOp } from "../core/op.ts";
import { ShapeError, show } from "../core/shape.ts";
import type { Tensor } from "../core/tensor.ts";
import { add, mul, sub } from "./arithmetic.ts";
import { reshape } from "./movement.ts";
import { mean } from "./reduce.ts";

export interface NormOptions {
  readonly eps?: number;
}

/** Zero mean and unit (biased) variance along the last axis: (x − μ) / √(σ² + eps). */
export const normalize: (x: Tensor, options?: NormOptions) => Tensor = (x, { eps = 1e-5 } = {}) =>
  normalizeOp([x], { eps })[0]!;

const normalizeOp = defineOp<{ eps: number }>({
  name: "normalize",
  infer: ([x]) => [
    { shape: x!.shape, dtype: x!.dtype },
    { shape: [...x!.shape.slice(0, -1), 1], dtype: x!.dtype },
  ],
  lower: (g, [x], { attrs, inputs }) => {
    const n = inputs[0]!.shape.at(-1)!; // full-size scale and bias: shape (1) is two to three times slower
    const outs = g.addMany("LayerNormalization", 3, [x!, g.fill(1, n), g.fill(0, n)], {
      axis: -1,
      epsilon: { float: attrs.eps },
    });
    return [outs[0]!, outs[2]!];
  },
  // dx = (dy − mean(dy) − y·mean(dy·y)) / σ
  vjp: ({ outputs: [y, invStd] }, [dy]) => {
    if (!dy) return [undefined];
    const centred = sub(dy, mean(dy, [-1], true));
    return [mul(invStd!, sub(centred, mul(y!, mean(mul(dy, y!), [-1], true))))];
  },
});

/** x (..., D), scale and shift (D), as torch's LayerNorm. */
export function layerNorm(x: Tensor, scale: Tensor, shift: Tensor, options: NormOptions = {}): Tensor {
  return add(mul(normalize(x, options), scale), shift);
}

/** x (B, C, ...), scale and shift (C): statistics over each of `groups` groups of channels, as torch's GroupNorm. */
export function groupNorm(
  x: Tensor,
  scale: Tensor,
  shift: Tensor,
  { groups, eps = 1e-5 }: NormOptions & { readonly groups: number },
): Tensor {
  const [b, c, ...rest] = x.shape as [number, number, ...number[]];
  if (c % groups !== 0)
    throw new ShapeError(`groupNorm: ${groups} groups do not divide the channels of ${show(x.shape)}. [E_SHAPE]`);
  const y = reshape(normalize(reshape(x, [b, groups, -1]), { eps }), x.shape);
  const perChannel = [c, ...rest.map(() => 1)];
  return add(mul(y, reshape(scale, perChannel)), reshape(shift, perChannel));
}

/** The layers that every model is made of. Each reads its weights below the view it is given. */
import {
  add,
  conv2d,
  groupNorm,
  type Init,
  type LowRank,
  layerNorm,
  linear,
  matmul,
  mul,
  reshape,
  type Tensor,
  type Weights,
} from "@likeness/engine";

/** torch's default for linear and convolution layers: uniform within 1/√fan_in. */
export const fanIn = (n: number): Init => ({ kind: "uniform", bound: 1 / Math.sqrt(n) });
const ones: Init = { kind: "ones" };
export const zeros: Init = { kind: "zeros" };

export interface LinearOptions {
  readonly bias?: boolean;
  /** Start of the weight when the model is made to be trained; the bias then starts at 0. */
  readonly init?: Init;
}

/** x (..., in) → (..., out), plus the low-rank changes that the view may carry (Eq. 2 of the paper). */
export function linearLayer(w: Weights, x: Tensor, out: number, { bias = true, init }: LinearOptions = {}): Tensor {
  const n = x.shape.at(-1)!;
  const b = bias ? w.get("bias", [out], init ? zeros : fanIn(n)) : undefined;
  const y = linear(x, w.get("weight", [out, n], init ?? fanIn(n)), b);
  return w.lowRank("weight").reduce((sum, change) => add(sum, lowRankProduct(x, change)), y);
}

/** scale·(x·a)·b for x (B, N, in), with a, b and scale shared or per sample. */
export function lowRankProduct(x: Tensor, { a, b, scale }: LowRank): Tensor {
  if (typeof scale !== "number") return mul(lowRankProduct(x, { a, b, scale: 1 }), reshape(scale, [-1, 1, 1]));
  if (a.shape.length === 3) return matmul(matmul(x, a), b, { alpha: scale });
  const rows = reshape(x, [-1, x.shape.at(-1)!]);
  return reshape(matmul(matmul(rows, a), b, { alpha: scale }), [...x.shape.slice(0, -1), b.shape.at(-1)!]);
}

export interface ConvLayerOptions {
  readonly kernel?: number;
  readonly stride?: number;
  readonly padding?: number;
  readonly bias?: boolean;
  readonly init?: Init;
}

/** x (B, C, H, W) → (B, out, H', W'); 3×3 with padding 1 unless said; low-rank changes as in linearLayer. */
export function conv2dLayer(w: Weights, x: Tensor, out: number, options: ConvLayerOptions = {}): Tensor {
  const { kernel = 3, stride = 1, padding = kernel >> 1, bias = true, init } = options;
  const c = x.shape[1]!;
  const fan = c * kernel * kernel;
  const weight = w.get("weight", [out, c, kernel, kernel], init ?? fanIn(fan));
  const y = conv2d(x, weight, bias ? w.get("bias", [out], init ? zeros : fanIn(fan)) : undefined, { stride, padding });
  return w.lowRank("weight").reduce((sum, { a, b, scale }) => {
    const narrow = conv2d(x, a, undefined, { stride, padding });
    const share = typeof scale === "number" ? scale : reshape(scale, [-1, 1, 1, 1]);
    return add(sum, conv2d(scaled(narrow, share), b));
  }, y);
}

export interface NormLayerOptions {
  readonly groups: number;
  readonly eps?: number;
}

/** torch's GroupNorm with affine parameters; x (B, C, ...). */
export function groupNormLayer(w: Weights, x: Tensor, { groups, eps = 1e-5 }: NormLayerOptions): Tensor {
  const c = x.shape[1]!;
  return groupNorm(x, w.get("weight", [c], ones), w.get("bias", [c], zeros), { groups, eps });
}

/** torch's LayerNorm over the last axis. */
export function layerNormLayer(w: Weights, x: Tensor, { eps = 1e-5 }: { readonly eps?: number } = {}): Tensor {
  const d = x.shape.at(-1)!;
  return layerNorm(x, w.get("weight", [d], ones), w.get("bias", [d], zeros), { eps });
}

/** Adds a per-channel vector (B, C) to a map (B, C, H, W). */
export const addToChannels = (x: Tensor, v: Tensor): Tensor => add(x, reshape(v, [v.shape[0]!, v.shape[1]!, 1, 1]));

export const scaled = (x: Tensor, by: number | Tensor): Tensor => (by === 1 ? x : mul(x, by));

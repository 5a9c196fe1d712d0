/** diffusers' embeddings.py: sinusoidal timesteps and their two-layer perceptron. */
import { concat, constant, cos, mul, reshape, silu, sin, type Tensor, type Weights } from "@likeness/engine";
import { linearLayer } from "./layers.ts";

export interface SinusoidOptions {
  readonly flipSinToCos: boolean;
  readonly freqShift: number;
}

/** t (B) float32 → (B, dim): sines and cosines of t at dim / 2 frequencies from 1 down to 1/10000. */
export function timestepEmbedding(t: Tensor, dim: number, { flipSinToCos, freqShift }: SinusoidOptions): Tensor {
  const half = dim / 2;
  const frequencies = Float32Array.from({ length: half }, (_, i) =>
    Math.exp((-Math.log(10000) * i) / (half - freqShift)),
  );
  const angles = mul(reshape(t, [-1, 1]), constant(frequencies, [1, half]));
  return concat(flipSinToCos ? [cos(angles), sin(angles)] : [sin(angles), cos(angles)], 1);
}

/** TimestepEmbedding: linear_1, SiLU, linear_2. */
export const timeMlp = (w: Weights, x: Tensor, out: number): Tensor =>
  linearLayer(w.at("linear_2"), silu(linearLayer(w.at("linear_1"), x, out)), out);

/** From what a model predicts to the clean sample and the noise. */
import type { BaseConfig } from "./config.ts";
import { combine, type Rates, ratesAt } from "./schedule.ts";

type Type = BaseConfig["prediction_type"];

/**
 * x₀ = (x_t − √(1 − ᾱ_t)·ε)/√ᾱ_t, and the same for models that predict x₀ or v.
 * @eq ddpm:15 Ho et al. 2020, arXiv:2006.11239
 */
export function clean(
  prediction: Type,
  { signal, noise }: Rates,
  modelOutput: Float32Array,
  sample: Float32Array,
): Float32Array {
  if (prediction === "sample") return modelOutput;
  if (prediction === "epsilon") return combine([1 / signal, sample], [-noise / signal, modelOutput]);
  return combine([signal, sample], [-noise, modelOutput]);
}

/** ε from the same. */
export function epsilon(
  prediction: Type,
  { signal, noise }: Rates,
  modelOutput: Float32Array,
  sample: Float32Array,
): Float32Array {
  if (prediction === "epsilon") return modelOutput;
  if (prediction === "sample") return combine([1 / noise, sample], [-signal / noise, modelOutput]);
  return combine([signal, modelOutput], [noise, sample]);
}

export interface Prediction {
  /** x₀, clipped if the config says so */
  readonly predOriginalSample: Float32Array;
  /** ε; not changed by clipping, as in diffusers */
  readonly predEpsilon: Float32Array;
}

interface PredictionConfig {
  readonly prediction_type: Type;
  readonly clip_sample?: boolean;
  readonly clip_sample_range?: number;
}

/** Both, at a training time. */
export function predict(
  { prediction_type: type, clip_sample, clip_sample_range: r = 1 }: PredictionConfig,
  alphas: Float32Array,
  modelOutput: Float32Array,
  t: number,
  sample: Float32Array,
): Prediction {
  const rates = ratesAt(alphas, t);
  const x0 = clean(type, rates, modelOutput, sample);
  return {
    predOriginalSample: clip_sample ? x0.map((v) => Math.min(r, Math.max(-r, v))) : x0,
    predEpsilon: epsilon(type, rates, modelOutput, sample),
  };
}

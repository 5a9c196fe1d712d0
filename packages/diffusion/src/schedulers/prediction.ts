/** From what a model predicts to the clean sample and the noise. */
import type { BaseConfig } from "./config.ts";
import { combine, ratesAt } from "./schedule.ts";

export interface Prediction {
  /** x₀, clipped if the config says so */
  readonly predOriginalSample: Float32Array;
  /** ε; not changed by clipping, as in diffusers */
  readonly predEpsilon: Float32Array;
}

/**
 * x₀ = (x_t − √(1 − ᾱ_t)·ε)/√ᾱ_t, and the same for models that predict x₀ or v.
 * @eq ddpm:15 Ho et al. 2020, arXiv:2006.11239
 */
export function predict(
  config: BaseConfig,
  alphas: Float32Array,
  modelOutput: Float32Array,
  t: number,
  sample: Float32Array,
): Prediction {
  const { signal, noise } = ratesAt(alphas, t);
  const clip = (x: Float32Array): Float32Array => {
    const r = config.clip_sample_range;
    return config.clip_sample ? x.map((v) => Math.min(r, Math.max(-r, v))) : x;
  };
  switch (config.prediction_type) {
    case "epsilon":
      return {
        predOriginalSample: clip(combine([1 / signal, sample], [-noise / signal, modelOutput])),
        predEpsilon: modelOutput,
      };
    case "sample":
      return {
        predOriginalSample: clip(modelOutput),
        predEpsilon: combine([1 / noise, sample], [-signal / noise, modelOutput]),
      };
    case "v_prediction":
      return {
        predOriginalSample: clip(combine([signal, sample], [-noise, modelOutput])),
        predEpsilon: combine([signal, modelOutput], [noise, sample]),
      };
  }
}

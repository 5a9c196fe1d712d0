/** Noise levels as σ = √((1 − ᾱ)/ᾱ): Karras et al. 2022, arXiv:2206.00364, in whose terms x = x₀ + σ·ε. */
import type { BaseConfig, SchedulerConfig } from "./config.ts";
import { clean } from "./prediction.ts";
import { alphasCumprod, combine, type Rates } from "./schedule.ts";
import type { SamplingPlan } from "./scheduler.ts";

const f = Math.fround;

type Spaced = Pick<SchedulerConfig<"EulerDiscreteScheduler">, "use_karras_sigmas" | "use_exponential_sigmas"> &
  Partial<Pick<SchedulerConfig<"EulerDiscreteScheduler">, "sigma_min" | "sigma_max">>;

/** ᾱ with a last value just above 0 where it would be 0: σ stays finite. */
export function positiveAlphas(config: BaseConfig): Float32Array {
  const alphas = alphasCumprod(config);
  if (config.rescale_betas_zero_snr) alphas[alphas.length - 1] = 2 ** -24;
  return alphas;
}

/** σ of each training time, rising. */
export const trainingSigmas = (alphas: Float32Array): Float32Array => alphas.map((a) => Math.sqrt(f(f(1 - a) / a)));

/** σ at times that may lie between two training times. */
export const sigmasAt = (sigmas: Float32Array, timesteps: readonly number[]): number[] =>
  timesteps.map((t) => {
    const low = Math.min(Math.max(0, Math.floor(t)), sigmas.length - 1);
    const high = Math.min(low + 1, sigmas.length - 1);
    return sigmas[low]! + (t - low) * (sigmas[high]! - sigmas[low]!);
  });

/** The training time, fractional, at which the noise is σ: linear in ln σ. */
export function timeAt(sigmas: Float32Array, sigma: number): number {
  const logs = Math.log(Math.max(sigma, 1e-10));
  let low = 0;
  while (low < sigmas.length - 2 && f(Math.log(sigmas[low + 1]!)) <= logs) low++;
  const [a, b] = [f(Math.log(sigmas[low]!)), f(Math.log(sigmas[low + 1]!))];
  const w = Math.min(1, Math.max(0, (a - logs) / (a - b)));
  return low + w;
}

/**
 * n values of σ from `max` down to `min`, as the config spaces them, or undefined if it leaves that to the times.
 * @eq edm:5 Karras et al. 2022, arXiv:2206.00364, ρ = 7
 */
export function spacedSigmas(config: Spaced, n: number, max: number, min: number): number[] | undefined {
  const [first, last] = [config.sigma_max ?? max, config.sigma_min ?? min];
  const at = (i: number): number => (n === 1 ? 0 : i / (n - 1));
  const between = (to: (x: number) => number, from: (x: number) => number): number[] =>
    Array.from({ length: n }, (_, i) => from(to(first) + at(i) * (to(last) - to(first))));
  if (config.use_karras_sigmas)
    return between(
      (x) => x ** (1 / 7),
      (x) => x ** 7,
    );
  if (config.use_exponential_sigmas) return between(Math.log, Math.exp);
  return undefined;
}

/** √ᾱ and √(1 − ᾱ) of a noise level σ. */
export function ratesOfSigma(sigma: number): Rates {
  const signal = 1 / Math.sqrt(sigma ** 2 + 1);
  return { signal, noise: sigma * signal };
}

/** What the plans of DPM-Solver++ and UniPC have in common: x = signal·x₀ + noise·ε, of variance 1 throughout. */
export function variancePlan(
  sigmas: Float32Array,
): Pick<SamplingPlan, "initNoiseSigma" | "scaleModelInput" | "addNoise"> {
  return {
    initNoiseSigma: 1,
    scaleModelInput: (sample) => sample,
    addNoise: (original, noise, i) => {
      const rates = ratesOfSigma(sigmas[i]!);
      return combine([rates.signal, original], [rates.noise, noise]);
    },
  };
}

/** x₀ from what the model said about x/√(σ² + 1), where x = x₀ + σ·ε. */
export function denoised(
  prediction: BaseConfig["prediction_type"],
  sigma: number,
  modelOutput: Float32Array,
  sample: Float32Array,
): Float32Array {
  const rates = ratesOfSigma(sigma);
  return clean(prediction, rates, modelOutput, combine([rates.signal, sample]));
}

/** What the plans of Euler and LMS have in common: x = x₀ + σ·ε, handed to the model as x/√(σ² + 1). */
export function sigmaPlan(
  config: BaseConfig,
  sigmas: Float32Array,
): Pick<SamplingPlan, "initNoiseSigma" | "scaleModelInput" | "addNoise"> {
  const max = sigmas.reduce((a, b) => Math.max(a, b), 0);
  return {
    initNoiseSigma: config.timestep_spacing === "leading" ? f(Math.sqrt(max ** 2 + 1)) : max,
    scaleModelInput: (sample, i) => combine([ratesOfSigma(sigmas[i]!).signal, sample]),
    addNoise: (original, noise, i) => combine([1, original], [sigmas[i]!, noise]),
  };
}

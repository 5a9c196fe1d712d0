/** The noise schedule of diffusion: how much signal and noise a sample has at each time. Float32 steps as in torch. */
import { type BaseConfig, SchedulerError } from "./config.ts";

const f = Math.fround;

/**
 * ᾱ_t, the share of the signal's variance at each training time: shape (num_train_timesteps,).
 * @eq ddpm:4 Ho et al. 2020, arXiv:2006.11239
 */
export function alphasCumprod(config: BaseConfig): Float32Array {
  const betas = config.rescale_betas_zero_snr ? rescaleZeroTerminalSnr(betasOf(config)) : betasOf(config);
  return cumprod(betas);
}

/** β_t, the variance added at each training time: shape (num_train_timesteps,). */
export function betasOf({ num_train_timesteps: n, beta_start, beta_end, beta_schedule }: BaseConfig): Float32Array {
  if (beta_schedule === "linear") return linspace(beta_start, beta_end, n);
  if (beta_schedule === "scaled_linear")
    return linspace(Math.sqrt(beta_start), Math.sqrt(beta_end), n).map((b) => b * b);
  const alphaBar = (t: number): number => Math.cos((((t + 0.008) / 1.008) * Math.PI) / 2) ** 2;
  return Float32Array.from({ length: n }, (_, i) => Math.min(1 - alphaBar((i + 1) / n) / alphaBar(i / n), 0.999));
}

/** torch.linspace in float32: from either end towards the middle, product and sum rounded once together. */
function linspace(start: number, end: number, n: number): Float32Array {
  const [a, b] = [f(start), f(end)];
  const step = f(f(b - a) / Math.max(1, n - 1));
  return Float32Array.from({ length: n }, (_, i) => (n === 1 || i < n >> 1 ? a + step * i : b - step * (n - i - 1)));
}

/** ∏ (1 − β), accumulated in float64 and rounded, as torch.cumprod does. */
function cumprod(betas: Float32Array): Float32Array {
  let product = 1;
  return betas.map((beta) => (product *= f(1 - beta)));
}

/** Shifts and scales √ᾱ so that the last time has no signal left. Lin et al. 2023, arXiv:2305.08891, algorithm 1. */
export function rescaleZeroTerminalSnr(betas: Float32Array): Float32Array {
  const root = cumprod(betas).map(Math.sqrt);
  const first = root[0]!;
  const last = root[root.length - 1]!;
  const scale = f(first / f(first - last));
  const bar = root.map((r) => f(f(r - last) * scale) ** 2);
  return bar.map((a, i) => 1 - f(i === 0 ? a : a / bar[i - 1]!));
}

/** √ᾱ_t and √(1 − ᾱ_t): what the signal and the noise of a sample are multiplied by. */
export interface Rates {
  readonly signal: number;
  readonly noise: number;
}

/** @throws SchedulerError if t is not a training time */
export function ratesAt(alphas: Float32Array, t: number): Rates {
  const alpha = alphas[t];
  if (alpha === undefined)
    throw new SchedulerError(`timestep: needed a whole number in [0, ${alphas.length}), found ${t}.`);
  return { signal: f(Math.sqrt(alpha)), noise: f(Math.sqrt(f(1 - alpha))) };
}

/** √ᾱ_t·x + √(1 − ᾱ_t)·ε: a clean sample as it is at time t. */
export const addNoise = (alphas: Float32Array, sample: Float32Array, noise: Float32Array, t: number): Float32Array => {
  const rates = ratesAt(alphas, t);
  return combine([rates.signal, sample], [rates.noise, noise]);
};

/** √ᾱ_t·ε − √(1 − ᾱ_t)·x: the target of v-prediction. Salimans & Ho 2022, arXiv:2202.00512, appendix D. */
export const getVelocity = (
  alphas: Float32Array,
  sample: Float32Array,
  noise: Float32Array,
  t: number,
): Float32Array => {
  const rates = ratesAt(alphas, t);
  return combine([rates.signal, noise], [-rates.noise, sample]);
};

/** Σ cᵢ·xᵢ, elementwise. A term with c = 0 is left out. @throws SchedulerError if lengths differ */
export function combine(...terms: readonly (readonly [number, Float32Array])[]): Float32Array {
  const length = terms[0]![1].length;
  for (const [, x] of terms)
    if (x.length !== length) throw new SchedulerError(`samples: needed ${length} values, found ${x.length}.`);
  const used = terms.filter(([c]) => c !== 0);
  return Float32Array.from({ length }, (_, i) => {
    let sum = 0;
    for (const [c, x] of used) sum += c * x[i]!;
    return sum;
  });
}

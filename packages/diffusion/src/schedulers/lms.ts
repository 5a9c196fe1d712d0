import { parseSchedulerConfig } from "./config.ts";
import { combine } from "./schedule.ts";
import type { Scheduler } from "./scheduler.ts";
import { denoised, positiveAlphas, sigmaPlan, sigmasAt, spacedSigmas, timeAt, trainingSigmas } from "./sigmas.ts";
import { fractionalTimesteps, timeOf } from "./timesteps.ts";

const ORDER = 4;
/** Gauss–Legendre on [−1, 1], exact for polynomials up to degree 3, which is all that order 4 asks for. */
const NODE: number = 1 / Math.sqrt(3);

/** ∫ from σ_i to σ_(i+1) of the Lagrange polynomial that is 1 at σ_(i−j) and 0 at the others of the last `order`. */
export function lmsCoefficient(sigmas: Float32Array, i: number, order: number, j: number): number {
  const basis = (x: number): number => {
    let product = 1;
    for (let k = 0; k < order; k++) if (k !== j) product *= (x - sigmas[i - k]!) / (sigmas[i - j]! - sigmas[i - k]!);
    return product;
  };
  const [from, to] = [sigmas[i]!, sigmas[i + 1]!];
  const [middle, half] = [(from + to) / 2, (to - from) / 2];
  return half * (basis(middle - half * NODE) + basis(middle + half * NODE));
}

/** diffusers' LMSDiscreteScheduler: a linear multi-step method of order 4 on dx/dσ. */
export function lmsScheduler(json: unknown, where?: string): Scheduler {
  const config = parseSchedulerConfig(json, "LMSDiscreteScheduler", where);
  const alphas = positiveAlphas(config);
  const training = trainingSigmas(alphas);
  return {
    config,
    alphasCumprod: alphas,
    setTimesteps: (n) => {
      const spacing = fractionalTimesteps(config, n);
      const plain = sigmasAt(training, spacing);
      const spaced = spacedSigmas(config, n, plain[0]!, plain.at(-1)!);
      const timesteps = [...Float32Array.from(spaced?.map((s) => timeAt(training, s)) ?? spacing)];
      const sigmas = Float32Array.from([...(spaced ?? plain), 0]);
      return {
        timesteps,
        ...sigmaPlan(config, sigmas),
        step: (modelOutput, i, sample, { history } = {}) => {
          timeOf(timesteps, i);
          const predOriginalSample = denoised(config.prediction_type, sigmas[i]!, modelOutput, sample);
          const slope = combine([1 / sigmas[i]!, sample], [-1 / sigmas[i]!, predOriginalSample]);
          const slopes = [...(history?.outputs ?? []), slope].slice(-ORDER);
          // by the step, not by what is known: where a picture is the start, terms are missing, in diffusers as here
          const order = Math.min(i + 1, ORDER);
          const terms = slopes
            .toReversed()
            .map((d, j): [number, Float32Array] => [lmsCoefficient(sigmas, i, order, j), d]);
          const next = { count: (history?.count ?? 0) + 1, outputs: slopes };
          return { prevSample: combine([1, sample], ...terms), predOriginalSample, history: next };
        },
      };
    },
  };
}

import { parseSchedulerConfig, type SchedulerConfig } from "./config.ts";
import { drawNoise } from "./noise.ts";
import { predict } from "./prediction.ts";
import { addNoise, alphasCumprod, combine } from "./schedule.ts";
import type { Scheduler } from "./scheduler.ts";
import { timeOf, timestepsOf } from "./timesteps.ts";

const f = Math.fround;

/**
 * μ̃_t = √ᾱ_prev·β_t/(1 − ᾱ_t)·x₀ + √α_t·(1 − ᾱ_prev)/(1 − ᾱ_t)·x_t, here the factors of x₀ and x_t.
 * @eq ddpm:7 Ho et al. 2020, arXiv:2006.11239
 */
export function posteriorMean(alpha: number, alphaPrev: number): [number, number] {
  const alphaT = f(alpha / alphaPrev);
  return [(Math.sqrt(alphaPrev) * f(1 - alphaT)) / f(1 - alpha), (Math.sqrt(alphaT) * f(1 - alphaPrev)) / f(1 - alpha)];
}

/** σ_t: the root of β̃_t (fixed_small, by way of its logarithm too) or of β_t (fixed_large). */
export function posteriorDeviation(
  alpha: number,
  alphaPrev: number,
  type: SchedulerConfig<"DDPMScheduler">["variance_type"],
): number {
  const beta = f(1 - f(alpha / alphaPrev));
  if (type === "fixed_large") return Math.sqrt(beta);
  return Math.sqrt(Math.max(f(f(f(1 - alphaPrev) / f(1 - alpha)) * beta), 1e-20));
}

/** diffusers' DDPMScheduler. @throws SchedulerError for a config that it does not support */
export function ddpmScheduler(json: unknown, where?: string): Scheduler {
  const config = parseSchedulerConfig(json, "DDPMScheduler", where);
  const alphas = alphasCumprod(config);
  return {
    config,
    alphasCumprod: alphas,
    setTimesteps: (n) => {
      const timesteps = timestepsOf(config, n);
      return {
        timesteps,
        initNoiseSigma: 1,
        scaleModelInput: (sample) => sample,
        addNoise: (original, noise, i) => addNoise(alphas, original, noise, timeOf(timesteps, i)),
        step: (modelOutput, i, sample, { noise } = {}) => {
          const t = timeOf(timesteps, i);
          const { predOriginalSample } = predict(config, alphas, modelOutput, t, sample);
          const alpha = alphas[t]!;
          const next = timesteps[i + 1];
          const alphaPrev = next === undefined ? 1 : alphas[next]!;
          const [x0, xt] = posteriorMean(alpha, alphaPrev);
          const mean = [[x0, predOriginalSample] as const, [xt, sample] as const] as const;
          const deviation = posteriorDeviation(alpha, alphaPrev, config.variance_type);
          const prevSample = t > 0 ? combine(...mean, [deviation, drawNoise(noise, sample.length)]) : combine(...mean);
          return { prevSample, predOriginalSample };
        },
      };
    },
  };
}

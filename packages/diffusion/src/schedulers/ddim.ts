import { parseSchedulerConfig } from "./config.ts";
import { drawNoise } from "./noise.ts";
import { predict } from "./prediction.ts";
import { addNoise, alphasCumprod, combine } from "./schedule.ts";
import type { Scheduler } from "./scheduler.ts";
import { timeOf, timestepsOf } from "./timesteps.ts";

const f = Math.fround;

/**
 * σ_t² = η²·(1 − ᾱ_prev)/(1 − ᾱ_t)·(1 − ᾱ_t/ᾱ_prev).
 * @eq ddim:16 Song et al. 2021, arXiv:2010.02502
 */
export function ddimVariance(alpha: number, alphaPrev: number, eta: number): number {
  return eta ** 2 * f(f(f(1 - alphaPrev) / f(1 - alpha)) * f(1 - f(alpha / alphaPrev)));
}

/** What x₀, ε and fresh noise are multiplied by to give the sample at the previous time. @eq ddim:12 */
export function ddimCoefficients(alpha: number, alphaPrev: number, eta: number): [number, number, number] {
  const variance = eta === 0 ? 0 : ddimVariance(alpha, alphaPrev, eta);
  return [Math.sqrt(alphaPrev), Math.sqrt(1 - alphaPrev - variance), Math.sqrt(variance)];
}

/** diffusers' DDIMScheduler. @throws SchedulerError for a config that it does not support */
export function ddimScheduler(json: unknown, where?: string): Scheduler {
  const config = parseSchedulerConfig(json, "DDIMScheduler", where);
  const alphas = alphasCumprod(config);
  const finalAlpha = config.set_alpha_to_one ? 1 : alphas[0]!;
  return {
    config,
    alphasCumprod: alphas,
    takesEta: true,
    setTimesteps: (n) => {
      const timesteps = timestepsOf(config, n);
      const stride = Math.floor(config.num_train_timesteps / n);
      return {
        timesteps,
        initNoiseSigma: 1,
        scaleModelInput: (sample) => sample,
        addNoise: (original, noise, i) => addNoise(alphas, original, noise, timeOf(timesteps, i)),
        step: (modelOutput, i, sample, { eta = 0, noise } = {}) => {
          const t = timeOf(timesteps, i);
          const { predOriginalSample, predEpsilon } = predict(config, alphas, modelOutput, t, sample);
          const alphaPrev = t - stride >= 0 ? alphas[t - stride]! : finalAlpha;
          const [x0, direction, random] = ddimCoefficients(alphas[t]!, alphaPrev, eta);
          const prevSample =
            random > 0
              ? combine([x0, predOriginalSample], [direction, predEpsilon], [random, drawNoise(noise, sample.length)])
              : combine([x0, predOriginalSample], [direction, predEpsilon]);
          return { prevSample, predOriginalSample };
        },
      };
    },
  };
}

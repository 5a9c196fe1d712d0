import { parseSchedulerConfig, type SchedulerConfig } from "./config.ts";
import { drawNoise } from "./noise.ts";
import { combine } from "./schedule.ts";
import type { Scheduler } from "./scheduler.ts";
import { denoised, positiveAlphas, sigmaPlan, sigmasAt, spacedSigmas, timeAt, trainingSigmas } from "./sigmas.ts";
import { fractionalTimesteps, timeOf } from "./timesteps.ts";

/** diffusers' EulerDiscreteScheduler, without churn. @eq edm:alg2 Karras et al. 2022, arXiv:2206.00364 */
export function eulerScheduler(json: unknown, where?: string): Scheduler {
  const config = parseSchedulerConfig(json, "EulerDiscreteScheduler", where);
  const alphas = positiveAlphas(config);
  const training = trainingSigmas(alphas);
  return {
    config,
    alphasCumprod: alphas,
    setTimesteps: (n) => {
      const { timesteps, sigmas } = eulerTimes(config, training, n);
      return {
        timesteps,
        ...sigmaPlan(config, sigmas),
        step: (modelOutput, i, sample) => {
          timeOf(timesteps, i);
          const [sigma, next] = [sigmas[i]!, sigmas[i + 1]!];
          const predOriginalSample = denoised(config.prediction_type, sigma, modelOutput, sample);
          return { prevSample: towards(predOriginalSample, sample, next / sigma), predOriginalSample };
        },
      };
    },
  };
}

/** x₀ + ratio·(x − x₀): the straight way to x₀, as far as σ falls. */
const towards = (x0: Float32Array, sample: Float32Array, ratio: number): Float32Array =>
  combine([1 - ratio, x0], [ratio, sample]);

function eulerTimes(
  config: SchedulerConfig<"EulerDiscreteScheduler">,
  training: Float32Array,
  n: number,
): { timesteps: number[]; sigmas: Float32Array } {
  let timesteps = fractionalTimesteps(config, n);
  let sigmas = sigmasAt(training, timesteps);
  if (config.interpolation_type === "log_linear") {
    const [first, last] = [Math.log(training.at(-1)!), Math.log(training[0]!)];
    sigmas = Array.from({ length: n + 1 }, (_, i) => Math.exp(first + (i / n) * (last - first)));
  }
  const spaced = spacedSigmas(config, n, sigmas[0]!, sigmas.at(-1)!);
  if (spaced) {
    sigmas = spaced;
    timesteps = sigmas.map((s) => timeAt(training, s));
  }
  const all = Float32Array.from([...sigmas, config.final_sigmas_type === "zero" ? 0 : training[0]!]);
  if (config.timestep_type === "continuous" && config.prediction_type === "v_prediction")
    timesteps = [...all.subarray(0, n)].map((s) => 0.25 * Math.log(s));
  return { timesteps: [...Float32Array.from(timesteps)], sigmas: all };
}

/** diffusers' EulerAncestralDiscreteScheduler: a step to less noise than asked for, and fresh noise up to it. */
export function eulerAncestralScheduler(json: unknown, where?: string): Scheduler {
  const config = parseSchedulerConfig(json, "EulerAncestralDiscreteScheduler", where);
  const alphas = positiveAlphas(config);
  const training = trainingSigmas(alphas);
  return {
    config,
    alphasCumprod: alphas,
    setTimesteps: (n) => {
      const timesteps = [...Float32Array.from(fractionalTimesteps(config, n))];
      const sigmas = Float32Array.from([...sigmasAt(training, timesteps), 0]);
      return {
        timesteps,
        ...sigmaPlan(config, sigmas),
        step: (modelOutput, i, sample, { noise } = {}) => {
          timeOf(timesteps, i);
          const [from, to] = [sigmas[i]!, sigmas[i + 1]!];
          const up = Math.sqrt((to ** 2 * (from ** 2 - to ** 2)) / from ** 2);
          const down = Math.sqrt(to ** 2 - up ** 2);
          const predOriginalSample = denoised(config.prediction_type, from, modelOutput, sample);
          const fresh = drawNoise(noise, sample.length); // drawn even when `up` is 0, as diffusers does
          const prevSample = combine([1, towards(predOriginalSample, sample, down / from)], [up, fresh]);
          return { prevSample, predOriginalSample };
        },
      };
    },
  };
}

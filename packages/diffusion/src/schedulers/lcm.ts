import { parseSchedulerConfig, type SchedulerConfig, SchedulerError } from "./config.ts";
import { drawNoise } from "./noise.ts";
import { predict } from "./prediction.ts";
import { addNoise, alphasCumprod, combine } from "./schedule.ts";
import type { Scheduler } from "./scheduler.ts";
import { timeOf } from "./timesteps.ts";

/** σ_data of the boundary condition. */
const SIGMA_DATA = 0.5;

/** diffusers' LCMScheduler: multi-step consistency sampling. @eq lcm:alg3 Luo et al. 2023, arXiv:2310.04378 */
export function lcmScheduler(json: unknown, where?: string): Scheduler {
  const config = parseSchedulerConfig(json, "LCMScheduler", where);
  const alphas = alphasCumprod(config);
  return {
    config,
    alphasCumprod: alphas,
    setTimesteps: (n) => {
      const timesteps = lcmTimesteps(config, n);
      return {
        timesteps,
        initNoiseSigma: 1,
        scaleModelInput: (sample) => sample,
        addNoise: (original, noise, i) => addNoise(alphas, original, noise, timeOf(timesteps, i)),
        step: (modelOutput, i, sample, { noise } = {}) => {
          const t = timeOf(timesteps, i);
          const { predOriginalSample: x0 } = predict(config, alphas, modelOutput, t, sample);
          const scaled = t * config.timestep_scaling;
          const skip = SIGMA_DATA ** 2 / (scaled ** 2 + SIGMA_DATA ** 2);
          const out = scaled / Math.sqrt(scaled ** 2 + SIGMA_DATA ** 2);
          const denoised = combine([out, x0], [skip, sample]);
          const next = timesteps[i + 1];
          const prevSample =
            next === undefined ? denoised : addNoise(alphas, denoised, drawNoise(noise, sample.length), next);
          return { prevSample, predOriginalSample: denoised };
        },
      };
    },
  };
}

/** n of the times at which the model was distilled. @throws SchedulerError if it has seen fewer */
function lcmTimesteps(
  { num_train_timesteps: total, original_inference_steps: original }: SchedulerConfig<"LCMScheduler">,
  n: number,
): number[] {
  if (!Number.isInteger(n) || n < 1 || n > original)
    throw new SchedulerError(
      `steps: needed a whole number in [1, ${original}] (original_inference_steps), found ${n}.`,
    );
  const stride = Math.floor(total / original);
  return Array.from({ length: n }, (_, i) => (original - Math.floor((i * original) / n)) * stride - 1);
}

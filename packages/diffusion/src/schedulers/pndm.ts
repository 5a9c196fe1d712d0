import { parseSchedulerConfig, type SchedulerConfig, SchedulerError } from "./config.ts";
import { predict } from "./prediction.ts";
import { addNoise, alphasCumprod, combine } from "./schedule.ts";
import type { Scheduler, StepHistory } from "./scheduler.ts";
import { timeOf, timestepsOf } from "./timesteps.ts";

/** Adams–Bashforth weights of the last outputs, newest first. Liu et al. 2022, arXiv:2202.09778, @eq pndm:12 */
const PLMS: readonly (readonly number[])[] = [
  [1],
  [3 / 2, -1 / 2],
  [23 / 12, -16 / 12, 5 / 12],
  [55 / 24, -59 / 24, 37 / 24, -9 / 24],
];
/** Runge–Kutta weights of the four outputs of a step. */
const PRK = [1 / 6, 1 / 3, 1 / 3, 1 / 6] as const;
/** Calls of the Runge–Kutta start: three steps of four. */
const PRK_CALLS = 12;

/** diffusers' PNDMScheduler; Stable Diffusion's files skip the Runge–Kutta start, which then is a second call at the second time. */
export function pndmScheduler(json: unknown, where?: string): Scheduler {
  const config = parseSchedulerConfig(json, "PNDMScheduler", where);
  const alphas = alphasCumprod(config);
  const finalAlpha = config.set_alpha_to_one ? 1 : alphas[0]!;
  const toPrevious = (sample: Float32Array, t: number, previous: number, output: Float32Array): Float32Array => {
    const [x, e] = pndmCoefficients(alphas[t]!, previous >= 0 ? alphas[previous]! : finalAlpha);
    const { predEpsilon } = predict(config, alphas, output, t, sample);
    return combine([x, sample], [e, predEpsilon]);
  };
  return {
    config,
    alphasCumprod: alphas,
    setTimesteps: (n) => {
      const timesteps = pndmTimesteps(config, n);
      const stride = Math.floor(config.num_train_timesteps / n);
      const plms = (output: Float32Array, t: number, sample: Float32Array, history: StepHistory) => {
        const { count } = history;
        if (count === 1) {
          // the same step again, with the mean of its two slopes; as diffusers has it, from one stride above
          const mean = combine([0.5, output], [0.5, history.outputs.at(-1)!]);
          const start = history.sample!;
          return { prevSample: toPrevious(start, t + stride, t, mean), outputs: history.outputs, kept: undefined };
        }
        const outputs = [...history.outputs.slice(-3), output];
        const weights = PLMS[outputs.length - 1]!;
        const slope = combine(...outputs.toReversed().map((e, k): [number, Float32Array] => [weights[k]!, e]));
        return {
          prevSample: toPrevious(sample, t, t - stride, slope),
          outputs,
          kept: count === 0 ? sample : undefined,
        };
      };
      const prk = (output: Float32Array, t: number, sample: Float32Array, history: StepHistory) => {
        const { count } = history;
        const start = count % 4 === 0 ? sample : history.sample!;
        const outputs = [...history.outputs, output];
        const slope =
          count % 4 === 3 ? combine(...outputs.slice(-4).map((e, k): [number, Float32Array] => [PRK[k]!, e])) : output;
        const previous = t - (count % 2 ? 0 : stride >> 1);
        const prevSample = toPrevious(start, timesteps[count - (count % 4)]!, previous, slope);
        // after the start only the first output of each of its steps counts
        const kept = count === PRK_CALLS - 1 ? outputs.filter((_, k) => k % 4 === 0) : outputs;
        return { prevSample, outputs: kept, kept: start };
      };
      return {
        timesteps,
        initNoiseSigma: 1,
        scaleModelInput: (sample) => sample,
        addNoise: (original, noise, i) => addNoise(alphas, original, noise, timeOf(timesteps, i)),
        step: (modelOutput, i, sample, { history = { count: 0, outputs: [] } } = {}) => {
          const t = timeOf(timesteps, i);
          const starting = !config.skip_prk_steps && history.count < PRK_CALLS;
          const { prevSample, outputs, kept } = (starting ? prk : plms)(modelOutput, t, sample, history);
          const { predOriginalSample } = predict(config, alphas, modelOutput, t, sample);
          const next = { count: history.count + 1, outputs, ...(kept && { sample: kept }) };
          return { prevSample, predOriginalSample, history: next };
        },
      };
    },
  };
}

/** What x and ε are multiplied by on the way from ᾱ_t to ᾱ_prev. @eq pndm:11 Liu et al. 2022, arXiv:2202.09778 */
export function pndmCoefficients(alpha: number, alphaPrev: number): [number, number] {
  const denominator = alpha * Math.sqrt(1 - alphaPrev) + Math.sqrt(alpha * (1 - alpha) * alphaPrev);
  return [Math.sqrt(alphaPrev / alpha), -(alphaPrev - alpha) / denominator];
}

function pndmTimesteps(config: SchedulerConfig<"PNDMScheduler">, n: number): number[] {
  const falling = timestepsOf(config, n);
  if (config.skip_prk_steps) return falling.flatMap((t, i) => (i === 1 ? [t, t] : [t]));
  if (n < 4) throw new SchedulerError(`steps: needed at least 4 for the Runge-Kutta start of PNDM, found ${n}.`);
  const half = Math.floor(config.num_train_timesteps / n) >> 1;
  const start = falling.slice(0, 3).flatMap((t, k) => {
    const below = falling[k + 1]!;
    return [t, below + half, below + half, below];
  });
  return [...start, ...falling.slice(3)];
}

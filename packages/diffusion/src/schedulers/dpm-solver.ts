import { parseSchedulerConfig, type SchedulerConfig } from "./config.ts";
import { drawNoise } from "./noise.ts";
import { clean } from "./prediction.ts";
import { combine } from "./schedule.ts";
import type { Scheduler } from "./scheduler.ts";
import {
  positiveAlphas,
  ratesOfSigma,
  sigmasAt,
  spacedSigmas,
  timeAt,
  trainingSigmas,
  variancePlan,
} from "./sigmas.ts";
import { multistepTimesteps, roundHalfEven, timeOf } from "./timesteps.ts";

type Config = SchedulerConfig<"DPMSolverMultistepScheduler">;

/** diffusers' DPMSolverMultistepScheduler: DPM-Solver++ (Lu et al. 2022, arXiv:2211.01095), plain or as an SDE. */
export function dpmSolverScheduler(json: unknown, where?: string): Scheduler {
  const config = parseSchedulerConfig(json, "DPMSolverMultistepScheduler", where);
  const alphas = positiveAlphas(config);
  return {
    config,
    alphasCumprod: alphas,
    setTimesteps: (n) => {
      const { timesteps, sigmas } = dpmTimes(config, trainingSigmas(alphas), n);
      const steps = timesteps.length;
      const few = config.lower_order_final && steps < 15;
      return {
        timesteps,
        ...variancePlan(sigmas),
        step: (modelOutput, i, sample, { noise, history = { count: 0, outputs: [] } } = {}) => {
          timeOf(timesteps, i);
          const x0 = clean(config.prediction_type, ratesOfSigma(sigmas[i]!), modelOutput, sample);
          const outputs = [...history.outputs, x0].slice(-config.solver_order);
          const first = i === steps - 1 && (config.euler_at_final || few || config.final_sigmas_type === "zero");
          const second = i === steps - 2 && few;
          const order = Math.min(outputs.length, first ? 1 : second ? 2 : 3);
          const recent = outputs.slice(-order).reverse();
          const c = dpmCoefficients(config, sigmas, i, order);
          const terms = recent.map((x, k): [number, Float32Array] => [c.outputs[k]!, x]);
          const fresh: [number, Float32Array][] =
            config.algorithm_type === "sde-dpmsolver++" ? [[c.noise, drawNoise(noise, sample.length)]] : [];
          const prevSample = combine([c.sample, sample], ...terms, ...fresh);
          return { prevSample, predOriginalSample: x0, history: { count: history.count + 1, outputs } };
        },
      };
    },
  };
}

interface Coefficients {
  readonly sample: number;
  /** Of the x₀ foreseen at this step, at the one before, at the one before that. */
  readonly outputs: readonly number[];
  readonly noise: number;
}

/**
 * The step from σ_i to σ_(i+1) as a sum. λ = −ln σ, h = λ_(i+1) − λ_i; derivatives of x₀ by λ from differences.
 * @eq dpm++:9 Lu et al. 2022, arXiv:2211.01095, and its appendix for order 3 and the SDE
 */
export function dpmCoefficients(
  { algorithm_type, solver_type }: Pick<Config, "algorithm_type" | "solver_type">,
  sigmas: Float32Array,
  i: number,
  order: number,
): Coefficients {
  const lambda = (k: number): number => -Math.log(sigmas[k]!);
  const h = lambda(i + 1) - lambda(i);
  const sde = algorithm_type === "sde-dpmsolver++";
  const { signal, noise } = ratesOfSigma(sigmas[i + 1]!);
  const from = ratesOfSigma(sigmas[i]!).noise;
  const g = sde ? 2 * h : h; // the SDE's solution has e^(−2h) where the ODE's has e^(−h)
  const decay = Math.expm1(-g);
  const d0 = -signal * decay;
  const slope = signal * (decay / g + 1);
  const d1 = order === 3 || solver_type === "heun" ? slope : d0 / 2;
  // the SDE's + 0.5 is diffusers' sign, kept for the sake of the same pictures; by the derivation it is − 0.5
  const d2 = -signal * ((decay + g) / g ** 2 + (sde ? 0.5 : -0.5));
  return {
    sample: (noise / from) * (sde ? Math.exp(-h) : 1),
    outputs: ofDifferences(order, [d0, d1, d2], h, lambda, i),
    noise: sde ? noise * Math.sqrt(-Math.expm1(-2 * h)) : 0,
  };
}

/** Coefficients of D0, D1, D2 as coefficients of the x₀ that they are differences of. */
function ofDifferences(
  order: number,
  [d0, d1, d2]: readonly [number, number, number],
  h: number,
  lambda: (k: number) => number,
  i: number,
): number[] {
  if (order === 1) return [d0];
  const r0 = (lambda(i) - lambda(i - 1)) / h;
  if (order === 2) return [d0 + d1 / r0, -d1 / r0];
  const r1 = (lambda(i - 1) - lambda(i - 2)) / h;
  // D1 = a + r0/(r0 + r1)·(a − b), D2 = (a − b)/(r0 + r1), with a = (m0 − m1)/r0, b = (m1 − m2)/r1
  const a = d1 + (d1 * r0 + d2) / (r0 + r1);
  const b = -(d1 * r0 + d2) / (r0 + r1);
  return [d0 + a / r0, -a / r0 + b / r1, -b / r1];
}

function dpmTimes(
  config: Config,
  training: Float32Array,
  n: number,
): { timesteps: readonly number[]; sigmas: Float32Array } {
  const last = training.filter((s) => -Math.log(s) >= config.lambda_min_clipped).length;
  const plain = multistepTimesteps(config, n, last);
  const [max, min] = [training.at(-1)!, training[0]!];
  const spaced = config.use_lu_lambdas
    ? spacedSigmas({ use_karras_sigmas: false, use_exponential_sigmas: true }, n, max, min)
    : spacedSigmas(config, n, max, min);
  const whole =
    config.use_exponential_sigmas || config.beta_schedule === "squaredcos_cap_v2" ? Math.trunc : roundHalfEven;
  const timesteps = spaced?.map((s) => whole(timeAt(training, s))) ?? plain;
  const sigmas = spaced ?? sigmasAt(training, plain);
  return { timesteps, sigmas: Float32Array.from([...sigmas, config.final_sigmas_type === "zero" ? 0 : min]) };
}

import { parseSchedulerConfig, type SchedulerConfig } from "./config.ts";
import { clean, epsilon } from "./prediction.ts";
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

type Config = SchedulerConfig<"UniPCMultistepScheduler">;

/** diffusers' UniPCMultistepScheduler (Zhao et al. 2023, arXiv:2302.04867): each output also corrects the step before. */
export function unipcScheduler(json: unknown, where?: string): Scheduler {
  const config = parseSchedulerConfig(json, "UniPCMultistepScheduler", where);
  const alphas = positiveAlphas(config);
  return {
    config,
    alphasCumprod: alphas,
    setTimesteps: (n) => {
      const { timesteps, sigmas } = unipcTimes(config, trainingSigmas(alphas), n);
      const orderAt = (i: number, before: number): number =>
        Math.min(config.solver_order, before + 1, config.lower_order_final ? timesteps.length - i : Infinity);
      return {
        timesteps,
        ...variancePlan(sigmas),
        step: (modelOutput, i, sample, { history = { count: 0, outputs: [] } } = {}) => {
          timeOf(timesteps, i);
          const rates = ratesOfSigma(sigmas[i]!);
          const output = (config.predict_x0 ? clean : epsilon)(config.prediction_type, rates, modelOutput, sample);
          const { count, outputs, sample: last } = history;
          const corrected =
            last && !config.disable_corrector.includes(i - 1)
              ? bhUpdate(config, sigmas, i - 1, orderAt(i - 1, count - 1), last, outputs, output)
              : sample;
          const kept = [...outputs, output].slice(-config.solver_order);
          const prevSample = bhUpdate(config, sigmas, i, orderAt(i, count), corrected, kept);
          const predOriginalSample = clean(config.prediction_type, rates, modelOutput, sample);
          return { prevSample, predOriginalSample, history: { count: count + 1, outputs: kept, sample: corrected } };
        },
      };
    },
  };
}

/**
 * From σ_i to σ_(i+1) by the outputs at σ_i and before (UniP), and with the one at σ_(i+1), if there is one (UniC).
 * @eq unipc:alg1 Zhao et al. 2023, arXiv:2302.04867, in the form of B(h)
 */
function bhUpdate(
  { predict_x0, solver_type }: Config,
  sigmas: Float32Array,
  i: number,
  order: number,
  sample: Float32Array,
  outputs: readonly Float32Array[],
  reached?: Float32Array,
): Float32Array {
  const lambda = (k: number): number => -Math.log(sigmas[k]!);
  const h = lambda(i + 1) - lambda(i);
  const hh = predict_x0 ? -h : h;
  const phi1 = Math.expm1(hh);
  const bh = solver_type === "bh1" ? hh : phi1;
  const [from, to] = [ratesOfSigma(sigmas[i]!), ratesOfSigma(sigmas[i + 1]!)];
  const [keep, scale] = predict_x0 ? [to.noise / from.noise, to.signal] : [to.signal / from.signal, to.noise];
  const ratios = Array.from({ length: order - 1 }, (_, k) => (lambda(i - 1 - k) - lambda(i)) / h);
  const rho = weights([...ratios, 1], hh, bh, reached !== undefined);
  const newest = outputs.at(-1)!;
  // Σ ρ_k·(m_k − m_0)/r_k, the difference to the reached output last
  const others = ratios.map((r, k) => [rho[k]! / r, outputs.at(-2 - k)!] as const);
  if (reached) others.push([rho[order - 1]!, reached]);
  const total = others.reduce((sum, [c]) => sum + c, 0);
  const ofNewest = others.length ? phi1 - bh * total : phi1; // h and bh are infinite at the last of the levels, 0
  return combine(
    [keep, sample],
    [-scale * ofNewest, newest],
    ...others.map(([c, m]): [number, Float32Array] => [-scale * bh * c, m]),
  );
}

/** ρ with Σ ρ_k·r_k^(n−1) = b_n; diffusers takes ½ where a single one is left. */
function weights(r: readonly number[], hh: number, bh: number, correcting: boolean): number[] {
  const order = r.length;
  const size = correcting ? order : order - 1;
  if (size === 1) return [0.5];
  let phi = Math.expm1(hh) / hh - 1;
  let factorial = 1;
  const rows = Array.from({ length: size }, (_, n) => {
    const b = (phi * factorial) / bh;
    factorial *= n + 2;
    phi = phi / hh - 1 / factorial;
    return [...r.slice(0, size).map((x) => x ** n), b];
  });
  return solve(rows);
}

/** Gaussian elimination with row pivoting; each row ends with its right-hand side. */
function solve(rows: number[][]): number[] {
  const n = rows.length;
  for (let k = 0; k < n; k++) {
    let pivot = k;
    for (let i = k + 1; i < n; i++) if (Math.abs(rows[i]![k]!) > Math.abs(rows[pivot]![k]!)) pivot = i;
    [rows[k], rows[pivot]] = [rows[pivot]!, rows[k]!];
    for (let i = 0; i < n; i++) {
      if (i === k) continue;
      const factor = rows[i]![k]! / rows[k]![k]!;
      rows[i] = rows[i]!.map((x, j) => x - factor * rows[k]![j]!);
    }
  }
  return rows.map((row, k) => row[n]! / row[k]!);
}

function unipcTimes(
  config: Config,
  training: Float32Array,
  n: number,
): { timesteps: readonly number[]; sigmas: Float32Array } {
  const plain = multistepTimesteps(config, n);
  const spaced = spacedSigmas(config, n, training.at(-1)!, training[0]!);
  const whole = config.use_karras_sigmas ? roundHalfEven : Math.trunc;
  const sigmas = spaced ?? sigmasAt(training, plain);
  const smallest = spaced ? spaced.at(-1)! : training[0]!;
  return {
    timesteps: spaced?.map((s) => whole(timeAt(training, s))) ?? plain,
    sigmas: Float32Array.from([...sigmas, config.final_sigmas_type === "zero" ? 0 : smallest]),
  };
}

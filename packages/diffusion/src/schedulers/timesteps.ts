/** Which training times the steps visit: Lin et al. 2023, arXiv:2305.08891, table 2, in diffusers' three readings. */
import { type BaseConfig, SchedulerError } from "./config.ts";

/**
 * Falling whole times, the last at or near 0: DDPM, DDIM, PNDM.
 * @throws SchedulerError if n is not in [1, num_train_timesteps]
 */
export function timestepsOf(config: BaseConfig, n: number): number[] {
  if (config.timestep_spacing === "linspace") return fractionalTimesteps(config, n).map(roundHalfEven);
  return fractionalTimesteps(config, n);
}

/** The same with times between two training times where the spacing asks for them: Euler, LMS. @throws SchedulerError */
export function fractionalTimesteps(config: BaseConfig, n: number): number[] {
  const { num_train_timesteps: total, timestep_spacing: spacing, steps_offset: offset } = config;
  expectSteps(n, total);
  if (spacing === "leading") return count(n, (i) => (n - 1 - i) * Math.floor(total / n) + offset);
  if (spacing === "trailing") return trailing(total, total, n);
  const step = (total - 1) / Math.max(1, n - 1);
  return count(n, (i) => (n > 1 && i === 0 ? total - 1 : (n - 1 - i) * step));
}

/**
 * One time more than steps, the last left out: DPM-Solver++, UniPC.
 * @param last the number of times in use
 * @throws SchedulerError
 */
export function multistepTimesteps(
  { num_train_timesteps: total, timestep_spacing: spacing, steps_offset: offset }: BaseConfig,
  n: number,
  last: number = total,
): number[] {
  expectSteps(n, total);
  if (spacing === "linspace") return count(n, (i) => roundHalfEven(i === 0 ? last - 1 : (n - i) * ((last - 1) / n)));
  if (spacing === "leading") return count(n, (i) => (n - i) * Math.floor(last / (n + 1)) + offset);
  return trailing(last, total, n);
}

/** numpy.arange(last, 0, −total/n), which adds the rounded difference of its first two values, minus 1. */
function trailing(last: number, total: number, n: number): number[] {
  const step = last - total / n - last;
  return count(Math.ceil(last / (total / n)), (i) => roundHalfEven(last + i * step) - 1);
}

function expectSteps(n: number, total: number): void {
  if (!Number.isInteger(n) || n < 1 || n > total)
    throw new SchedulerError(`steps: needed a whole number in [1, ${total}], found ${n}.`);
}

/** The time of step i. @throws SchedulerError if there is none */
export function timeOf(timesteps: readonly number[], i: number): number {
  const t = timesteps[i];
  if (t === undefined) throw new SchedulerError(`step: needed one of 0 to ${timesteps.length - 1}, found ${i}.`);
  return t;
}

const count = (n: number, at: (i: number) => number): number[] => Array.from({ length: n }, (_, i) => at(i));

export function roundHalfEven(x: number): number {
  const r = Math.round(x);
  return x % 1 === 0.5 && r % 2 !== 0 ? r - 1 : r;
}

import { type BaseConfig, SchedulerError } from "./config.ts";

/**
 * The training times that n steps visit, falling: Lin et al. 2023, arXiv:2305.08891, table 2.
 * @throws SchedulerError if n is not in [1, num_train_timesteps]
 */
export function timestepsOf(config: BaseConfig, n: number): number[] {
  const { num_train_timesteps: total, timestep_spacing: spacing, steps_offset: offset } = config;
  if (!Number.isInteger(n) || n < 1 || n > total)
    throw new SchedulerError(`steps: needed a whole number in [1, ${total}], found ${n}.`);
  if (spacing === "leading") return count(n, (i) => (n - 1 - i) * Math.floor(total / n) + offset);
  if (spacing === "linspace") {
    const step = (total - 1) / Math.max(1, n - 1);
    return count(n, (i) => roundHalfEven(n > 1 && i === 0 ? total - 1 : (n - 1 - i) * step));
  }
  // numpy.arange(total, 0, −total/n), which adds the rounded difference of its first two values
  const step = total - total / n - total;
  return count(Math.ceil(total / (total / n)), (i) => roundHalfEven(total + i * step) - 1);
}

const count = (n: number, at: (i: number) => number): number[] => Array.from({ length: n }, (_, i) => at(i));

function roundHalfEven(x: number): number {
  const r = Math.round(x);
  return x % 1 === 0.5 && r % 2 !== 0 ? r - 1 : r;
}

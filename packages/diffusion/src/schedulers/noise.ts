import { SchedulerError } from "./config.ts";
import type { StepOptions } from "./scheduler.ts";

/** The noise of a step. @throws SchedulerError if there is none */
export function drawNoise(noise: StepOptions["noise"], n: number): Float32Array {
  if (!noise)
    throw new SchedulerError(`noise: this step needs ${n} standard normal values, found none. Pass { noise }.`);
  return typeof noise === "function" ? noise(n) : noise;
}

export {
  type BaseConfig,
  parseSchedulerConfig,
  SCHEDULER_CLASSES,
  type SchedulerClass,
  type SchedulerConfig,
  SchedulerError,
  schedulerClass,
} from "./config.ts";
export { createScheduler, SCHEDULER_NAMES } from "./create.ts";
export { addNoise, alphasCumprod, getVelocity, type Rates, ratesAt } from "./schedule.ts";
export type { SamplingPlan, Scheduler, StepHistory, StepOptions, StepOutput } from "./scheduler.ts";
export { timestepsOf } from "./timesteps.ts";

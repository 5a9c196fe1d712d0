export {
  type BaseConfig,
  type DDIMConfig,
  type DDPMConfig,
  parseSchedulerConfig,
  SCHEDULER_CLASSES,
  type SchedulerClass,
  SchedulerError,
  schedulerClass,
} from "./config.ts";
export { createScheduler, SCHEDULER_NAMES } from "./create.ts";
export { ddimScheduler } from "./ddim.ts";
export { ddpmScheduler } from "./ddpm.ts";
export { addNoise, alphasCumprod, getVelocity, type Rates, ratesAt } from "./schedule.ts";
export type { SamplingPlan, Scheduler, StepOptions, StepOutput } from "./scheduler.ts";
export { timestepsOf } from "./timesteps.ts";

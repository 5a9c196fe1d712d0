/** What every scheduler offers. A plan has no state: a multi-step solver takes its history and returns the next one. */
import type { BaseConfig } from "./config.ts";

export interface StepOptions {
  /** DDIM: 0 is deterministic, 1 as noisy as DDPM */
  readonly eta?: number;
  /** fresh standard normal noise, as many values as the sample; a function is called only if the step needs it */
  readonly noise?: Float32Array | ((n: number) => Float32Array);
  /** what the last step returned, for multi-step solvers */
  readonly history?: readonly Float32Array[];
}

export interface StepOutput {
  /** the sample at the next (smaller) time */
  readonly prevSample: Float32Array;
  /** the clean sample that this step foresees */
  readonly predOriginalSample: Float32Array;
  readonly history?: readonly Float32Array[];
}

/** The steps of one generation. */
export interface SamplingPlan {
  /** training times, falling */
  readonly timesteps: readonly number[];
  /** what the first noise is multiplied by */
  readonly initNoiseSigma: number;
  /** the sample as the model wants to see it */
  scaleModelInput(sample: Float32Array, t: number): Float32Array;
  /**
   * One step from time t.
   * @param modelOutput what the model said about `sample`, as many values
   * @throws SchedulerError if t is not in the plan, lengths differ, or noise is needed and missing
   */
  step(modelOutput: Float32Array, t: number, sample: Float32Array, options?: StepOptions): StepOutput;
}

export interface Scheduler {
  readonly config: BaseConfig;
  /** ᾱ_t: shape (num_train_timesteps,) */
  readonly alphasCumprod: Float32Array;
  /** @throws SchedulerError if n is not in [1, num_train_timesteps] */
  setTimesteps(n: number): SamplingPlan;
}

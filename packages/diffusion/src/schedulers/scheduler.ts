/** What every scheduler offers. A plan has no state: a multi-step solver takes its history and returns the next one. */
import type { BaseConfig } from "./config.ts";

/** What a multi-step solver remembers of the steps before. */
export interface StepHistory {
  /** Steps made so far. */
  readonly count: number;
  /** What the model said, in the solver's terms, newest last. */
  readonly outputs: readonly Float32Array[];
  /** A sample from which a later step starts again. */
  readonly sample?: Float32Array;
}

export interface StepOptions {
  /** DDIM: 0 is deterministic, 1 as noisy as DDPM */
  readonly eta?: number;
  /** fresh standard normal noise, as many values as the sample; a function is called only if the step needs it */
  readonly noise?: Float32Array | ((n: number) => Float32Array);
  /** what the last step returned, for multi-step solvers */
  readonly history?: StepHistory;
}

export interface StepOutput {
  /** the sample at the next (smaller) time */
  readonly prevSample: Float32Array;
  /** the clean sample that this step foresees */
  readonly predOriginalSample: Float32Array;
  readonly history?: StepHistory;
}

/** The steps of one generation. */
export interface SamplingPlan {
  /** The training time of each model call, falling; a solver may visit one twice, or a time between two. */
  readonly timesteps: readonly number[];
  /** what the first noise is multiplied by */
  readonly initNoiseSigma: number;
  /** the sample of step i as the model wants to see it */
  scaleModelInput(sample: Float32Array, i: number): Float32Array;
  /**
   * Step i, at timesteps[i].
   * @param modelOutput what the model said about `sample`, as many values
   * @throws SchedulerError if there is no step i, lengths differ, or noise is needed and missing
   */
  step(modelOutput: Float32Array, i: number, sample: Float32Array, options?: StepOptions): StepOutput;
  /** A clean sample with as much noise as step i starts with. */
  addNoise(original: Float32Array, noise: Float32Array, i: number): Float32Array;
}

export interface Scheduler {
  readonly config: BaseConfig;
  /** ᾱ_t: shape (num_train_timesteps,) */
  readonly alphasCumprod: Float32Array;
  /** Whether eta means something to its steps: DDIM's. */
  readonly takesEta?: boolean;
  /** @throws SchedulerError if n is not in [1, num_train_timesteps] */
  setTimesteps(n: number): SamplingPlan;
}

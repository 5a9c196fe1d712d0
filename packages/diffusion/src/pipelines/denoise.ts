/** The sampling loop, whatever predicts. */
import type { SamplingPlan, StepOptions } from "../schedulers/index.ts";

export interface DenoiseOptions {
  readonly plan: SamplingPlan;
  /** Starting noise, not yet scaled by the plan's initNoiseSigma; or, from `first` on, latents as noisy as that step. */
  readonly latents: Float32Array;
  /** The first step that is made: later than 0 where a picture is the start. */
  readonly first?: number | undefined;
  /** What the model says about the latents at time t, guidance included. */
  predict(latents: Float32Array, t: number): Promise<Float32Array>;
  /** Fresh noise for schedulers that ask for it. */
  readonly noise?: (n: number) => Float32Array;
  /** DDIM's share of fresh noise in a step: 0, the default, to 1. */
  readonly eta?: number | undefined;
  onStep?(event: { readonly step: number; readonly steps: number; readonly latents: Float32Array }): void;
  readonly signal?: AbortSignal | undefined;
}

/** Runs all steps of a plan and returns the last latents. @throws the signal's reason if it is aborted */
export async function denoise({
  plan,
  latents,
  first,
  predict,
  noise,
  eta = 0,
  onStep,
  signal,
}: DenoiseOptions): Promise<Float32Array> {
  const { timesteps, initNoiseSigma } = plan;
  let sample = initNoiseSigma === 1 || first !== undefined ? latents : latents.map((x) => x * initNoiseSigma);
  let history: StepOptions["history"];
  for (let i = first ?? 0; i < timesteps.length; i++) {
    const t = timesteps[i]!;
    signal?.throwIfAborted();
    const output = await predict(plan.scaleModelInput(sample, i), t);
    const next = plan.step(output, i, sample, { eta, ...(noise && { noise }), ...(history && { history }) });
    sample = next.prevSample;
    history = next.history;
    onStep?.({ step: i + 1 - (first ?? 0), steps: timesteps.length - (first ?? 0), latents: sample });
  }
  return sample;
}

/** Classifier-free guidance: unconditional + g·(conditional − unconditional). @eq cfg:6 Ho & Salimans 2022, arXiv:2207.12598 */
export const guided = (unconditional: Float32Array, conditional: Float32Array, g: number): Float32Array =>
  unconditional.map((u, i) => u + g * (conditional[i]! - u));

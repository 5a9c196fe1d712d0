/** The sampling loop, whatever predicts, and guidance. */
import type { Feeds, Program } from "@likeness/engine";
import type { SamplingPlan, StepOptions } from "../schedulers/index.ts";
import { deviation } from "../statistics.ts";

export interface DenoiseOptions {
  readonly plan: SamplingPlan;
  /** Starting noise, not yet scaled by the plan's initNoiseSigma; or, from `first` on, latents as noisy as that step. */
  readonly latents: Float32Array;
  /** The first step that is made: later than 0 where a picture is the start. */
  readonly first?: number | undefined;
  /** What the model says about the latents at time t, which is that of step i of the plan, guidance included. */
  predict(latents: Float32Array, t: number, i: number): Promise<Float32Array>;
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
    const output = await predict(plan.scaleModelInput(sample, i), t, i);
    const next = plan.step(output, i, sample, { eta, ...(noise && { noise }), ...(history && { history }) });
    sample = next.prevSample;
    history = next.history;
    onStep?.({ step: i + 1 - (first ?? 0), steps: timesteps.length - (first ?? 0), latents: sample });
  }
  return sample;
}

export interface Guidance {
  /** 1 or less: none. */
  readonly scale: number;
  /** Of Lin et al. 2023: how far the guided prediction is brought back to the deviation of the conditional one; 0, the default, to 1. */
  readonly rescale?: number | undefined;
  /**
   * Share of the plan's steps that are guided, the first ones, where what is seen is decided: 1, the default, all of them
   * (Kynkäänniemi et al. 2024, arXiv:2404.07724).
   */
  readonly stop?: number | undefined;
}

/**
 * Classifier-free guidance: unconditional + g·(conditional − unconditional), and with rescale φ a share φ of it at the deviation
 * that the conditional prediction of that picture has: a large g brightens and saturates what is predicted where there is no signal.
 * @param pictures how many of equal size lie in a prediction
 * @eq cfg:6 Ho & Salimans 2022, arXiv:2207.12598
 * @eq zsnr:15 @eq zsnr:16 Lin et al. 2023, arXiv:2305.08891
 */
export function guided(
  unconditional: Float32Array,
  conditional: Float32Array,
  { scale: g, rescale: phi = 0 }: Guidance,
  pictures: number = 1,
): Float32Array {
  const y = unconditional.map((u, i) => u + g * (conditional[i]! - u));
  if (phi === 0) return y;
  const size = y.length / pictures;
  for (let at = 0; at < y.length; at += size) {
    const one = y.subarray(at, at + size);
    const factor = phi * (deviation(conditional.subarray(at, at + size)) / deviation(one)) + (1 - phi);
    for (let i = 0; i < size; i++) one[i]! *= factor;
  }
  return y;
}

/** Prompts of a batch: with guidance the unconditional ones, then the others. */
export const halvesOf = ({ scale }: Guidance): 1 | 2 => (scale > 1 ? 2 : 1);

/** Of those, the ones that step i of so many is made with: all, or from where guidance stops the last. */
export const halvesAt = (guidance: Guidance, i: number, steps: number): 1 | 2 =>
  i < Math.floor((guidance.stop ?? 1) * steps) ? halvesOf(guidance) : 1;

export interface GuidedOptions {
  readonly pictures: number;
  /** All steps of the plan, also those before an init image's first. */
  readonly steps: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The prediction of so many pictures by a UNet.
 * @param unet its program of so many rows, of inputs sample and timestep and what `prompts` feeds
 * @param prompts feeds with the rows of `halvesOf` this guidance
 */
export function guidedUNet(
  unet: (rows: number) => Promise<Program>,
  prompts: Feeds,
  guidance: Guidance,
  { pictures, steps, signal }: GuidedOptions,
): DenoiseOptions["predict"] {
  const ends = Object.entries(prompts).map(([name, x]) => [name, x.subarray(x.length - x.length / halvesOf(guidance))]);
  const conditional = Object.fromEntries(ends) as Feeds;
  return async (z, t, i) => {
    const halves = halvesAt(guidance, i, steps);
    const sample = new Float32Array(halves * z.length);
    for (let at = 0; at < sample.length; at += z.length) sample.set(z, at);
    const rows = halves * pictures;
    const feeds = { sample, timestep: new Float32Array(rows).fill(t), ...(halves === 1 ? conditional : prompts) };
    const y = (await (await unet(rows)).run(feeds, { signal })).output as Float32Array;
    return halves === 1 ? y : guided(y.subarray(0, z.length), y.subarray(z.length), guidance, pictures);
  };
}

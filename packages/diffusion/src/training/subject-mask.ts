/** Training of subject_mask/: each pixel, subject or not, from a frozen picture encoder. */
import { counterRandom, type Feeds, input, mean, mul, softplus, sub, type Tensor, Variables } from "@likeness/engine";
import type { SubjectMaskConfig } from "../config/subject-mask.ts";
import { subjectMask } from "../models/subject-mask.ts";
import type { CLIPVision } from "./autoencoder.ts";
import { masksOf, type PictureFile } from "./data.ts";
import type { TrainingTask } from "./loop.ts";

export interface SubjectMaskTrainingOptions {
  readonly batchSize: number;
  readonly seed: number;
}

/** Binary cross-entropy of logits with shares from 0 to 1, as torch's binary_cross_entropy_with_logits: mean over all. */
export const binaryCrossEntropy = (logits: Tensor, shares: Tensor): Tensor =>
  mean(sub(softplus(logits), mul(logits, shares)));

/** @param data with tensor `masks` (N, H, W): how much of each pixel is subject, of 255 */
export function subjectMaskTask(
  config: SubjectMaskConfig,
  tower: CLIPVision,
  data: PictureFile,
  { batchSize: b, seed }: SubjectMaskTrainingOptions,
  start: (key: string) => Float32Array | undefined,
): TrainingTask {
  const variables = new Variables({ seed, start });
  const masks = masksOf(data, data.height, {
    next: "The masks that a subject mask is trained with are as fine as the pictures: write the data with --fine-masks.",
  });
  const shape = [b, 3, data.height, data.width];
  const logits = subjectMask(variables.weights(), config, tower, input("pixels", shape));
  return {
    variables,
    batchSize: b,
    scalars: { loss: binaryCrossEntropy(logits, input("masks", [b, data.height, data.width])) },
    feeds: (step): Feeds => {
      const random = counterRandom(seed, `subject mask step ${step}`);
      const indices = Int32Array.from({ length: b }, () => random.int(data.count));
      return { pixels: data.batch(indices), masks: masks(indices) };
    },
  };
}

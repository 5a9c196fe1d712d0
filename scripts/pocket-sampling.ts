/** How the scripts draw with the pocket model: as its evaluation does. Its schedule ends without signal, so guidance is rescaled. */
import type { StableDiffusionModel } from "@likeness/diffusion";
import { readEvaluationConfig, samplingOptions } from "@likeness/personalization";

export const { sampling: SAMPLING } = readEvaluationConfig("models/pocket/training/6-evaluation.json");

export const pocketSampling = ({ resolution: side }: StableDiffusionModel) => ({
  ...samplingOptions(SAMPLING),
  ...{ width: side, height: side, numImages: 1 },
});

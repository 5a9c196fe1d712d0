/** How the scripts draw with the pocket model: as its evaluation does. Its schedule ends without signal, so guidance is rescaled. */
import type { StableDiffusionModel } from "@likeness/diffusion";
import { readEvaluationConfig } from "@likeness/personalization";

export const { sampling: SAMPLING } = readEvaluationConfig("models/pocket/training/6-evaluation.json");

export const pocketSampling = ({ resolution: side }: StableDiffusionModel) => ({
  ...{ steps: SAMPLING.steps, guidanceScale: SAMPLING.guidance_scale },
  ...{ guidanceRescale: SAMPLING.guidance_rescale, guidanceStop: SAMPLING.guidance_stop },
  ...{ width: side, height: side, numImages: 1 },
});

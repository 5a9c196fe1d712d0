/** How the scripts draw with the pocket model. Its schedule ends without signal, so guidance is rescaled. */
import type { StableDiffusionModel } from "@likeness/diffusion";

export const pocketSampling = ({ resolution: side }: StableDiffusionModel) => ({
  ...{ steps: 25, guidanceScale: 5, guidanceRescale: 0.7 },
  ...{ width: side, height: side, numImages: 1 },
});

/** generation_config.json of a model folder, ours: how the model is best drawn with, under the names of diffusers' pipelines and guiders. */
import { z } from "zod";

export const GenerationConfig = z.strictObject({
  num_inference_steps: z.int().positive().max(1000).optional(),
  guidance_scale: z.number().nonnegative().optional(),
  guidance_rescale: z.number().min(0).max(1).optional(),
  guidance_stop: z.number().min(0).max(1).optional(),
  /** Of concepts: how much of their share the unconditional half of guidance has. */
  guidance_alpha: z.number().min(0).max(1).optional(),
});
export type GenerationConfig = z.output<typeof GenerationConfig>;

/** config.json of subject_mask/: what finds the subject of a photo. */
import { z } from "zod";

export const SubjectMaskConfig = z.strictObject({
  _class_name: z.literal("SubjectMask").default("SubjectMask"),
  /** Width of the layer between a patch and its pixels. */
  hidden_size: z.int().positive(),
});
export type SubjectMaskConfig = z.output<typeof SubjectMaskConfig>;

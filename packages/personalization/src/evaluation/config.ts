/** The config of `likeness evaluate`. */
import { parseConfig, readJson } from "@likeness/diffusion";
import { z } from "zod";
import { MethodSpec } from "../baselines/spec.ts";

export const EvaluationConfig = z.strictObject({
  model: z.string(),
  /** The evaluation set, a .safetensors file. */
  set: z.string(),
  /** Folder of the judge, trained apart from the model: one of `likeness train`'s, or a CLIPModel. */
  judge: z.string(),
  /** Folder of what has been measured so far; a run goes on where the last one stopped. */
  run: z.string(),
  /** The report, a .md file; contact sheets are written beside it. */
  out: z.string().endsWith(".md"),
  seed: z.int().nonnegative().default(0),
  /** How many of the set's subjects and prompts, in its order; all by default. */
  subjects: z.int().positive().optional(),
  prompts: z.int().positive().optional(),
  /** Pictures of each subject and prompt: they have the seeds seed, seed + 1, … in every row. */
  images: z.int().positive().default(4),
  /** How many of the set's prompts about subjects that the base model knows by name; all by default, 0 for none. */
  backbone: z.int().nonnegative().optional(),
  methods: z.array(MethodSpec).min(1),
  /** Name of the row that the report holds all others against, subject by subject. */
  reference: z.string().optional(),
  sampling: z
    .strictObject({
      steps: z.int().positive().default(25),
      guidance_scale: z.number().nonnegative().default(4),
      guidance_rescale: z.number().min(0).max(1).optional(),
      guidance_stop: z.number().min(0).max(1).optional(),
      guidance_alpha: z.number().min(0).max(1).optional(),
      scheduler: z.string().optional(),
      /** Pictures at once. */
      batch_size: z.int().positive().default(8),
    })
    .prefault({}),
  /** Noise draws per tuning step. */
  batch_size: z.int().positive().default(16),
  /** Neutral prompts of the tuning with <S*>; by default the tuning-encoder's, or Textual Inversion's. */
  templates: z.array(z.string().includes("<S*>")).min(1).optional(),
  /** Subjects on the contact sheets. */
  sheet_subjects: z.int().nonnegative().default(6),
  /** Times process start to concept file, and 4 pictures of it, this often; 0 doesn't. */
  timings: z.int().nonnegative().default(0),
});
export type EvaluationConfig = z.output<typeof EvaluationConfig>;

/** `sampling` as a generator takes it. */
export const samplingOptions = (sampling: EvaluationConfig["sampling"]) => ({
  ...{ steps: sampling.steps, scheduler: sampling.scheduler },
  ...{ guidanceScale: sampling.guidance_scale, guidanceRescale: sampling.guidance_rescale },
  guidanceStop: sampling.guidance_stop,
  guidanceAlpha: sampling.guidance_alpha,
});

/** @throws ConfigError */
export const readEvaluationConfig = (path: string): EvaluationConfig =>
  parseConfig(EvaluationConfig, readJson(path), path);

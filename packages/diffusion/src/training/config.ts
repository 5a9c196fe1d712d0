/** The config of `likeness train`: which model of a diffusers folder, on which data, for how long. */
import { z } from "zod";

const shared = {
  /** A diffusers folder; the part to be trained needs its config.json there, the weights are written beside it. */
  model: z.string(),
  /** Captioned pictures: a .safetensors file with `images` and metadata `captions`. */
  data: z.string(),
  /** Folder of log and checkpoint. */
  run: z.string(),
  seed: z.int().nonnegative().default(0),
  /** Begin with the weights that the model folder has (a run that another machine began) instead of fresh ones. */
  from_weights: z.boolean().default(false),
  steps: z.int().positive(),
  batch_size: z.int().positive(),
  /** "muon" orthogonalises the updates of matrices and kernels; AdamW takes what is left, at the same learning rate. */
  optimizer: z.enum(["adamw", "muon"]).default("adamw"),
  learning_rate: z.number().positive(),
  warmup_steps: z.int().positive().default(100),
  decay_steps: z.int().positive().default(1),
  weight_decay: z.number().nonnegative().default(0),
  max_grad_norm: z.number().positive().default(1),
  ema_decay: z.number().min(0).max(1).default(0.999),
  checkpointing_steps: z.int().positive().default(500),
  logging_steps: z.int().positive().default(10),
};

export const AutoencoderTraining = z.strictObject({
  task: z.literal("autoencoder"),
  ...shared,
  kl_weight: z.number().nonnegative().default(1e-4),
  /** Which half learns: "decoder" leaves the latents as they are, so that a denoiser trained on them stays good. */
  train: z.enum(["both", "decoder"]).default("both"),
  /** How much it counts that the model's picture tower sees original and result differently; 0 asks no tower. */
  perceptual_weight: z.number().nonnegative().default(0),
  /** Side of random crops, in pixels; null takes whole pictures. */
  resolution: z.int().positive().nullable().default(null),
});

export const ClipTraining = z
  .strictObject({
    task: z.literal("clip"),
    ...shared,
    /** What learns: "image" leaves the text encoder as it is, so that a denoiser trained on it stays good. */
    train: z.enum(["both", "image"]).default("both"),
    /** Batches of pictures that are hard to tell apart: runs of `size` that agree in the fields `by` of metadata `specs`. */
    groups: z
      .strictObject({ by: z.array(z.string()).min(1), size: z.int().min(2) })
      .nullable()
      .default(null),
    /** Both towers also learn to tell each of the fields `by` of metadata `specs`, each through a table that isn't kept. */
    labels: z
      .strictObject({ by: z.array(z.string()).min(1), weight: z.number().positive().default(0.5) })
      .nullable()
      .default(null),
    /** The picture tower's patches also tell instances: of data with `references` and metadata `subjects`. Batches come by them. */
    instances: z
      .strictObject({
        weight: z.number().positive().default(1),
        /** Chance that an instance is followed by its subject in another hand, which is another instance. */
        siblings: z.number().min(0).max(1).default(0.5),
      })
      .nullable()
      .default(null),
  })
  .refine(({ groups, instances }) => !(groups && instances), {
    message: "groups and instances each say how a batch is drawn: needed one of them",
  });

export const UnetTraining = z.strictObject({
  task: z.literal("unet"),
  ...shared,
  /** Share of captions replaced by the empty prompt, for classifier-free guidance. */
  caption_dropout: z.number().min(0).max(1).default(0.1),
  /** min-SNR weighting (Hang et al. 2023); null weighs all timesteps alike. */
  snr_gamma: z.number().positive().nullable().default(5),
  /** How timesteps are drawn: 1 is uniform, less draws the middle of the schedule, where shapes are decided, more often. */
  timestep_spread: z.number().positive().max(1).default(1),
  /** How much more an error counts where tensor `masks` of the data shows the subject; 1 needs no masks. */
  subject_weight: z.number().min(1).default(1),
  /** How much more a picture counts whose caption has one of these texts: the largest that applies, else 1. */
  caption_weights: z.record(z.string().min(1), z.number().positive()).default({}),
});

export const JudgeTraining = z.strictObject({
  task: z.literal("judge"),
  ...shared,
  /** Chance that an instance is followed by its subject in another hand, which is another instance. */
  siblings: z.number().min(0).max(1).default(0.5),
  /** Share of the pictures that it sees blurred, each by another amount, as generators' pictures are. */
  blur: z.number().min(0).max(1).default(0),
  /** Texts and pictures also learn to tell each of these fields of metadata `specs`, each through a table that isn't kept. */
  labels: z.array(z.string()).default([]),
});

export const SubjectMaskTraining = z.strictObject({
  task: z.literal("subject-mask"),
  ...shared,
});

export const TrainingConfig = z.discriminatedUnion("task", [
  AutoencoderTraining,
  ClipTraining,
  UnetTraining,
  JudgeTraining,
  SubjectMaskTraining,
]);
export type TrainingConfig = z.output<typeof TrainingConfig>;

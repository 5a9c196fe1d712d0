/** scheduler_config.json, strictly: a key that we don't know or a value that we don't implement is an error. */
import { z } from "zod";

/** A scheduler_config.json says something that is not implemented, or a scheduler is used against its plan. */
export class SchedulerError extends Error {
  override readonly name = "SchedulerError";
  readonly code = "E_SCHEDULER";
  constructor(message: string) {
    super(`${message} [E_SCHEDULER]`);
  }
}

const shared = {
  _class_name: z.string().optional(),
  _diffusers_version: z.string().optional(),
  /** keys that had their default value when diffusers wrote the file */
  _use_default_values: z.array(z.string()).optional(),
  num_train_timesteps: z.int().min(1).default(1000),
  beta_start: z.number().positive().default(0.0001),
  beta_end: z.number().positive().max(1).default(0.02),
  beta_schedule: z.enum(["linear", "scaled_linear", "squaredcos_cap_v2"]).default("linear"),
  trained_betas: z.null().default(null),
  clip_sample: z.boolean().default(true),
  clip_sample_range: z.number().positive().default(1),
  prediction_type: z.enum(["epsilon", "v_prediction", "sample"]).default("epsilon"),
  thresholding: z.literal(false).default(false),
  dynamic_thresholding_ratio: z.number().default(0.995), // without effect, as thresholding is false
  sample_max_value: z.number().default(1), // likewise
  timestep_spacing: z.enum(["leading", "trailing", "linspace"]).default("leading"),
  steps_offset: z.int().nonnegative().default(0),
  rescale_betas_zero_snr: z.boolean().default(false),
};

const ddpm = z.strictObject({
  ...shared,
  variance_type: z.enum(["fixed_small", "fixed_small_log", "fixed_large"]).default("fixed_small"),
  // of DDIM and PNDM, whose files DDPM reads too; without effect
  set_alpha_to_one: z.boolean().optional(),
  skip_prk_steps: z.boolean().optional(),
});

const ddim = z.strictObject({
  ...shared,
  set_alpha_to_one: z.boolean().default(true),
  // of DDPM and PNDM, whose files DDIM reads too; without effect
  variance_type: z.string().optional(),
  skip_prk_steps: z.boolean().optional(),
});

const SCHEMAS = { DDPMScheduler: ddpm, DDIMScheduler: ddim };
export type SchedulerClass = keyof typeof SCHEMAS;
export const SCHEDULER_CLASSES: readonly SchedulerClass[] = Object.keys(SCHEMAS) as SchedulerClass[];

export type DDPMConfig = z.infer<typeof ddpm>;
export type DDIMConfig = z.infer<typeof ddim>;
/** What all schedulers have: the noise schedule, and what the model predicts. */
export type BaseConfig = Pick<DDPMConfig & DDIMConfig, Exclude<keyof typeof shared, `_${string}`>>;

/**
 * Checks a config for a scheduler class, and fills in what diffusers fills in.
 * @param where the file, for errors
 * @throws SchedulerError naming file, key and value
 */
export function parseSchedulerConfig(json: unknown, name: "DDPMScheduler", where?: string): DDPMConfig;
export function parseSchedulerConfig(json: unknown, name: "DDIMScheduler", where?: string): DDIMConfig;
export function parseSchedulerConfig(
  json: unknown,
  name: SchedulerClass,
  where: string = "scheduler_config.json",
): DDPMConfig | DDIMConfig {
  const result = SCHEMAS[name].safeParse(json);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  if (issue.code === "unrecognized_keys")
    throw new SchedulerError(`${where}: "${issue.keys[0]}": ${name} has no such key.`);
  const key = issue.path.join(".");
  const value = (json as Record<string, unknown> | null)?.[key];
  throw new SchedulerError(
    `${where}: "${key}": ${JSON.stringify(value)} is not supported by ${name}: ${issue.message}.`,
  );
}

/** The class that a scheduler_config.json names. @throws SchedulerError if it is not one of ours */
export function schedulerClass(json: unknown, where: string = "scheduler_config.json"): SchedulerClass {
  const name = (json as { _class_name?: unknown } | null)?._class_name;
  const known = SCHEDULER_CLASSES.find((c) => c === name);
  if (known) return known;
  throw new SchedulerError(
    `${where}: "_class_name": needed ${SCHEDULER_CLASSES.join(" or ")}, found ${JSON.stringify(name)}. Choose one by name.`,
  );
}

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

const SPACINGS = ["leading", "trailing", "linspace"] as const;

/** What all schedulers have: the noise schedule, what the model predicts, and which times the steps visit. */
const shared = {
  _class_name: z.string().optional(),
  _diffusers_version: z.string().optional(),
  /** keys whose value is only the writer's default: another class may have another one */
  _use_default_values: z.array(z.string()).optional(),
  num_train_timesteps: z.int().min(1).default(1000),
  beta_start: z.number().positive().default(0.0001),
  beta_end: z.number().positive().max(1).default(0.02),
  beta_schedule: z.enum(["linear", "scaled_linear", "squaredcos_cap_v2"]).default("linear"),
  trained_betas: z.null().default(null),
  prediction_type: z.enum(["epsilon", "v_prediction", "sample"]).default("epsilon"),
  timestep_spacing: z.enum(SPACINGS).default("leading"),
  steps_offset: z.int().nonnegative().default(0),
  rescale_betas_zero_snr: z.boolean().default(false),
};
/** Solvers that work on σ divide the times another way unless the file says how. */
const linspaced = { ...shared, timestep_spacing: z.enum(SPACINGS).default("linspace") };

/** PNDM and LMS would divide by a signal of zero; diffusers reads past the key, and samples on another schedule. */
const someSignal = {
  rescale_betas_zero_snr: z
    .literal(false, { error: "it needs some signal at the last time, as ddim, euler, dpm++-2m and unipc don't" })
    .default(false),
};

const clipping = { clip_sample: z.boolean().default(true), clip_sample_range: z.number().positive().default(1) };

const unthresholded = {
  thresholding: z.literal(false).default(false),
  dynamic_thresholding_ratio: z.number().default(0.995), // without effect, as thresholding is false
  sample_max_value: z.number().default(1), // likewise
};

const spacedSigmas = {
  use_karras_sigmas: z.boolean().nullable().default(false),
  use_exponential_sigmas: z.boolean().nullable().default(false),
  use_beta_sigmas: z.literal(false).nullable().default(false),
};

const sigmaEnds = {
  sigma_min: z.number().positive().nullable().default(null),
  sigma_max: z.number().positive().nullable().default(null),
};

const finalSigma = { final_sigmas_type: z.enum(["zero", "sigma_min"]).default("zero") };

const noFlow = {
  use_flow_sigmas: z.literal(false).default(false),
  flow_shift: z.number().default(1), // without effect, as use_flow_sigmas is false
  use_dynamic_shifting: z.literal(false).default(false),
  time_shift_type: z.literal("exponential").default("exponential"), // likewise
};

const SCHEMAS = {
  DDPMScheduler: z.strictObject({
    ...shared,
    ...clipping,
    ...unthresholded,
    variance_type: z.enum(["fixed_small", "fixed_small_log", "fixed_large"]).default("fixed_small"),
  }),
  DDIMScheduler: z.strictObject({
    ...shared,
    ...clipping,
    ...unthresholded,
    set_alpha_to_one: z.boolean().default(true),
  }),
  PNDMScheduler: z.strictObject({
    ...shared,
    prediction_type: z.enum(["epsilon", "v_prediction"]).default("epsilon"),
    set_alpha_to_one: z.boolean().default(false),
    skip_prk_steps: z.boolean().default(false),
    ...someSignal,
  }),
  LMSDiscreteScheduler: z.strictObject({
    ...linspaced,
    ...spacedSigmas,
    ...someSignal,
  }),
  EulerDiscreteScheduler: z.strictObject({
    ...linspaced,
    ...spacedSigmas,
    ...sigmaEnds,
    ...finalSigma,
    interpolation_type: z.enum(["linear", "log_linear"]).default("linear"),
    timestep_type: z.enum(["discrete", "continuous"]).default("discrete"),
  }),
  EulerAncestralDiscreteScheduler: z.strictObject({
    ...linspaced,
    prediction_type: z.enum(["epsilon", "v_prediction"]).default("epsilon"),
  }),
  DPMSolverMultistepScheduler: z.strictObject({
    ...linspaced,
    ...unthresholded,
    ...spacedSigmas,
    ...finalSigma,
    ...noFlow,
    solver_order: z.int().min(1).max(3).default(2),
    algorithm_type: z.enum(["dpmsolver++", "sde-dpmsolver++"]).default("dpmsolver++"),
    solver_type: z.enum(["midpoint", "heun"]).default("midpoint"),
    lower_order_final: z.boolean().default(true),
    euler_at_final: z.boolean().default(false),
    use_lu_lambdas: z.boolean().nullable().default(false),
    lambda_min_clipped: z.union([z.number(), z.literal(-Infinity)]).default(-Infinity),
    variance_type: z.null().default(null),
  }),
  UniPCMultistepScheduler: z.strictObject({
    ...linspaced,
    ...unthresholded,
    ...spacedSigmas,
    ...sigmaEnds,
    ...finalSigma,
    ...noFlow,
    shift_terminal: z.null().default(null),
    solver_order: z.int().min(1).max(3).default(2),
    predict_x0: z.boolean().default(true),
    solver_type: z.enum(["bh1", "bh2"]).default("bh2"),
    lower_order_final: z.boolean().default(true),
    disable_corrector: z.array(z.int()).default([]),
    solver_p: z.null().default(null),
  }),
  LCMScheduler: z.strictObject({
    ...shared,
    ...unthresholded,
    beta_start: z.number().positive().default(0.00085),
    beta_end: z.number().positive().max(1).default(0.012),
    beta_schedule: z.enum(["linear", "scaled_linear", "squaredcos_cap_v2"]).default("scaled_linear"),
    clip_sample: z.boolean().default(false),
    clip_sample_range: z.number().positive().default(1),
    set_alpha_to_one: z.boolean().default(true),
    original_inference_steps: z.int().positive().default(50),
    timestep_scaling: z.number().positive().default(10),
  }),
};
export type SchedulerClass = keyof typeof SCHEMAS;
export const SCHEDULER_CLASSES: readonly SchedulerClass[] = Object.keys(SCHEMAS) as SchedulerClass[];
export type SchedulerConfig<C extends SchedulerClass = SchedulerClass> = z.output<(typeof SCHEMAS)[C]>;
/** What all schedulers have. */
export type BaseConfig = Pick<
  SchedulerConfig<"DDIMScheduler">,
  Exclude<keyof typeof shared, `_${string}` | "trained_betas">
>;

/** Keys that some scheduler has: diffusers reads any scheduler's file into any other, and drops what it lacks. */
const EVERY_KEY: ReadonlySet<string> = new Set(Object.values(SCHEMAS).flatMap((s) => Object.keys(s.shape)));

/**
 * Checks a config for a scheduler class, and fills in what diffusers fills in.
 * @param where the file, for errors
 * @throws SchedulerError naming file, key and value
 */
export function parseSchedulerConfig<C extends SchedulerClass>(
  json: unknown,
  name: C,
  where: string = "scheduler_config.json",
): SchedulerConfig<C> {
  const schema = SCHEMAS[name];
  const result = schema.safeParse(own(json, new Set(Object.keys(schema.shape))));
  if (result.success) return result.data as SchedulerConfig<C>;
  const issue = result.error.issues[0]!;
  if (issue.code === "unrecognized_keys")
    throw new SchedulerError(`${where}: "${issue.keys[0]}": ${name} has no such key.`);
  const key = issue.path.join(".");
  const value = (json as Record<string, unknown> | null)?.[key];
  throw new SchedulerError(
    `${where}: "${key}": ${JSON.stringify(value)} is not supported by ${name}: ${issue.message}.`,
  );
}

/** Without the keys of other schedulers and values that were defaults; keys that no scheduler has stay, to be refused. */
function own(json: unknown, mine: ReadonlySet<string>): unknown {
  if (typeof json !== "object" || json === null) return json;
  const { _use_default_values: filled } = json as { _use_default_values?: unknown };
  const drop = new Set<unknown>(Array.isArray(filled) ? filled : []);
  const kept = ([key]: [string, unknown]): boolean => !drop.has(key) && (mine.has(key) || !EVERY_KEY.has(key));
  return Object.fromEntries(Object.entries(json).filter(kept));
}

/** The class that a scheduler_config.json names. @throws SchedulerError if it is not one of ours */
export function schedulerClass(json: unknown, where: string = "scheduler_config.json"): SchedulerClass {
  const name = (json as { _class_name?: unknown } | null)?._class_name;
  const known = SCHEDULER_CLASSES.find((c) => c === name);
  if (known) return known;
  throw new SchedulerError(
    `${where}: "_class_name": needed one of ${SCHEDULER_CLASSES.join(", ")}, found ${JSON.stringify(name)}. Choose one by name.`,
  );
}

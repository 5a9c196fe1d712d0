/** scheduler_config.json as published models have it. */
import { expect, test } from "vitest";
import type { SchedulerClass } from "./config.ts";
import { createScheduler } from "./create.ts";

const sd = { beta_start: 0.00085, beta_end: 0.012, beta_schedule: "scaled_linear", num_train_timesteps: 1000 };

const FILES: [string, SchedulerClass, Record<string, unknown>, number[]][] = [
  [
    "Stable Diffusion 1.5",
    "PNDMScheduler",
    {
      ...{ _diffusers_version: "0.6.0", ...sd, clip_sample: false, set_alpha_to_one: false },
      ...{ skip_prk_steps: true, steps_offset: 1, trained_betas: null },
    },
    [751, 501, 501, 251, 1],
  ],
  [
    "Stable Diffusion 2.1",
    "DDIMScheduler",
    {
      ...{ _diffusers_version: "0.8.0", ...sd, clip_sample: false, set_alpha_to_one: false },
      ...{ prediction_type: "v_prediction", skip_prk_steps: true, steps_offset: 1, trained_betas: null },
    },
    [751, 501, 251, 1],
  ],
  [
    "SD Turbo",
    "EulerDiscreteScheduler",
    {
      ...{ _diffusers_version: "0.24.0.dev0", ...sd, clip_sample: false, interpolation_type: "linear" },
      ...{ prediction_type: "epsilon", sample_max_value: 1.0, set_alpha_to_one: false, skip_prk_steps: true },
      ...{ steps_offset: 1, timestep_spacing: "trailing", timestep_type: "discrete", trained_betas: null },
      ...{ sigma_max: null, sigma_min: null, use_karras_sigmas: false },
    },
    [999, 749, 499, 249],
  ],
  [
    "a latent consistency model",
    "LCMScheduler",
    {
      ...{ _diffusers_version: "0.22.0.dev0", ...sd, clip_sample: false, clip_sample_range: 1.0 },
      ...{ dynamic_thresholding_ratio: 0.995, original_inference_steps: 50, prediction_type: "epsilon" },
      ...{ rescale_betas_zero_snr: false, sample_max_value: 1.0, set_alpha_to_one: true, steps_offset: 1 },
      ...{ thresholding: false, timestep_scaling: 10.0, timestep_spacing: "leading", trained_betas: null },
    },
    [999, 759, 499, 259],
  ],
  [
    "a v-prediction model without signal at its last time",
    "DDIMScheduler",
    {
      ...{ _diffusers_version: "0.23.0", ...sd, clip_sample: false, clip_sample_range: 1.0, set_alpha_to_one: false },
      ...{ prediction_type: "v_prediction", rescale_betas_zero_snr: true, timestep_spacing: "trailing" },
      ...{ dynamic_thresholding_ratio: 0.995, sample_max_value: 1.0, thresholding: false, steps_offset: 1 },
    },
    [999, 749, 499, 249],
  ],
  [
    "a fine-tuned model with DPM-Solver++",
    "DPMSolverMultistepScheduler",
    {
      ...{ _diffusers_version: "0.15.0", ...sd, algorithm_type: "dpmsolver++", clip_sample: false },
      ...{ dynamic_thresholding_ratio: 0.995, lower_order_final: true, prediction_type: "epsilon" },
      ...{ sample_max_value: 1.0, set_alpha_to_one: false, skip_prk_steps: true, solver_order: 2 },
      ...{ solver_type: "midpoint", steps_offset: 1, thresholding: false, trained_betas: null },
      ...{ lambda_min_clipped: Number.NEGATIVE_INFINITY, use_karras_sigmas: false, variance_type: null },
    },
    [999, 749, 500, 250],
  ],
];

test.each(FILES)("%s: %s reads its file, times and all", (_name, _class_name, file, times) => {
  expect(createScheduler({ _class_name, ...file }).setTimesteps(4).timesteps).toEqual(times);
});

test.each(FILES)("%s: a key that no scheduler has is named", (_name, _class_name, file) => {
  expect(() => createScheduler({ _class_name, ...file, pre_norm: true }, undefined, "s.json")).toThrow(
    `s.json: "pre_norm": ${_class_name} has no such key. [E_SCHEDULER]`,
  );
});

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { torchRandn } from "@likeness/engine";
import { readGolden } from "@likeness/engine/testing";
import { expect, test } from "vitest";
import { readJson } from "../config/parse.ts";
import { type BaseConfig, parseSchedulerConfig, type SchedulerClass } from "./config.ts";
import { createScheduler } from "./create.ts";
import { addNoise, alphasCumprod, betasOf, getVelocity, rescaleZeroTerminalSnr } from "./schedule.ts";
import type { StepHistory } from "./scheduler.ts";
import { timestepsOf } from "./timesteps.ts";

const golden = readGolden("schedulers");
const noiseSchedules = readGolden("noise-schedules");

/** The largest |a − b| beyond rtol·|b|, over the whole tensors; rtol 1e-5, atol for entries near 0. */
function expectClose(actual: Float32Array, expected: Float32Array, rtol: number = 1e-5, atol: number = 2e-6): void {
  expect(actual.length).toBe(expected.length);
  const worst = actual.reduce((w, a, i) => Math.max(w, Math.abs(a - expected[i]!) - rtol * Math.abs(expected[i]!)), 0);
  expect(worst).toBeLessThanOrEqual(atol);
}

interface Case {
  readonly class: SchedulerClass;
  readonly config: Record<string, unknown>;
  /** What the rows of its tensor are. */
  readonly kinds: readonly string[];
  readonly sigma: number;
  readonly eta?: number;
  readonly steps?: number;
}
const metadata = <T>(key: string): T => JSON.parse(golden.metadata[key]!) as T;
const cases = metadata<Record<string, Case>>("cases");
const defaults = metadata<Record<SchedulerClass, object>>("defaults");

/** (a, b, …) → a times b arrays. */
function rows(key: string): Float32Array[][] {
  const [a, b] = golden.shape(key) as [number, number];
  const all = golden.floats(key);
  const length = all.length / (a * b);
  const at = (i: number, j: number): Float32Array => all.subarray((i * b + j) * length, (i * b + j + 1) * length);
  return Array.from({ length: a }, (_, i) => Array.from({ length: b }, (_, j) => at(i, j)));
}
const outputs = rows("model_outputs").map(([row]) => row!);
/** The timesteps of each case: one after the other in the file. */
const times: Record<string, Float32Array> = {};
const allTimes = golden.floats("timesteps");
Object.keys(cases).reduce((at, name) => {
  const end = at + golden.shape(name)[1]!;
  times[name] = allTimes.subarray(at, end);
  return end;
}, 0);

test.each(Object.keys(cases))("%s gives diffusers' samples, step by step", (name) => {
  const { class: _class_name, config, kinds, sigma, eta = 0, steps = Number(golden.metadata.steps) } = cases[name]!;
  const plan = createScheduler({ ...defaults[_class_name], ...config, _class_name }).setTimesteps(steps);
  expectClose(Float32Array.from(plan.timesteps), times[name]!, 1e-6, 1e-4);
  expect(plan.initNoiseSigma / sigma).toBeCloseTo(1, 6);
  const expected = rows(name);
  // the reference adds float32 numbers of the size of the first noise, which is 4096 for a zero signal-to-noise ratio
  const atol = Math.max(2e-6, 2 ** -24 * sigma);
  const read = (kind: string): Float32Array[] | undefined => expected[kinds.indexOf(kind)];
  const [prevSamples, originals, scaled] = [read("prev_sample")!, read("pred_original_sample"), read("scaled")];
  let sample: Float32Array = golden.floats("sample0").map((x) => x * sigma);
  let history: StepHistory | undefined;
  for (const i of plan.timesteps.keys()) {
    const noise = (n: number): Float32Array => torchRandn(i).normal(n);
    expectClose(plan.scaleModelInput(sample, i), scaled?.[i] ?? sample, 1e-5, atol);
    const out = plan.step(outputs[i]!, i, sample, { eta, noise, ...(history && { history }) });
    if (originals) expectClose(out.predOriginalSample, originals[i]!, 1e-5, atol);
    expectClose(out.prevSample, prevSamples[i]!, 1e-5, atol);
    sample = out.prevSample;
    history = out.history;
  }
});

const configs: Record<string, unknown> = JSON.parse(noiseSchedules.metadata.configs!);
test.each(Object.keys(configs))("noise schedule %s: betas, ᾱ, added noise and velocity are torch's", (name) => {
  const config: BaseConfig = parseSchedulerConfig(configs[name], "DDPMScheduler");
  const read = (key: string): Float32Array => noiseSchedules.floats(key);
  const alphas = alphasCumprod(config);
  const betas = config.rescale_betas_zero_snr ? rescaleZeroTerminalSnr(betasOf(config)) : betasOf(config);
  if (config.rescale_betas_zero_snr) {
    // torch's vectorized root is one unit off in places, and 1 − ᾱ_t/ᾱ_(t−1) magnifies that
    expectClose(betas, read(`${name}/betas`), 1e-5, 2e-6);
    expectClose(alphas, read(`${name}/alphas_cumprod`), 1e-5, 1e-7);
  } else {
    expect(betas).toEqual(read(`${name}/betas`));
    expect(alphas).toEqual(read(`${name}/alphas_cumprod`));
  }
  for (const t of [0, 37, 99]) {
    expectClose(addNoise(alphas, read("sample"), read("noise"), t), read(`${name}/add_noise/${t}`));
    expectClose(getVelocity(alphas, read("sample"), read("noise"), t), read(`${name}/velocity/${t}`));
  }
});

const lengths: Record<string, number[]> = JSON.parse(noiseSchedules.metadata.timesteps!);
test.each(Object.keys(lengths))("timesteps %s are diffusers'", (name) => {
  const [timestep_spacing, n] = name.split("/") as [string, string];
  expect(timestepsOf(parseSchedulerConfig({ timestep_spacing }, "DDIMScheduler"), Number(n))).toEqual(lengths[name]);
});

const scaled = { _class_name: "DDIMScheduler", beta_schedule: "scaled_linear" };
test.each<[string, unknown, string | undefined, string]>([
  ["an unknown key", { ...scaled, pre_norm: true }, undefined, 's.json: "pre_norm": DDIMScheduler has no such key.'],
  [
    "an unsupported value",
    { ...scaled, thresholding: true },
    undefined,
    's.json: "thresholding": true is not supported',
  ],
  ["learned variance", { variance_type: "learned" }, "ddpm", 's.json: "variance_type": "learned" is not supported'],
  ["another class", { _class_name: "HeunDiscreteScheduler" }, undefined, 'LCMScheduler, found "HeunDisc'],
  ["an unknown name", scaled, "heun", "scheduler: needed one of ddpm, ddim, pndm,"],
  [
    "a schedule that a solver can't take",
    { rescale_betas_zero_snr: true },
    "lms",
    's.json: "rescale_betas_zero_snr": true is not supported by LMSDiscreteScheduler: it needs some signal at the last',
  ],
  ["a prediction that a solver lacks", { prediction_type: "sample" }, "pndm", '"prediction_type": "sample" is not'],
])("%s is an error that names it", (_, json, name, message) => {
  expect(() => createScheduler(json, name, "s.json")).toThrow(message);
});

interface Named {
  readonly config: object;
  readonly timesteps: readonly number[];
  readonly sigma: number;
}
const files: Record<string, object> = JSON.parse(noiseSchedules.metadata.files!);
const byName: Record<string, Named> = JSON.parse(noiseSchedules.metadata.by_name!);
test.each(Object.keys(byName))("the file of %s by name is what diffusers' from_config makes", (key) => {
  const [file, name] = key.split("/") as [string, string];
  const { config, timesteps, sigma } = byName[key]!;
  const scheduler = createScheduler(files[file], name);
  expect(scheduler.config).toMatchObject(config);
  const plan = scheduler.setTimesteps(20);
  expectClose(Float32Array.from(plan.timesteps), Float32Array.from(timesteps), 1e-6, 1e-4);
  expect(plan.initNoiseSigma / sigma).toBeCloseTo(1, 6);
});

test.each([
  ["Euler a", "EulerAncestralDiscreteScheduler", {}],
  ["k_euler_ancestral", "EulerAncestralDiscreteScheduler", {}],
  ["DPM++ 2M Karras", "DPMSolverMultistepScheduler", { use_karras_sigmas: true }],
  ["dpmpp_2m_sde", "DPMSolverMultistepScheduler", { algorithm_type: "sde-dpmsolver++" }],
  ["dpmsolver++", "DPMSolverMultistepScheduler", { algorithm_type: "dpmsolver++" }],
  ["LMS Karras", "LMSDiscreteScheduler", { use_karras_sigmas: true }],
  ["PLMS", "PNDMScheduler", { skip_prk_steps: true }],
  ["UniPCMultistepScheduler", "UniPCMultistepScheduler", {}],
  ["k_lms", "LMSDiscreteScheduler", {}],
])("%s is a name of %s", (name, _class_name, settings) => {
  const expected = createScheduler({ ...scaled, _class_name, ...settings });
  expect(createScheduler({ ...scaled, _class_name }, name).config).toEqual(expected.config);
});

test("infinity, as Python writes it into a file, is read; inside a string it is text", () => {
  const folder = mkdtempSync(join(tmpdir(), "likeness-scheduler-"));
  const file = join(folder, "scheduler_config.json");
  writeFileSync(
    file,
    '{"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -Infinity, "x": "-Infinity"}',
  );
  const json = readJson(file);
  rmSync(folder, { recursive: true });
  expect(json).toMatchObject({ lambda_min_clipped: Number.NEGATIVE_INFINITY, x: "-Infinity" });
});

test("UniPC with B₁ and a last noise level of zero ends on the clean sample", () => {
  const plan = createScheduler({ ...scaled, solver_type: "bh1" }, "unipc").setTimesteps(2);
  const x = Float32Array.of(1, -2);
  const first = plan.step(x, 0, x);
  const last = plan.step(x, 1, first.prevSample, { history: first.history! });
  expect(last.prevSample.every(Number.isFinite)).toBe(true);
});

test("a step refuses missing noise, another length and a time that is none", () => {
  const ddpm = createScheduler(scaled, "ddpm").setTimesteps(5);
  const x = new Float32Array(4);
  expect(() => ddpm.step(x, 0, x)).toThrow("noise: this step needs 4 standard normal values");
  expect(() => ddpm.step(x, 5, x)).toThrow("step: needed one of 0 to 4, found 5.");
  const ddim = createScheduler(scaled).setTimesteps(5);
  expect(() => ddim.step(new Float32Array(3), 0, x)).toThrow("samples: needed 4 values, found 3.");
  expect(() => createScheduler(scaled, "lcm").setTimesteps(51)).toThrow("in [1, 50] (original_inference_steps)");
  expect(() => createScheduler(scaled).setTimesteps(0)).toThrow("steps: needed a whole number in [1, 1000], found 0.");
});

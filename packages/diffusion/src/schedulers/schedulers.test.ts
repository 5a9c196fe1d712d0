import { fileURLToPath } from "node:url";
import { readFloats, readSafetensorsHeader, torchRandn } from "@likeness/engine";
import { expect, test } from "vitest";
import { type BaseConfig, parseSchedulerConfig } from "./config.ts";
import { createScheduler } from "./create.ts";
import { addNoise, alphasCumprod, betasOf, getVelocity, rescaleZeroTerminalSnr } from "./schedule.ts";
import { timestepsOf } from "./timesteps.ts";

const fixture = (name: string) =>
  readSafetensorsHeader(fileURLToPath(new URL(`../../../../fixtures/${name}.safetensors`, import.meta.url)));
const golden = fixture("schedulers");
const noiseSchedules = fixture("noise-schedules");

/** The largest |a − b| beyond rtol·|b|, over the whole tensors; rtol 1e-5, atol for entries near 0. */
function expectClose(actual: Float32Array, expected: Float32Array, rtol: number = 1e-5, atol: number = 2e-6): void {
  expect(actual.length).toBe(expected.length);
  const worst = actual.reduce((w, a, i) => Math.max(w, Math.abs(a - expected[i]!) - rtol * Math.abs(expected[i]!)), 0);
  expect(worst).toBeLessThanOrEqual(atol);
}

interface Case {
  readonly config: Record<string, unknown>;
  readonly eta: number;
  readonly timesteps: readonly number[];
}
const cases: Record<string, Case> = JSON.parse(golden.metadata.cases!);
const rows = (key: string): Float32Array[] => {
  const all = readFloats(golden, key);
  const length = all.length / golden.tensors.get(key)!.shape[0]!;
  return Array.from({ length: all.length / length }, (_, i) => all.subarray(i * length, (i + 1) * length));
};

test.each(Object.keys(cases))("%s gives diffusers' samples, step by step", (name) => {
  const { config, eta, timesteps } = cases[name]!;
  const plan = createScheduler(config).setTimesteps(timesteps.length);
  expect(plan.timesteps).toEqual(timesteps);
  const outputs = rows("model_outputs");
  const prevSamples = rows(`${name}/prev_sample`);
  const originals = rows(`${name}/pred_original_sample`);
  let sample = readFloats(golden, "sample0");
  for (const [i, t] of timesteps.entries()) {
    const noise = (n: number): Float32Array => torchRandn(i).normal(n);
    const { prevSample, predOriginalSample } = plan.step(outputs[i]!, t, sample, { eta, noise });
    expectClose(predOriginalSample, originals[i]!);
    expectClose(prevSample, prevSamples[i]!);
    sample = prevSample;
  }
});

const configs: Record<string, unknown> = JSON.parse(noiseSchedules.metadata.configs!);
test.each(Object.keys(configs))("noise schedule %s: betas, ᾱ, added noise and velocity are torch's", (name) => {
  const config: BaseConfig = parseSchedulerConfig(configs[name], "DDPMScheduler");
  const read = (key: string): Float32Array => readFloats(noiseSchedules, key);
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
  ["another class", { _class_name: "LCMScheduler" }, undefined, 'needed DDPMScheduler or DDIMScheduler, found "LCMSch'],
  ["an unknown name", scaled, "euler", 'scheduler: needed ddpm or ddim, found "euler".'],
])("%s is an error that names it", (_, json, name, message) => {
  expect(() => createScheduler(json, name, "s.json")).toThrow(message);
});

test("a PNDM file of Stable Diffusion 1.x serves DDIM by name", () => {
  const pndm = { ...scaled, _class_name: "PNDMScheduler", skip_prk_steps: true, set_alpha_to_one: false };
  expect(createScheduler(pndm, "ddim").setTimesteps(50).timesteps[0]).toBe(980);
});

test("a step refuses missing noise, another length and a time that is none", () => {
  const ddpm = createScheduler(scaled, "ddpm").setTimesteps(5);
  const x = new Float32Array(4);
  expect(() => ddpm.step(x, 800, x)).toThrow("noise: this step needs 4 standard normal values");
  expect(() => ddpm.step(x, 801, x)).toThrow("timestep: needed one of 800, 600, 400, 200, 0, found 801.");
  const ddim = createScheduler(scaled).setTimesteps(5);
  expect(() => ddim.step(new Float32Array(3), 800, x)).toThrow("samples: needed 4 values, found 3.");
  expect(() => ddim.step(x, 1000, x)).toThrow("timestep: needed a whole number in [0, 1000), found 1000.");
  expect(() => createScheduler(scaled).setTimesteps(0)).toThrow("steps: needed a whole number in [1, 1000], found 0.");
});

/** The pocket model's UNet with its weights in 8 bits: a trained model, whose results must stay close. */
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { constant, counterRandom, evaluate, grad, mul, multipliesBytes, startRuntime, sum } from "@likeness/engine";
import { relativeError } from "@likeness/engine/testing";
import { afterAll, expect, test, vi } from "vitest";
import {
  encodePrompts,
  loadModel,
  prepareInt8,
  type StableDiffusionModel,
  unet2DConditionModel,
} from "../src/index.ts";

const POCKET = fileURLToPath(new URL("../../../models/pocket", import.meta.url));
const cache = mkdtempSync(join(tmpdir(), "int8-"));
vi.stubEnv("XDG_CACHE_HOME", cache);
afterAll(() => {
  vi.unstubAllEnvs();
  rmSync(cache, { recursive: true });
});

const random = counterRandom(3, "int8");
const [sampleValues, weights] = [2 * 4 * 256, 2 * 4 * 256].map((n) => random.normal(n));
const PROMPTS = ["a photo of a dog on the beach", "a pencil sketch of a red apple"];

/** Prediction, and gradients of a sum of it to sample and text, which is what the model reads: of noise in its place it has learnt nothing. */
async function results(
  { unet, tokenizer }: StableDiffusionModel,
  text: Float32Array,
): Promise<Record<"y" | "dSample" | "dContext", Float32Array>> {
  const sample = constant(sampleValues!, [2, 4, 16, 16]);
  const encoderHiddenStates = constant(text, [2, tokenizer.modelMaxLength, unet.config.cross_attention_dim]);
  const timestep = constant([700, 300]);
  const y = unet2DConditionModel(unet.weights, unet.config, { sample, timestep, encoderHiddenStates });
  const loss = sum(mul(y, constant(weights!, y.shape)));
  const [dSample, dContext] = grad(loss, [sample, encoderHiddenStates]);
  return evaluate({ y, dSample: dSample!, dContext: dContext! });
}

const cosine = (a: Float32Array, b: Float32Array): number => {
  const dot = (x: Float32Array, y: Float32Array): number => x.reduce((s, v, i) => s + v * y[i]!, 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
};

test.runIf(multipliesBytes() !== false)("prediction and gradients point where the whole weights' do", async () => {
  const model = loadModel(POCKET, { int8: true });
  const seen: [number, number][] = [];
  await prepareInt8(model, { onProgress: (done, total) => seen.push([done, total]) });
  const copies = readdirSync(join(cache, "likeness", "int8"), { recursive: true }).filter((n) =>
    /x\d+$/.test(String(n)),
  );
  expect(seen.at(-1)).toEqual([copies.length, copies.length]);
  const whole = loadModel(POCKET);
  const runtime = await startRuntime({ inProcess: true });
  const text = await encodePrompts(runtime, whole, PROMPTS);
  await runtime.close();
  const [found, wanted] = [await results(model, text), await results(whole, text)];
  expect(relativeError(found.y, wanted.y)).toBeGreaterThan(1e-5);
  expect(cosine(found.y, wanted.y)).toBeGreaterThan(0.999);
  expect(cosine(found.dSample, wanted.dSample)).toBeGreaterThan(0.99);
  expect(cosine(found.dContext, wanted.dContext)).toBeGreaterThan(0.98);
  expect(model.fingerprint).toBe(whole.fingerprint);
});

test("a model of whole weights needs no copies", async () => {
  let made = 0;
  await prepareInt8(loadModel(POCKET), { onProgress: () => made++ });
  expect(made).toBe(0);
});

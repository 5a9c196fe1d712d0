import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  counterRandom,
  evaluate,
  input,
  openWeights,
  readFloats,
  readSafetensorsHeader,
  startRuntime,
  writeSafetensors,
} from "@likeness/engine";
import { FIXTURES, meanOf, readLog } from "@likeness/engine/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CLIPVisionConfig } from "../config/clip.ts";
import { clipVisionModel } from "../models/clip-vision.ts";
import { perceptualDistance } from "./autoencoder.ts";
import { clipPixels } from "./clip.ts";
import { readTrainingConfig, runTraining } from "./run.ts";

const folder = mkdtempSync(join(tmpdir(), "autoencoder-"));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (...names: string[]): string => join(folder, ...names);
const SIDE = 16;
const TOWER = { hidden_size: 12, intermediate_size: 24, num_hidden_layers: 2, num_attention_heads: 2 };

beforeAll(async () => {
  const random = counterRandom(4, "pictures");
  const data = Uint8Array.from({ length: 16 * SIDE * SIDE * 3 }, (_, k) => {
    const [n, c] = [Math.floor(k / (SIDE * SIDE * 3)), k % 3];
    return ((n >> c) & 1) * 180 + 20 + random.int(20); // each picture a colour
  });
  const images = { dtype: "U8" as const, shape: [16, SIDE, SIDE, 3], data };
  writeSafetensors(at("scenes.safetensors"), { images }, { captions: JSON.stringify(Array(16).fill("a colour")) });
  cpSync(join(FIXTURES, "models", "sd1", "vae"), at("model", "vae"), { recursive: true });
  mkdirSync(at("model", "image_encoder"));
  const config = { ...TOWER, image_size: SIDE, patch_size: 4, projection_dim: 12 };
  writeFileSync(at("model", "image_encoder", "config.json"), JSON.stringify(config));
  for (const part of ["tokenizer", "text_encoder"])
    cpSync(join(FIXTURES, "models", "sd1", part), at("model", part), { recursive: true });
  const runtime = await startRuntime({ inProcess: true });
  const clip = { steps: 1, batch_size: 4, learning_rate: 0.01, train: "image" };
  await runTraining(runtime, configOf("tower", { task: "clip", ...clip }));
});

const configOf = (run: string, changes: object = {}) => {
  const paths = { model: at("model"), data: at("scenes.safetensors"), run: at(run) };
  const numbers = { steps: 30, batch_size: 4, learning_rate: 0.005, warmup_steps: 1, ema_decay: 0.5, logging_steps: 1 };
  writeFileSync(at(`${run}.json`), JSON.stringify({ task: "autoencoder", ...paths, ...numbers, ...changes }));
  return readTrainingConfig(at(`${run}.json`));
};
const vae = () => readSafetensorsHeader(at("model", "vae", "diffusion_pytorch_model.safetensors"));

test("both halves learn from crops; the scaling factor then makes latents of deviation 1", async () => {
  const runtime = await startRuntime({ inProcess: true });
  expect(await runTraining(runtime, configOf("both", { resolution: 8, steps: 100, learning_rate: 0.01 }))).toBe(100);
  const rows = readLog(at("both"));
  expect(meanOf("l1", rows.slice(-5))).toBeLessThan(0.7 * meanOf("l1", rows.slice(0, 5)));
  const { loss, l1, mse, kl } = rows.at(-1)!;
  expect(loss).toBeGreaterThan(l1! + mse! + 1e-4 * kl!);
  const { scaling_factor } = JSON.parse(readFileSync(at("model", "vae", "config.json"), "utf8"));
  expect(scaling_factor).not.toBe(0.18215);
});

test("the decoder alone learns, by what a picture tower sees as well: the encoder stays as it is", async () => {
  const runtime = await startRuntime({ inProcess: true });
  await runTraining(runtime, configOf("first", { steps: 1 }));
  const encoder = [...vae().tensors.keys()].filter((key) => /^(encoder|quant_conv)\./.test(key));
  const values = (key: string): number[] => [...readFloats(vae(), key)];
  const before = encoder.map(values);
  const decoder = values("decoder.conv_out.weight");
  const changes = { train: "decoder", from_weights: true, perceptual_weight: 2, optimizer: "muon" };
  expect(await runTraining(runtime, configOf("decoder", changes))).toBe(30);
  expect(encoder.map(values)).toEqual(before);
  expect(values("decoder.conv_out.weight")).not.toEqual(decoder);
  const rows = readLog(at("decoder"));
  expect(meanOf("perceptual", rows.slice(-5))).toBeLessThan(0.7 * meanOf("perceptual", rows.slice(0, 5)));
  const { loss, l1, mse, perceptual } = rows.at(-1)!;
  expect(loss).toBeGreaterThan(l1! + mse! + 2 * perceptual!);
});

test("perceptual distance is 1 less the mean cosine of the tower's tokens: 0 for the same picture", async () => {
  const config = CLIPVisionConfig.parse({ ...TOWER, image_size: SIDE, patch_size: 4, projection_dim: 12 });
  const weights = openWeights([at("model", "image_encoder", "model.safetensors")]).weights();
  const [x, y] = [input("x", [2, 3, SIDE, SIDE]), input("y", [2, 3, SIDE, SIDE])];
  const states = (p: typeof x) => clipVisionModel(weights, config, clipPixels(p)).hiddenStates;
  const random = counterRandom(5);
  const [px, py] = [random.normal(2 * 3 * SIDE * SIDE), random.normal(2 * 3 * SIDE * SIDE)];
  const tower = { config, weights };
  const { d, same, a1, a2, b1, b2 } = await evaluate(
    {
      ...{ d: perceptualDistance(tower, x, y), same: perceptualDistance(tower, x, x) },
      ...{ a1: states(x)[1]!, a2: states(x)[2]!, b1: states(y)[1]!, b2: states(y)[2]! },
    },
    { x: px, y: py },
  );
  const cosines = [...rows(a1!, b1!), ...rows(a2!, b2!)].map(([p, q]) => dot(p, q) / Math.sqrt(dot(p, p) * dot(q, q)));
  expect(cosines).toHaveLength(2 * 2 * 17);
  expect(d![0]).toBeCloseTo(1 - cosines.reduce((a, b) => a + b) / cosines.length, 5);
  expect(same![0]).toBeCloseTo(0, 5);
});

const rows = (a: Float32Array, b: Float32Array) =>
  Array.from(
    { length: a.length / 12 },
    (_, i) => [a.slice(i * 12, i * 12 + 12), b.slice(i * 12, i * 12 + 12)] as const,
  );
const dot = (a: Float32Array, b: Float32Array): number => a.reduce((n, x, i) => n + x * b[i]!, 0);

test("a picture tower for pictures of another size is refused", async () => {
  const runtime = await startRuntime({ inProcess: true });
  await expect(runTraining(runtime, configOf("crops", { resolution: 8, perceptual_weight: 1 }))).rejects.toThrow(
    /image_encoder: needed a picture tower for 8 x 8, .* found 16 x 16\./,
  );
});

import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  constant,
  counterRandom,
  evaluate,
  grad,
  readSafetensorsHeader,
  startRuntime,
  writeSafetensors,
} from "@likeness/engine";
import { FIXTURES, meanOf, readLog } from "@likeness/engine/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loadCLIPVision } from "../loading/clip.ts";
import { findSubjectMask } from "../loading/subject-mask.ts";
import { readTrainingConfig, runTraining } from "./run.ts";
import { binaryCrossEntropy } from "./subject-mask.ts";

const folder = mkdtempSync(join(tmpdir(), "subject-mask-"));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (...names: string[]): string => join(folder, ...names);
const COUNT = 24;

/** Bright squares on dark noise. */
function writeScenes(name: string, side: number, maskSide: number = side): void {
  const random = counterRandom(3, name);
  const images = new Uint8Array(COUNT * side * side * 3);
  const masks = new Uint8Array(COUNT * maskSide * maskSide);
  for (let n = 0; n < COUNT; n++) {
    const [left, top] = [random.int(side / 2), random.int(side / 2)];
    for (let i = 0; i < side * side; i++) {
      const [x, y] = [(i % side) - left, Math.floor(i / side) - top];
      const inside = x >= 0 && y >= 0 && x < side / 2 && y < side / 2;
      if (maskSide === side) masks[n * side * side + i] = inside ? 255 : 0;
      for (let c = 0; c < 3; c++) images[(n * side * side + i) * 3 + c] = (inside ? 180 : 20) + random.int(50);
    }
  }
  writeSafetensors(at(name), {
    images: { dtype: "U8", shape: [COUNT, side, side, 3], data: images },
    masks: { dtype: "U8", shape: [COUNT, maskSide, maskSide], data: masks },
  });
}

beforeAll(() => {
  mkdirSync(at("model", "subject_mask"), { recursive: true });
  cpSync(join(FIXTURES, "models", "sd1", "image_encoder"), at("model", "image_encoder"), { recursive: true });
  writeFileSync(at("model", "subject_mask", "config.json"), JSON.stringify({ hidden_size: 16 }));
});
const SIDE = 32;

const configOf = (run: string, data: string, changes: object = {}) => {
  const paths = { model: at("model"), data: at(data), run: at(run) };
  const numbers = { steps: 60, batch_size: 8, learning_rate: 0.01, warmup_steps: 1, ema_decay: 0.5, logging_steps: 1 };
  writeFileSync(at(`${run}.json`), JSON.stringify({ task: "subject-mask", ...paths, ...numbers, ...changes }));
  return readTrainingConfig(at(`${run}.json`));
};

test("the loss is binary cross-entropy, and its gradient sigmoid less share", async () => {
  const [logits, shares] = [
    [-3, -0.5, 0, 2, 30],
    [0, 0.25, 1, 1, 0],
  ];
  const x = constant(Float32Array.from(logits), [5]);
  const loss = binaryCrossEntropy(x, constant(Float32Array.from(shares), [5]));
  const found = await evaluate({ loss, slope: grad(loss, [x])[0]! });
  const sigmoid = (l: number): number => 1 / (1 + Math.exp(-l));
  const each = logits.map((l, i) => Math.log1p(Math.exp(l)) - l * shares[i]!);
  expect(found.loss[0]).toBeCloseTo(each.reduce((a, b) => a + b) / 5, 5);
  for (const [i, l] of logits.entries()) expect(found.slope[i]).toBeCloseTo((sigmoid(l) - shares[i]!) / 5, 6);
});

test("it learns where the subject is; the picture encoder stays, and is not written", async () => {
  writeScenes("scenes.safetensors", SIDE);
  const model = { folder: at("model"), imageEncoder: loadCLIPVision(at("model", "image_encoder")) };
  expect(findSubjectMask(model)).toBeUndefined();
  const runtime = await startRuntime({ inProcess: true });
  expect(await runTraining(runtime, configOf("run", "scenes.safetensors"))).toBe(60);
  const log = readLog(at("run"));
  expect(meanOf("loss", log.slice(0, 3))).toBeGreaterThan(0.4);
  expect(meanOf("loss", log.slice(-5))).toBeLessThan(0.15);
  const { tensors } = readSafetensorsHeader(at("model", "subject_mask", "model.safetensors"));
  expect([...tensors.keys()].sort()).toEqual(
    ["fc1", "fc2", "norm"].flatMap((name) => [`${name}.bias`, `${name}.weight`]),
  );
  expect(findSubjectMask(model)!.config.hidden_size).toBe(16);
  // another picture encoder than the one it was trained with would tell it something else
  const other = loadCLIPVision(join(FIXTURES, "models", "sd1", "image_encoder"));
  expect(findSubjectMask({ ...model, imageEncoder: other })).toBeUndefined();
  expect(findSubjectMask({ ...model, imageEncoder: undefined })).toBeUndefined();
});

test("links to a model, or to each of its files as in the Hugging Face cache, lead to its subject mask too", () => {
  symlinkSync(at("model"), at("link"));
  for (const part of ["image_encoder", "subject_mask"]) {
    mkdirSync(at("links", part), { recursive: true });
    for (const file of readdirSync(at("model", part))) symlinkSync(at("model", part, file), at("links", part, file));
  }
  for (const name of ["link", "links"]) {
    const imageEncoder = loadCLIPVision(at(name, "image_encoder"));
    expect(findSubjectMask({ folder: at(name), imageEncoder }), name).toBeDefined();
  }
});

test("masks of blocks, or pictures of another size than the tower's, are refused", async () => {
  const runtime = await startRuntime({ inProcess: true });
  writeScenes("blocks.safetensors", SIDE, SIDE / 4);
  await expect(runTraining(runtime, configOf("blocks", "blocks.safetensors"))).rejects.toThrow(
    /"masks".*needed U8 .*as fine as the pictures: write the data with --fine-masks/,
  );
  writeScenes("large.safetensors", 2 * SIDE);
  await expect(runTraining(runtime, configOf("large", "large.safetensors"))).rejects.toThrow(
    /image_encoder: needed a picture tower for .*, the pictures of the data, found/,
  );
});

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { counterRandom, readSafetensorsHeader, startRuntime, writeSafetensors } from "@likeness/engine";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loadCLIPVision } from "../loading/clip.ts";
import { instanceBatches } from "./retrieval.ts";
import { readTrainingConfig, runTraining } from "./run.ts";

const folder = mkdtempSync(join(tmpdir(), "retrieval-"));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (...names: string[]): string => join(folder, ...names);

/** 4 subjects in 2 hands, 3 pairs each. */
const subjects = Array.from({ length: 24 }, (_, i) => `${"ABCD"[i % 4]}/${["noto", "twemoji"][Math.floor(i / 4) % 2]}`);
const SIDE = 16;

/** Each instance is a colour; pictures of it differ by noise. */
function writePairs(name: string, side: number): void {
  const random = counterRandom(3, name);
  const keys = [...new Set(subjects)];
  const tensor = () => {
    const colour = (key: string, c: number): number => (((keys.indexOf(key) + 1) >> c) & 1) * 160 + 40;
    const bytes = subjects.flatMap((key) =>
      Array.from({ length: side * side * 3 }, (_, i) => colour(key, i % 3) + random.int(40)),
    );
    return { dtype: "U8" as const, shape: [subjects.length, side, side, 3], data: Uint8Array.from(bytes) };
  };
  writeSafetensors(at(name), { images: tensor(), references: tensor() }, { subjects: JSON.stringify(subjects) });
}

beforeAll(() => {
  mkdirSync(at("model", "evaluation"), { recursive: true });
  const tower = { hidden_size: 8, intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 2 };
  const config = { ...tower, image_size: SIDE, patch_size: 8, projection_dim: 4 };
  writeFileSync(at("model", "evaluation", "config.json"), JSON.stringify(config));
  writePairs("pairs.safetensors", SIDE);
});

const configOf = (run: string, changes: object = {}) => {
  const paths = { model: at("model"), data: at("pairs.safetensors"), run: at(run) };
  const numbers = { steps: 30, batch_size: 6, learning_rate: 0.03, warmup_steps: 1, ema_decay: 0.5, logging_steps: 1 };
  writeFileSync(at(`${run}.json`), JSON.stringify({ task: "retrieval", ...paths, ...numbers, ...changes }));
  return readTrainingConfig(at(`${run}.json`));
};

test("a batch has each instance once; siblings follow as often as asked", () => {
  const pairs = (siblings: number): number => {
    const draw = instanceBatches(subjects, 8, siblings);
    let found = 0;
    for (let seed = 0; seed < 50; seed++) {
      const keys = [...draw(counterRandom(seed))].map((i) => subjects[i]!);
      expect(new Set(keys).size).toBe(8);
      for (let i = 1; i < 8; i++) if (keys[i]![0] === keys[i - 1]![0]) found++;
    }
    return found;
  };
  expect(pairs(1)).toBe(200); // all four pairs of siblings are neighbours
  expect(pairs(0)).toBeLessThan(100);
  const draw = instanceBatches(subjects, 20, 0.5); // more than there are: they repeat
  expect(draw(counterRandom(1))).toHaveLength(20);
  expect(draw(counterRandom(1))).toEqual(draw(counterRandom(1)));
});

test("training brings pictures of one instance together, and writes a vision tower that loads", async () => {
  const runtime = await startRuntime({ inProcess: true });
  expect(await runTraining(runtime, configOf("run"))).toBe(30);
  const losses = readFileSync(at("run", "log.ndjson"), "utf8")
    .trim()
    .split("\n")
    .map((line) => (JSON.parse(line) as { loss: number }).loss);
  const mean = (xs: number[]): number => xs.reduce((a, b) => a + b) / xs.length;
  expect(mean(losses.slice(-5))).toBeLessThan(0.7 * mean(losses.slice(0, 5)));
  const { config, files } = loadCLIPVision(at("model", "evaluation"));
  expect(config.projection_dim).toBe(4);
  expect(files.keys()).toContain("visual_projection.weight");
  expect(files.keys().some((key) => /scale|evaluation/.test(key))).toBe(false);
  const { tensors } = readSafetensorsHeader(at("model", "evaluation", "model.safetensors"));
  expect([...tensors.values()].every((t) => t.dtype === "F16")).toBe(true);
});

test("pictures of another size are refused", async () => {
  writePairs("large.safetensors", 24);
  const runtime = await startRuntime({ inProcess: true });
  await expect(runTraining(runtime, configOf("large", { data: at("large.safetensors") }))).rejects.toThrow(
    /large\.safetensors: needed pictures of 16 x 16, which the encoder reads, found 24 x 24\./,
  );
});

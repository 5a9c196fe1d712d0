import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { counterRandom, input, readSafetensorsHeader, startRuntime, writeSafetensors } from "@likeness/engine";
import { FIXTURES, meanOf, readLog } from "@likeness/engine/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loadJudge } from "../loading/judge.ts";
import { instanceBatches } from "./clip.ts";
import { blurSome } from "./judge.ts";
import { readTrainingConfig, runTraining } from "./run.ts";

const folder = mkdtempSync(join(tmpdir(), "judge-"));
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
  const [captions, specs] = [
    subjects.map((s) => `a ${s[0]!.toLowerCase()} fox`),
    subjects.map((s) => ({ subject: s[0] })),
  ];
  const lists = Object.entries({ captions, specs, subjects }).map(([key, list]) => [key, JSON.stringify(list)]);
  writeSafetensors(at(name), { images: tensor(), references: tensor() }, Object.fromEntries(lists));
}

beforeAll(() => {
  mkdirSync(at("model"));
  cpSync(join(FIXTURES, "models", "sd1", "tokenizer"), at("model", "tokenizer"), { recursive: true });
  const tower = { hidden_size: 8, intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 2 };
  const text_config = { ...tower, vocab_size: 660, max_position_embeddings: 16 };
  const vision_config = { image_size: SIDE, patch_size: 4, block_out_channels: [4, 8], norm_num_groups: 2 };
  const config = { architectures: ["PictureJudge"], text_config, vision_config, projection_dim: 4, instance_dim: 6 };
  writeFileSync(at("model", "config.json"), JSON.stringify(config));
  writePairs("pairs.safetensors", SIDE);
});

const configOf = (run: string, changes: object = {}) => {
  const paths = { model: at("model"), data: at("pairs.safetensors"), run: at(run) };
  const numbers = { steps: 30, batch_size: 6, learning_rate: 0.03, warmup_steps: 1, ema_decay: 0.5, logging_steps: 1 };
  writeFileSync(
    at(`${run}.json`),
    JSON.stringify({ task: "judge", ...paths, ...numbers, labels: ["subject"], ...changes }),
  );
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

test("some pictures are blurred: a point spreads as a product of binomials, the border is repeated, the others stay", () => {
  const size = { height: 5, width: 6 };
  const n = 40;
  const point = Float32Array.from({ length: n * 3 * 30 }, (_, i) => (i % 30 === 2 * 6 + 3 ? 1 : 0));
  const made = blurSome(point.slice(), size, 0.5, counterRandom(2));
  const middles = Array.from({ length: n }, (_, i) => made[i * 90 + 2 * 6 + 3]!);
  const blurred = middles.filter((x) => x < 1);
  expect(blurred.length).toBeGreaterThan(10);
  expect(blurred.length).toBeLessThan(30);
  expect(new Set(blurred).size).toBe(blurred.length);
  const row = [1, 4, 6, 4, 1].map((x) => x / 16);
  for (const [i, middle] of middles.entries()) {
    const amount = (1 - middle) / (1 - (6 / 16) ** 2);
    for (let y = 0; y < 5; y++)
      for (let x = 0; x < 6; x++)
        for (let c = 0; c < 3; c++)
          expect(made[i * 90 + c * 30 + y * 6 + x]).toBeCloseTo(
            (y === 2 && x === 3 ? 1 - amount : 0) + amount * row[y]! * (row[x - 1] ?? 0),
            6,
          );
  }
  expect(blurSome(point.slice(), size, 0, counterRandom(2))).toEqual(point);
  const flat = new Float32Array(3 * 30).fill(0.3);
  for (const x of blurSome(flat.slice(), size, 1, counterRandom(2))) expect(x).toBeCloseTo(0.3, 6);
});

test("training brings pictures of one instance together, and to their captions; it writes a judge that loads", async () => {
  const runtime = await startRuntime({ inProcess: true });
  expect(await runTraining(runtime, configOf("run"))).toBe(30);
  const log = readLog(at("run"));
  for (const term of ["caption", "instance", "text_subject", "image_subject", "reference_instance", "image_instance"])
    expect(meanOf(term, log.slice(-5)), term).toBeLessThan(0.8 * meanOf(term, log.slice(0, 5)));
  const judge = loadJudge(at("model"));
  expect(judge.files.keys().some((key) => /scale|labels|judge/.test(key))).toBe(false);
  const { tensors } = readSafetensorsHeader(at("model", "model.safetensors"));
  expect([...tensors.values()].every((t) => t.dtype === "F16")).toBe(true);
  const { embeds, instance } = judge.picture(input("pixels", [2, 3, 24, 24])); // resized to what it reads
  expect([embeds.shape, instance.shape]).toEqual([
    [2, 4],
    [2, 6],
  ]);
  expect(judge.text(input("ids", [3, 16], "int32"), input("eos", [3], "int32")).shape).toEqual([3, 4]);
});

test("pictures of another size are refused", async () => {
  writePairs("large.safetensors", 24);
  const runtime = await startRuntime({ inProcess: true });
  await expect(runTraining(runtime, configOf("large", { data: at("large.safetensors") }))).rejects.toThrow(
    /large\.safetensors: needed pictures of 16 x 16, which the judge reads, found 24 x 24\./,
  );
});

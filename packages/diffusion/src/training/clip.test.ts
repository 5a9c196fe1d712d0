import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { counterRandom, readSafetensorsHeader, startRuntime, writeSafetensors } from "@likeness/engine";
import { FIXTURES, meanOf, readLog } from "@likeness/engine/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { loadCLIPVision } from "../loading/clip.ts";
import { alikeBatches } from "./clip.ts";
import { readTrainingConfig, runTraining } from "./run.ts";

const folder = mkdtempSync(join(tmpdir(), "clip-"));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (...names: string[]): string => join(folder, ...names);

/** Four subjects, each a colour, at three places, each a brightness of the upper half. */
const SUBJECTS = ["fox", "owl", "red", "sun"];
const PLACES = ["beach", "snow", "night"];
const specs = Array.from({ length: 48 }, (_, i) => ({
  subject: SUBJECTS[i % 4]!,
  place: PLACES[Math.floor(i / 4) % 3]!,
}));
const SIDE = 16;

beforeAll(() => {
  const random = counterRandom(2, "pictures");
  const pictures = specs.flatMap(({ subject, place }) =>
    Array.from({ length: SIDE * SIDE * 3 }, (_, k) => {
      const colour = ((SUBJECTS.indexOf(subject) + 1) >> (k % 3)) & 1 ? 200 : 40;
      return (k < (SIDE * SIDE * 3) / 2 ? 110 * PLACES.indexOf(place) : colour) + random.int(30);
    }),
  );
  const images = { dtype: "U8" as const, shape: [specs.length, SIDE, SIDE, 3], data: Uint8Array.from(pictures) };
  // a picture of the same instance: the lower half is the same but for noise, the upper another place
  const elsewhere = pictures.map((p, k) => (k % (SIDE * SIDE * 3) < (SIDE * SIDE * 3) / 2 ? 255 - p : p ^ 7));
  writeSafetensors(
    at("scenes.safetensors"),
    { images, references: { ...images, data: Uint8Array.from(elsewhere) } },
    {
      subjects: JSON.stringify(specs.map(({ subject }) => `${subject}/noto`)),
      captions: JSON.stringify(specs.map(({ subject, place }) => `a ${subject} in the ${place}`)),
      specs: JSON.stringify(specs),
    },
  );
  for (const part of ["tokenizer", "text_encoder"])
    cpSync(join(FIXTURES, "models", "sd1", part), at("model", part), { recursive: true });
  mkdirSync(at("model", "image_encoder"));
  const tower = { hidden_size: 12, intermediate_size: 24, num_hidden_layers: 1, num_attention_heads: 2 };
  const vision = { ...tower, image_size: SIDE, patch_size: 8, projection_dim: 12 };
  writeFileSync(at("model", "image_encoder", "config.json"), JSON.stringify(vision));
});

const configOf = (run: string, changes: object = {}) => {
  const paths = { model: at("model"), data: at("scenes.safetensors"), run: at(run) };
  const numbers = { steps: 60, batch_size: 8, learning_rate: 0.01, warmup_steps: 1, ema_decay: 0.5, logging_steps: 1 };
  const hard = { groups: { by: ["place"], size: 4 }, labels: { by: ["subject", "place"] } };
  writeFileSync(at(`${run}.json`), JSON.stringify({ task: "clip", ...paths, ...numbers, ...hard, ...changes }));
  return readTrainingConfig(at(`${run}.json`));
};

test("a batch comes in runs of pictures that are alike, none of them twice in a run", () => {
  const draw = alikeBatches(
    specs.map((s) => s.place),
    10,
    4,
  );
  const batch = draw(counterRandom(3));
  expect(batch).toHaveLength(10);
  expect(draw(counterRandom(3))).toEqual(batch);
  const runs = [batch.slice(0, 4), batch.slice(4, 8), batch.slice(8)].map((run) => [...run]);
  for (const run of runs) {
    expect(new Set(run).size).toBe(run.length);
    expect(new Set(run.map((i) => specs[i]!.place)).size).toBe(1);
  }
  const places = new Set(Array.from({ length: 20 }, (_, i) => specs[draw(counterRandom(i))[0]!]!.place));
  expect(places.size).toBe(3);
  // a likeness that is rarer than a run: all of its pictures, then another
  const rare = alikeBatches(["a", "b", "b", "b", "b"], 6, 4)(counterRandom(1));
  expect(rare).toHaveLength(6);
});

const told = ["text_subject", "image_subject", "text_place", "image_place"] as const;

test("both towers learn to tell subjects and places; the tables of labels are kept nowhere", async () => {
  const runtime = await startRuntime({ inProcess: true });
  expect(await runTraining(runtime, configOf("run"))).toBe(60);
  const log = readLog(at("run"));
  const last = log.at(-1)!;
  expect(last.loss).toBeCloseTo(
    told.reduce((n, key) => n + 0.5 * last[key]!, last.contrast!),
    3,
  );
  for (const key of ["contrast", ...told] as const)
    expect(meanOf(key, log.slice(-5)), key).toBeLessThan(0.5 * meanOf(key, log.slice(0, 5)));
  const { files } = loadCLIPVision(at("model", "image_encoder"));
  const texts = readSafetensorsHeader(at("model", "text_encoder", "model.safetensors"));
  const projection = readSafetensorsHeader(at("model", "image_encoder", "text_projection.safetensors"));
  const kept = [...files.keys(), ...texts.tensors.keys(), ...projection.tensors.keys()];
  expect(kept).toContain("text_projection.weight");
  expect(kept.filter((key) => /label|table/.test(key))).toEqual([]);
});

test("the image tower alone learns: the text encoder's file stays as it is", async () => {
  const runtime = await startRuntime({ inProcess: true });
  const [text, image] = ["text_encoder", "image_encoder"].map((part) => at("model", part, "model.safetensors"));
  const before = [text, image].map((path) => readFileSync(path!));
  const config = configOf("image", { train: "image", from_weights: true, steps: 2 });
  expect(await runTraining(runtime, config)).toBe(2);
  expect(readFileSync(text!).equals(before[0]!)).toBe(true);
  expect(readFileSync(image!).equals(before[1]!)).toBe(false);
});

test("the picture tower's patches learn instances; what they are projected by is kept nowhere", async () => {
  const runtime = await startRuntime({ inProcess: true });
  const config = configOf("instances", { train: "image", from_weights: true, groups: null, instances: { weight: 2 } });
  expect(await runTraining(runtime, config)).toBe(60);
  const log = readLog(at("instances"));
  const { loss, contrast, ...last } = log.at(-1)!;
  const named = told.reduce((n, key) => n + 0.5 * last[key]!, contrast!);
  const instances = ["instance", "image_instance", "reference_instance"];
  expect(loss).toBeCloseTo(
    instances.reduce((n, key) => n + 2 * last[key]!, named),
    3,
  );
  for (const key of instances) expect(meanOf(key, log.slice(-5)), key).toBeLessThan(0.7 * meanOf(key, log.slice(0, 5)));
  const { files } = loadCLIPVision(at("model", "image_encoder"));
  expect([...files.keys()].filter((key) => /label|table|instance/.test(key))).toEqual([]);
  expect(() => configOf("both", { instances: {} })).toThrow(/groups and instances each say how a batch is drawn/);
});

test("a field that the pictures lack is refused", async () => {
  const runtime = await startRuntime({ inProcess: true });
  await expect(runTraining(runtime, configOf("bad", { groups: { by: ["place", "look"], size: 4 } }))).rejects.toThrow(
    /scenes\.safetensors: needed fields of the pictures' specs, found "look"; they have subject, place\./,
  );
});

import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadModel } from "@likeness/diffusion";
import { type Runtime, startRuntime } from "@likeness/engine";
import { FIXTURES } from "@likeness/engine/testing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { testMethodContract } from "../src/baselines/method.contract.ts";
import { createMethod, type Method } from "../src/baselines/method.ts";
import { RECIPES } from "../src/baselines/recipes.ts";
import { MethodSpec } from "../src/baselines/spec.ts";
import type { Photo } from "../src/photo.ts";
import { writeToyEncoder } from "./toy-encoder.ts";

const folder = mkdtempSync(join(tmpdir(), "methods-"));
afterAll(() => rmSync(folder, { recursive: true }));
cpSync(`${FIXTURES}/models/sd1`, join(folder, "sd1"), { recursive: true });
const model = loadModel(join(folder, "sd1"));
writeToyEncoder(join(folder, "sd1", "tuning_encoder"), model);
const bare = loadModel(`${FIXTURES}/models/sd1`);
const side = model.resolution;
const photo = {
  pixels: Uint8Array.from({ length: side * side * 3 }, (_, i) => (i * 37) % 256),
  width: side,
  height: side,
};
const options = { seed: 3, classWord: "fox" };

let runtime: Runtime;
beforeAll(async () => {
  runtime = await startRuntime({ inProcess: true });
});

const make = (spec: object, of = model): Method =>
  createMethod(MethodSpec.parse(spec), { runtime, model: of, batchSize: 2, templates: ["a photo of a <S*>"] });
const few = (kind: string) => (RECIPES[kind as keyof typeof RECIPES].steps > 0 ? { steps: 2 } : {});

describe.each(Object.keys(RECIPES))("%s", (kind) => {
  testMethodContract(() => ({ method: make({ method: kind, ...few(kind) }), model, photo, options }));
});

test("a mask changes the methods that are told to look at it, and no other", async () => {
  const mask = Uint8Array.from({ length: side * side }, (_, i) => (i % side < side / 2 ? 255 : 0));
  const taught = async (spec: object, of: Photo): Promise<Float32Array> =>
    (await make({ method: "date", steps: 2, ...spec }).teach(of, options)).embedding;
  const plain = await taught({}, photo);
  expect(await taught({}, { ...photo, mask })).toEqual(plain);
  expect(await taught({ mask: true }, { ...photo, mask })).not.toEqual(plain);
  await expect(taught({ mask: true }, photo)).rejects.toThrow(
    /"date" with a mask: needed photos with masks, found none/,
  );
  // a dot on one colour is found, and found is as given; noise isn't plain, and the whole photo counts
  const dot = (i: number): boolean => Math.hypot((i % side) - side / 2, Math.floor(i / side) - side / 2) < side / 4;
  const pixels = Uint8Array.from({ length: side * side * 3 }, (_, i) => (dot(Math.floor(i / 3)) ? 200 : 90));
  const found = Uint8Array.from({ length: side * side }, (_, i) => (dot(i) ? 255 : 0));
  expect(await taught({ mask: "plain" }, { ...photo, pixels })).toEqual(
    await taught({ mask: true }, { ...photo, pixels, mask: found }),
  );
  expect(await taught({ mask: "plain" }, photo)).toEqual(plain);
  // the same where the model has no subject mask
  expect(await taught({ mask: "auto" }, { ...photo, pixels })).toEqual(
    await taught({ mask: "plain" }, { ...photo, pixels }),
  );
  expect(await taught({ mask: "auto" }, photo)).toEqual(plain);
  expect(make({ method: "date", mask: "auto" }).name).toBe("12 steps, with a mask that is found");
  expect(make({ method: "date", mask: true }).name).toBe("12 steps, with a mask");
  expect(make({ method: "date" }).settings).not.toHaveProperty("mask");
});

test("with a mask the steps are those of the encoder's config, unless the spec has its own; without one the paper's, at the config's rank", async () => {
  const other = join(folder, "muon-encoder");
  cpSync(join(folder, "sd1", "tuning_encoder"), other, { recursive: true });
  const file = join(other, "config.json");
  const config = JSON.parse(readFileSync(file, "utf8")) as object;
  const steps = { optimizer: "muon", learning_rate: 0.03, embedding_learning_rate: 0.01 };
  writeFileSync(file, JSON.stringify({ ...config, tuning_rank: 3, masked_tuning: steps }));
  const mask = Uint8Array.from({ length: side * side }, (_, i) => (i % side < side / 2 ? 255 : 0));
  const taught = async (spec: object) => {
    const concept = await make({ method: "date", steps: 2, ...spec }).teach({ ...photo, mask }, options);
    return { v: concept.embedding, b: concept.factors[0]!.b, rank: concept.rank };
  };
  const own = await taught({ encoder: other, mask: true });
  expect(own.rank).toBe(3);
  expect(own).toEqual(await taught({ mask: true, rank: 3, ...steps }));
  expect(own).not.toEqual(await taught({ mask: true }));
  expect(await taught({ encoder: other, mask: true, learning_rate: 0.03 })).toEqual(
    await taught({ mask: true, rank: 3, learning_rate: 0.03 }),
  );
  expect(await taught({ encoder: other })).toEqual(await taught({ rank: 3 }));
  expect(await taught({ encoder: other, mask: true, steps: 0 })).toEqual(await taught({ steps: 0 }));
});

test("the settings are those that decide the result: the steps of a config are no other than the same steps in a spec", () => {
  // keys are made from their JSON, in this order
  const settings = (spec: object) => JSON.stringify(make({ method: "date", ...spec }).settings);
  const own = JSON.parse(settings({ mask: true }));
  const steps = { learning_rate: 0.03, optimizer: "muon", embedding_learning_rate: 0.01 };
  const config = { ...own.encoderConfig, tuning_rank: 3, masked_tuning: steps };
  const other = join(folder, "told-encoder");
  cpSync(join(folder, "sd1", "tuning_encoder"), other, { recursive: true });
  writeFileSync(join(other, "config.json"), JSON.stringify(config));
  const told = settings({ encoder: other, mask: true });
  const masked = { learningRate: 0.03, optimizer: "muon", embeddingLearningRate: 0.01, rank: 3 };
  expect(JSON.parse(told)).toMatchObject({ masked });
  expect(told).toBe(settings({ mask: true, rank: 3, ...steps }));
  expect(told).not.toBe(settings({ mask: true }));
  // where no mask is found, a rate that a spec names is stepped with, one that the config names isn't
  const plain = (spec: object) => JSON.parse(settings({ mask: "plain", ...spec }));
  expect(plain({ encoder: other })).toMatchObject({ learningRate: 0.002, rank: 3, masked });
  expect(plain({ rank: 3, ...steps })).toMatchObject({ ...masked, masked });
  expect(settings({ encoder: other })).toBe(settings({ rank: 3 }));
  expect(settings({ encoder: other, steps: 0 })).toBe(settings({ steps: 0 }));
  expect(() => settings({ mask: true, rank: 1 })).toThrow(
    /^rank \(method "12 steps, with a mask"\): needed at least 2, the tuning-encoder's, found 1\./,
  );
  writeFileSync(join(other, "config.json"), JSON.stringify({ ...config, tuning_rank: 1 }));
  expect(() => settings({ encoder: other })).toThrow(/told-encoder.*config\.json.*tuning_rank.*must be at least rank/s);
});

describe("what learns", () => {
  const start = (kind: string) =>
    make({ method: kind === "lora" || kind === "textual-inversion" ? "class-word" : "encoder" });
  const moved = async (spec: { method: string; train?: string }): Promise<{ word: boolean; offsets: boolean }> => {
    const before = await start(spec.method).teach(photo, options);
    const after = await make({ ...spec, steps: 1 }).teach(photo, options);
    const differ = (a: Float32Array, b: Float32Array): boolean => a.some((x, i) => x !== b[i]);
    return {
      word: differ(before.embedding, after.embedding),
      offsets: after.factors.some(({ b }, i) => differ(b, before.factors[i]!.b)),
    };
  };
  test.each([
    [{ method: "date" }, { word: true, offsets: true }],
    [{ method: "lora" }, { word: true, offsets: true }],
    [
      { method: "lora", train: "offsets" },
      { word: false, offsets: true },
    ],
    [{ method: "textual-inversion" }, { word: true, offsets: false }],
  ])("%o", async (spec, expected) => expect(await moved(spec)).toEqual(expected));
});

test("the dual path's share and the hard word are the recipe's", async () => {
  const concept = (spec: object) => make(spec).teach(photo, options);
  expect((await concept({ method: "class-word" })).alphaBlend).toBe(0);
  expect((await concept({ method: "encoder" })).alphaBlend).toBe(0.25);
  expect((await concept({ method: "no-dual-path", steps: 0 })).alphaBlend).toBe(1);
  expect((await concept({ method: "class-word" })).hardToken).toBe("fox");
  expect((await concept({ method: "encoder", class_word: true })).hardToken).toBe("fox");
});

test("rows are named by what was asked for", () => {
  const names = [
    make({ method: "date" }),
    make({ method: "no-encoder" }),
    make({ method: "lora", steps: 12 }),
    make({ method: "lora", learning_rate: 1e-3 }),
    make({ method: "encoder", name: "codebook" }),
  ].map((m) => m.name);
  const lora = ["LoRA, 12 steps", "LoRA, 400 steps, lr 0.001"];
  expect(names).toEqual(["12 steps", "12 steps without encoder", ...lora, "codebook"]);
});

test("an encoder decides what it decides: it is part of the settings", () => {
  writeToyEncoder(join(folder, "other"), model, 2);
  const own = make({ method: "date" }).settings;
  const other = make({ method: "date", encoder: join(folder, "other") }).settings;
  expect(own.encoder).toMatch(/^[0-9a-f]{16}$/);
  expect(other.encoder).not.toBe(own.encoder);
});

test("without an encoder, methods that start there say so and teach nothing; the others work", async () => {
  const skipped = Object.keys(RECIPES).filter((method) => make({ method }, bare).skipped !== undefined);
  expect(skipped).toEqual(["encoder", "date", "no-dual-path"]);
  const method = make({ method: "date" }, bare);
  expect(method.skipped).toBe("sd1 has no tuning_encoder/ yet");
  await expect(method.teach(photo, options)).rejects.toThrow(
    /method "date" .*: needed a tuning-encoder, found sd1 has no tuning_encoder\/ yet\..*E_MODEL/,
  );
  expect(make({ method: "encoder", encoder: join(folder, "none") }).skipped).toMatch(
    /^no tuning-encoder in .*none yet$/,
  );
});

/** Concepts in other runtimes' files: what is written is what the flattened concept is, and how far that is from the dual path. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  attentionMatrices,
  type Denoiser,
  loadModel,
  plainDenoiser,
  readEmbedding,
  readLora,
  resnetConvolutions,
  withAdapters,
} from "@likeness/diffusion";
import { counterRandom, input, type Runtime, readSafetensorsHeader, startRuntime } from "@likeness/engine";
import { FIXTURES, relativeError } from "@likeness/engine/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  type Concept,
  conceptDenoiser,
  EXPORT_FORMATS,
  exportConcept,
  type FlatteningError,
  flatten,
  flatteningError,
} from "../src/index.ts";

const model = loadModel(`${FIXTURES}/models/sd1`);
/** Its tokenizer hasn't met the concept's token. */
const other = loadModel(`${FIXTURES}/models/sd1`);
const folder = mkdtempSync(join(tmpdir(), "export-"));
let runtime: Runtime;
beforeAll(async () => {
  runtime = await startRuntime({ inProcess: true });
});
afterAll(async () => {
  await runtime.close();
  rmSync(folder, { recursive: true });
});

const RANK = 3;
/** A concept whose changes have a size of `size`, near the word with id 17. */
async function concept(size: number, alphaBlend: number = 0.25): Promise<Concept> {
  const random = counterRandom(1);
  const base = { token: "<duck>", rank: RANK, loraAlpha: 6, hardToken: "duck", hardTokenId: 17, alphaBlend };
  const rest = { base: model.fingerprint, baseName: model.name, settings: {} };
  const factors = attentionMatrices(model.unet.config).map(({ dIn, dOut }) => ({
    a: random.normal(dIn * RANK).map((x) => x * dIn ** -0.5),
    b: random.normal(RANK * dOut).map((x) => x * size),
  }));
  const start: Concept = {
    ...base,
    ...rest,
    factors,
    embedding: new Float32Array(model.textEncoder.config.hidden_size),
  };
  const hard = (await flatten(runtime, model, { ...start, alphaBlend: 0 })).embedding; // v_h itself
  return { ...start, embedding: hard.map((x) => x + size * random.normal(1)[0]!) };
}

const NONE: FlatteningError = {
  ...{ relative: 0.01, largest: 0.02, ofChange: 0.1, draws: 1, steps: 1 },
  ...{ prompt: "a photo of <duck>", width: 16, height: 16 },
};

async function predict(denoiser: Denoiser, prompt: string): Promise<Float32Array> {
  const output = denoiser.build(input("sample", [1, 4, 8, 8]), input("timestep", [1]));
  const program = await runtime.compile({ outputs: { output } });
  const condition = await denoiser.condition([prompt]);
  const feeds = { sample: counterRandom(3).normal(256), timestep: Float32Array.of(400), ...condition };
  const result = (await program.run(feeds)).output as Float32Array;
  await program.release();
  return result;
}

const FILES: Record<string, string[]> = {
  diffusers: ["learned_embeds.safetensors", "pytorch_lora_weights.safetensors"],
  kohya: ["duck-emb.safetensors", "duck.safetensors"],
  a1111: [
    "embeddings",
    "embeddings/duck-emb.safetensors",
    "models",
    "models/Lora",
    "models/Lora/duck.json",
    "models/Lora/duck.safetensors",
  ],
  cloneofsimo: ["duck.safetensors"],
};

test.each(EXPORT_FORMATS)("%s: the files, read again, predict what the flattened concept predicts", async (format) => {
  const flat = await flatten(runtime, model, await concept(0.5));
  const out = join(folder, format);
  const { files, token } = exportConcept(out, format, flat, "duck", model, NONE);
  expect(readdirSync(out, { recursive: true }).sort()).toEqual(FILES[format]);
  const lora = readLora(files[0]!, model);
  expect(lora.report.ignored).toEqual([]);
  expect(lora.report.layers.unet).toBe(format === "cloneofsimo" ? 54 : 36);
  const embeddings = format === "cloneofsimo" ? [] : readEmbedding(files[1]!, model);
  const adapted = withAdapters(other, { loras: [lora], embeddings });
  const found = await predict(plainDenoiser(runtime, adapted), `a photo of ${token} on the beach`);
  const wanted = await predict(conceptDenoiser(runtime, model, flat), "a photo of <duck> on the beach");
  const plain = await predict(plainDenoiser(runtime, other), "a photo of <duck> on the beach");
  expect(relativeError(found, wanted)).toBeLessThan(1e-5); // the same numbers, added up in another order
  expect(relativeError(found, plain)).toBeGreaterThan(0.05);
  const { metadata } = readSafetensorsHeader(files[0]!);
  expect(JSON.parse(metadata["date.flattening"]!)).toEqual(NONE);
});

/** The same with changes of all convolutions. */
async function convolved(size: number, alphaBlend?: number): Promise<Concept> {
  const random = counterRandom(2);
  const factors = resnetConvolutions(model).map(({ shape: [out, n] }) => ({
    a: random.normal(2 * n! * 9).map((x) => x * (n! * 9) ** -0.5),
    b: random.normal(out! * 2).map((x) => x * size),
  }));
  return { ...(await concept(size, alphaBlend)), convolutions: { factors, rank: 2, loraAlpha: 3 } };
}

test.each(["diffusers", "kohya", "a1111"] as const)("%s with convolutions: the same", async (format) => {
  const flat = await flatten(runtime, model, await convolved(0.5));
  const { files, token } = exportConcept(join(folder, `${format}-conv`), format, flat, "duck", model, NONE);
  const lora = readLora(files[0]!, model);
  expect(lora.report).toMatchObject({ ignored: [], ranks: [2, 3] });
  expect(lora.report.layers.unet).toBe(36 + resnetConvolutions(model).length);
  const adapted = withAdapters(other, { loras: [lora], embeddings: readEmbedding(files[1]!, model) });
  const found = await predict(plainDenoiser(runtime, adapted), `a photo of ${token} on the beach`);
  const wanted = await predict(conceptDenoiser(runtime, model, flat), "a photo of <duck> on the beach");
  const without = await predict(conceptDenoiser(runtime, model, { ...flat, convolutions: undefined }), "a <duck>");
  expect(relativeError(found, wanted)).toBeLessThan(1e-5);
  expect(relativeError(found, without)).toBeGreaterThan(0.05);
});

test("changes of convolutions alone are flattened without an error; cloneofsimo's format has no place for them", async () => {
  const whole = await convolved(0.5);
  const nothing = whole.factors.map(({ a, b }) => ({ a, b: new Float32Array(b.length) }));
  const hard = await flatten(runtime, model, { ...whole, alphaBlend: 0 });
  const alone: Concept = { ...whole, factors: nothing, embedding: hard.embedding };
  const flat = await flatten(runtime, model, alone);
  const { largest } = await flatteningError(runtime, model, alone, flat, { draws: 1, steps: 2 });
  expect(largest).toBeLessThan(1e-5);
  const out = join(folder, "cloneofsimo-conv");
  expect(() => exportConcept(out, "cloneofsimo", flat, "duck", model, NONE)).toThrow(
    /resnets\.\d\.conv\d: needed a layer that cloneofsimo's format has.*--conv-rank 0.*\[E_LORA\]/,
  );
  expect(existsSync(join(out, "duck.safetensors"))).toBe(false);
});

test("what A1111 shows beside a LoRA", () => {
  const notes = JSON.parse(readFileSync(join(folder, "a1111/models/Lora/duck.json"), "utf8"));
  expect(notes).toEqual({ "sd version": "SD1", "activation text": "duck-emb", "preferred weight": 1 });
  expect(readSafetensorsHeader(join(folder, "a1111/models/Lora/duck.safetensors")).metadata).toMatchObject({
    ...{ ss_base_model_version: "sd_v1", ss_v2: "False", ss_network_dim: "3", ss_network_alpha: "1.5" },
    ...{ "modelspec.trigger_phrase": "duck-emb" },
  });
});

test("the error against the dual path is of second order: relative to the change it shrinks with the change", async () => {
  const shares: number[] = [];
  for (const size of [0.1, 0.01]) {
    const c = await concept(size);
    const error = await flatteningError(runtime, model, c, await flatten(runtime, model, c), { draws: 2, steps: 2 });
    expect(error.largest).toBeGreaterThanOrEqual(error.relative);
    shares.push(error.ofChange);
  }
  expect(shares[0]).toBeGreaterThan(0.01);
  expect(shares[1]! / shares[0]!).toBeLessThan(0.2); // a tenth, but for higher orders
});

test.each([0, 1])("with a share of %s the single path is exact", async (alphaBlend) => {
  const c = await concept(0.5, alphaBlend);
  const { largest } = await flatteningError(runtime, model, c, await flatten(runtime, model, c), {
    draws: 1,
    steps: 2,
  });
  expect(largest).toBeLessThan(1e-5);
});

test.each([0, 1])(
  "a LoRA on the base model beside a concept with share %s: both changes, each once",
  async (alphaBlend) => {
    const beside = readLora(`${FIXTURES}/adapters/layers-peft.safetensors`, model, { scale: 0.5 });
    const c = await concept(0.5, alphaBlend);
    const flat = await flatten(runtime, model, c);
    const { files } = exportConcept(join(folder, `beside-${alphaBlend}`), "kohya", flat, "duck", model, NONE);
    const loras = [beside, readLora(files[0]!, model)];
    const embeddings = readEmbedding(files[1]!, model);
    const single = plainDenoiser(runtime, withAdapters(other, { loras, embeddings }));
    const dual = conceptDenoiser(runtime, withAdapters(other, { loras: [beside] }), c);
    const [found, wanted] = [await predict(dual, "a <duck>"), await predict(single, "a duck-emb")];
    expect(relativeError(found, wanted)).toBeLessThan(1e-5);
  },
);

test("a file that can't be written leaves none", async () => {
  const out = join(folder, "half");
  mkdirSync(join(out, "learned_embeds.safetensors"), { recursive: true });
  const flat = await flatten(runtime, model, await concept(0.1));
  expect(() => exportConcept(out, "diffusers", flat, "duck", model, NONE)).toThrow(/EISDIR|ENOTEMPTY|EEXIST/);
  expect(existsSync(join(out, "pytorch_lora_weights.safetensors"))).toBe(false);
});

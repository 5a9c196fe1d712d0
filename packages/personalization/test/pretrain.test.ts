import { appendFileSync, cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { attentionMatrices, loadModel } from "@likeness/diffusion";
import {
  constant,
  counterRandom,
  evaluate,
  openWeights,
  readFloats,
  readSafetensorsHeader,
  startRuntime,
  writeSafetensors,
} from "@likeness/engine";
import { FIXTURES, readLog } from "@likeness/engine/testing";
import { afterAll, expect, test } from "vitest";
import { ENCODER_FILE, findEncoder, openEncoder } from "../src/encoder-file.ts";
import { personalize } from "../src/personalize.ts";
import { pretrain, readPretrainConfig, wordEntropy } from "../src/pretrain.ts";
import type { PretrainConfig } from "../src/pretrain-config.ts";

const folder = mkdtempSync(join(tmpdir(), "pretrain-"));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (...names: string[]): string => join(folder, ...names);
for (const kind of ["sd1", "sd2"]) cpSync(`${FIXTURES}/models/${kind}`, at(kind), { recursive: true });

const COUNT = 8;
/** Pictures of noise, of the side that a toy model makes. */
function writePictures(name: string, side: number, paired: boolean, blocks: number = 0): void {
  const random = counterRandom(2, name);
  const tensor = () => ({
    dtype: "U8" as const,
    shape: [COUNT, side, side, 3],
    data: Uint8Array.from({ length: COUNT * side * side * 3 }, () => random.int(256)),
  });
  const list = (text: (i: number) => string): string =>
    JSON.stringify(Array.from({ length: COUNT }, (_, i) => text(i)));
  writeSafetensors(
    at(name),
    {
      images: tensor(),
      ...(paired && { references: tensor() }),
      ...(blocks && {
        masks: {
          dtype: "U8" as const,
          shape: [COUNT, blocks, blocks],
          data: Uint8Array.from({ length: COUNT * blocks ** 2 }, (_, i) => (i % 2 ? 255 : 0)),
        },
      }),
    },
    {
      captions: list((i) => `a fox ${i}`),
      ...(paired && {
        templates: list((i) => `a <S*> on the beach ${i}`),
        words: list((i) => (i % 2 ? "fox" : "red fox")),
      }),
    },
  );
}
writePictures("pairs.safetensors", 16, true);
writePictures("plain.safetensors", 16, false);
const { resolution, scaleFactor } = loadModel(at("sd1"));
writePictures("masked.safetensors", 16, true, resolution / scaleFactor);

/** A config as it would be read from a file. */
function configOf(run: string, changes: Partial<PretrainConfig> = {}): PretrainConfig {
  const path = at(`${run}.json`);
  const encoder = {
    width: 16,
    grid: 4,
    trunk_blocks: 1,
    norm_groups: 4,
    decoder_layers: 1,
    decoder_heads: 2,
    decoder_inner: 16,
    rank: 2,
    lora_alpha: 2,
  }; // prettier-ignore
  const config = {
    model: at("sd1"),
    data: at("pairs.safetensors"),
    run: at(run),
    encoder,
    seed: 1,
    steps: 4,
    batch_size: 3,
    learning_rate: 1e-2,
    hypernetwork_learning_rate: 1e-2,
    warmup_steps: 1,
    ema_decay: 0.5,
    checkpointing_steps: 2,
    logging_steps: 1,
    start_word: "fox",
  }; // prettier-ignore
  writeFileSync(path, JSON.stringify({ ...config, ...changes }));
  return readPretrainConfig(path);
}

async function run(config: PretrainConfig, options: { resume?: boolean; until?: number } = {}): Promise<number> {
  const runtime = await startRuntime({ inProcess: true });
  const controller = new AbortController();
  return pretrain(runtime, config, {
    resume: options.resume ?? false,
    signal: controller.signal,
    onStep: ({ step }) => step === options.until && controller.abort(),
  });
}

const log = (name: string): Record<string, number>[] => readLog(at(name));
const weights = (path: string): Map<string, Float32Array> => {
  const header = readSafetensorsHeader(path);
  return new Map([...header.tensors.keys()].map((key) => [key, readFloats(header, key)]));
};

test("a run that was stopped and resumed ends with the same weights and the same log", async () => {
  expect(await run(configOf("whole"))).toBe(4);
  const encoder = weights(at("sd1", "tuning_encoder", ENCODER_FILE));
  await expect(run(configOf("halves"), { until: 3 })).rejects.toThrow(/abort/i); // the checkpoint is that of step 2
  expect(log("halves").map((line) => line.step)).toEqual([1, 2, 3]);
  appendFileSync(at("halves", "log.ndjson"), '{"step":4,"lo'); // a write that was interrupted
  expect(await run(configOf("halves"), { resume: true })).toBe(4);
  expect(weights(at("halves", "checkpoint.safetensors"))).toEqual(weights(at("whole", "checkpoint.safetensors")));
  expect(weights(at("sd1", "tuning_encoder", ENCODER_FILE))).toEqual(encoder);
  const scalars = ({ samplesPerSecond: _, ...rest }: Record<string, number>) => rest;
  expect(log("halves").map(scalars)).toEqual(log("whole").map(scalars));
  const keys = [
    "step",
    "lr",
    "samplesPerSecond",
    "loss",
    "diffusion",
    "contrastive",
    "norm",
    "cosine",
    "entropy",
    "offsets",
    "grad_norm",
  ]; // prettier-ignore
  for (const line of log("whole")) for (const key of keys) expect(line[key]).toSatisfy(Number.isFinite);
});

test("a run goes on from an encoder's weights; Muon takes its matrices, AdamW the rest", async () => {
  const out = at("encoder");
  await run(configOf("first", { out }));
  const before = weights(join(out, ENCODER_FILE));
  const slow = { out, steps: 1, learning_rate: 1e-6, hypernetwork_learning_rate: 1e-6 };
  const change = async (config: PretrainConfig): Promise<number> => {
    await run(config);
    const after = weights(join(out, ENCODER_FILE));
    const largest = (a: Float32Array, b: Float32Array): number => Math.max(...a.map((x, i) => Math.abs(x - b[i]!)));
    return Math.max(...[...before].map(([key, values]) => largest(values, after.get(key)!)));
  };
  expect(await change(configOf("next", { ...slow, from_weights: true }))).toBeLessThan(1e-3); // float16 files
  expect(await change(configOf("fresh", { ...slow, seed: 2 }))).toBeGreaterThan(0.01);
  await run(configOf("muon", { out, optimizer: "muon" }));
  const state = weights(at("muon", "checkpoint.safetensors"));
  for (const [key, values] of weights(join(out, ENCODER_FILE))) {
    expect(values.every(Number.isFinite)).toBe(true);
    const matrix = key.endsWith(".weight") && !key.includes("norm");
    expect(state.has(`muon.momentum.${key}`), key).toBe(matrix);
    expect(state.has(`adamw.v.${key}`), key).toBe(!matrix);
  }
});

test("with words, v goes to the one that names its picture, of several tokens to the last", async () => {
  await run(configOf("words", { word_weight: 1, start_word: "a", steps: 40, learning_rate: 3e-3 }));
  const lines = log("words");
  expect(lines[0]!.word).toBeGreaterThan(0.5);
  expect(lines.at(-1)!.word).toBeLessThan(0.2 * lines[0]!.word!);
  const unnamed = configOf("unnamed", { word_weight: 1, data: at("plain.safetensors") });
  await expect(run(unnamed)).rejects.toThrow(/metadata "words"/);
});

test("with masks, errors on the subject count more", async () => {
  const masked = { data: at("masked.safetensors"), steps: 1 };
  await run(configOf("even", masked));
  await run(configOf("subject", { ...masked, subject_weight: 3 }));
  const [even, subject] = ["even", "subject"].map((name) => log(name)[0]!.diffusion!) as [number, number];
  expect(Math.abs(subject / even - 1)).toBeGreaterThan(1e-3);
  await expect(run(configOf("unmasked", { subject_weight: 3 }))).rejects.toThrow(/"masks" .*no such tensor/);
});

test("step 1 runs the vanilla offsets; then the hypernetwork moves, and so does the word", async () => {
  const [first, , , last] = log("whole");
  expect(first!.offsets).toBe(0);
  expect(last!.offsets).toBeGreaterThan(0);
  expect(last!.norm).not.toBe(first!.norm);
});

test("the written encoder makes concepts of its model, and of no other", async () => {
  const model = loadModel(at("sd1"));
  const encoder = findEncoder(model)!;
  expect(encoder.config.base).toBe(model.fingerprint);
  const runtime = await startRuntime({ inProcess: true });
  const photo = { pixels: new Uint8Array(16 * 16 * 3).map((_, i) => (i * 37) % 256), width: 16, height: 16 };
  const options = { encoder, steps: 0, learningRate: 2e-3, batchSize: 2, token: "<S*>", seed: 1 };
  const concept = await personalize(runtime, model, photo, options);
  expect(concept.rank).toBe(2);
  expect(concept.factors).toHaveLength(attentionMatrices(model.unet.config).length);
  expect(concept.factors.some(({ b }) => b.some((x) => x !== 0))).toBe(true);
  const config = at("sd1", "tuning_encoder", "config.json");
  const text = readFileSync(config, "utf8");
  writeFileSync(config, text.replace('"decoder_layers": 1', '"decoder_layers": 0'));
  expect(() => findEncoder(model)).toThrow(/decoder_layers/);
  writeFileSync(config, text.replace('"decoder_layers": 1', '"decoder_layers": 2'));
  await expect(personalize(runtime, model, photo, { ...options, encoder: findEncoder(model)! })).rejects.toThrow(
    /layers\.1\..*found no such key/,
  );
  writeFileSync(config, text.replace('"trunk_blocks": 1', '"trunk_blocks": 1, "blocks": 2'));
  expect(() => findEncoder(model)).toThrow(/blocks/);
  writeFileSync(config, text);
  const file = at("sd1", "tuning_encoder", ENCODER_FILE);
  const tensor = (data: Float32Array) => ({ dtype: "F32" as const, shape: [data.length], data });
  const extra = at("sd1", "tuning_encoder", "extra.safetensors");
  writeSafetensors(extra, { "trunk.old": tensor(new Float32Array(2)) });
  const both = { config: encoder.config, files: openWeights([file, extra]) };
  await expect(personalize(runtime, model, photo, { ...options, encoder: both })).rejects.toThrow(
    /"trunk\.old".*only weights that the tuning-encoder has.*E_WEIGHT_UNREAD/,
  );
  cpSync(at("sd1", "tuning_encoder"), at("sd2", "tuning_encoder"), { recursive: true });
  expect(() => findEncoder(loadModel(at("sd2")))).toThrow(
    /needed one trained for sd2 .*, found one for sd1 .*E_ENCODER_BASE/,
  );
});

test.each<[string, Partial<PretrainConfig>]>([
  ["pictures without references", { data: at("plain.safetensors") }],
  ["a model that predicts v", { model: at("sd2"), data: at("sd2.safetensors") }],
])("trains on %s", async (_name, changes) => {
  const { resolution } = loadModel(at("sd2"));
  writePictures("sd2.safetensors", resolution, true);
  const config = configOf(`other-${changes.model ? "v" : "plain"}`, { ...changes, steps: 2 });
  expect(await run(config)).toBe(2);
});

test("the four regularisation settings of figure 4 train different encoders, in folders of their own", async () => {
  const settings = {
    none: { contrastive_weight: 0, embedding_weight: 0, offset_weight: 0 },
    "eq4-only": { contrastive_weight: 0, embedding_weight: 1 },
    codebook: { contrastive_weight: 0, codebook_weight: 0.5 },
    contrastive: { contrastive_weight: 0.5 },
  };
  const found: string[] = [];
  for (const [name, weights] of Object.entries(settings)) {
    const out = at("figure-4", name);
    await run(configOf(`figure-4-${name}`, { ...weights, steps: 2, out }));
    expect(openEncoder(out, loadModel(at("sd1"))).config.rank).toBe(2);
    found.push(readFileSync(join(out, ENCODER_FILE)).toString("base64"));
  }
  expect(new Set(found).size).toBe(4);
});

test("latents are kept beside the run and used again", async () => {
  const config = configOf("cache", { steps: 1 });
  const cached: number[] = [];
  const runtime = await startRuntime({ inProcess: true });
  const hooks = { onCached: (done: number) => cached.push(done) };
  await pretrain(runtime, config, hooks);
  expect(cached).toEqual([COUNT, 2 * COUNT]);
  await pretrain(runtime, config, hooks);
  expect(cached).toHaveLength(2);
});

test("a run aborted while caching keeps what is whole, and leaves no half file", async () => {
  const controller = new AbortController();
  const started = pretrain(await startRuntime({ inProcess: true }), configOf("aborted"), {
    signal: controller.signal,
    onCached: () => controller.abort(),
  });
  await expect(started).rejects.toThrow(/abort/i);
  expect(readdirSync(at("aborted"))).toEqual(["images.latents.safetensors"]);
});

test("a config with a key that isn't known is refused by name", () => {
  expect(() => configOf("typo", { learning_rat: 1 } as object)).toThrow(/typo\.json.*learning_rat/s);
});

test("entropy of nearest words", async () => {
  const of = async (ids: number[]): Promise<number> =>
    (await evaluate({ h: wordEntropy(constant(Int32Array.from(ids))) })).h[0]!;
  expect(await of([5, 5, 5, 5])).toBeCloseTo(0, 6);
  expect(await of([1, 2, 3, 4])).toBeCloseTo(Math.log(4), 5);
  expect(await of([1, 1, 2, 2])).toBeCloseTo(Math.log(2), 5);
});

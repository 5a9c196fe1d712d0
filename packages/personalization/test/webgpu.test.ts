/** Whole tasks on WebGPU beside the CPU, on toy models, with no node of any graph left to the CPU. */
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { generate, loadModel, plainDenoiser, readTrainingConfig, runTraining } from "@likeness/diffusion";
import {
  counterRandom,
  type Device,
  type Runtime,
  readFloats,
  readSafetensorsHeader,
  startRuntime,
  writeSafetensors,
} from "@likeness/engine";
import { FIXTURES, readLog, relativeError, webgpuMissing } from "@likeness/engine/testing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { findEncoder } from "../src/encoder-file.ts";
import { generateConcept } from "../src/generate.ts";
import { personalize } from "../src/personalize.ts";
import { pretrain, readPretrainConfig } from "../src/pretrain.ts";

const DEVICES = ["cpu", "webgpu"] as const;
const folder = mkdtempSync(join(tmpdir(), "webgpu-tasks-"));
const at = (...names: string[]): string => join(folder, ...names);
afterAll(() => rmSync(folder, { recursive: true }));

/** Six pictures of noise with captions, and other pictures of the same subjects. */
function writePictures(path: string, side: number): void {
  const random = counterRandom(2, "pictures");
  const shape = [6, side, side, 3];
  const tensor = () => ({
    dtype: "U8" as const,
    shape,
    data: Uint8Array.from({ length: 18 * side * side }, () => random.int(256)),
  });
  const list = (text: string): string => JSON.stringify(Array.from({ length: 6 }, (_, i) => `${text} ${i}`));
  writeSafetensors(
    path,
    { images: tensor(), references: tensor() },
    { captions: list("a fox"), templates: list("a <S*> on the beach") },
  );
}

function expectSameRuns(runs: readonly string[]): void {
  const [cpu, gpu] = runs.map((run) => readLog(run));
  expect(gpu).toHaveLength(cpu!.length);
  for (const key of ["loss", "grad_norm"] as const)
    expect(
      relativeError(
        gpu!.map((l) => l[key]!),
        cpu!.map((l) => l[key]!),
      ),
      key,
    ).toBeLessThan(1e-4);
}

/** ‖cpu − gpu‖ over ‖cpu‖, of some tensors of two checkpoints taken as one vector. */
function weightsApart(runs: readonly string[], pick: (key: string) => boolean): number {
  const [cpu, gpu] = runs.map((run) => readSafetensorsHeader(join(run, "checkpoint.safetensors")));
  const all = (header: typeof cpu): Float32Array[] =>
    [...cpu!.tensors.keys()].filter(pick).map((key) => readFloats(header!, key));
  const norm = (lists: readonly Float32Array[]): number =>
    Math.sqrt(lists.reduce((n, list) => n + list.reduce((m, x) => m + x * x, 0), 0));
  const [a, b] = [all(cpu), all(gpu)];
  return norm(a.map((list, i) => list.map((x, j) => x - b[i]![j]!))) / norm(a);
}

describe.skipIf(webgpuMissing())("webgpu", () => {
  const runtimes = {} as Record<(typeof DEVICES)[number], Runtime>;
  beforeAll(async () => {
    for (const device of DEVICES) runtimes[device] = await startRuntime({ device: device as Device });
  });
  afterAll(async () => {
    for (const runtime of Object.values(runtimes)) await runtime.close();
  });

  /** Folders of a toy model, one a device: trainings write into them. */
  const models = (name: string, task: string): string[] =>
    DEVICES.map((device) => {
      const copy = at(task, device, name);
      mkdirSync(at(task, device), { recursive: true });
      cpSync(`${FIXTURES}/models/${name}`, copy, { recursive: true });
      return copy;
    });

  test.each([
    ["sd1", "unet", 1e-3],
    ["sd2", "unet", 1e-3],
    ["sd1", "autoencoder", 1e-3],
    ["sd1", "clip", 1e-3],
  ])("%s: training of %s takes the CPU's steps", async (name, task, learning_rate) => {
    const data = at(`${name}-${task}.safetensors`);
    writePictures(data, task === "clip" ? 32 : loadModel(`${FIXTURES}/models/${name}`).resolution);
    const runs: string[] = [];
    for (const [i, model] of models(name, `${name}-${task}`).entries()) {
      const run = join(model, "run");
      const shared = { steps: 4, batch_size: 3, warmup_steps: 1, logging_steps: 1, checkpointing_steps: 2 };
      const more = { ema_decay: 0.5, weight_decay: 0.01, learning_rate };
      writeFileSync(join(model, "config.json"), JSON.stringify({ task, model, data, run, ...shared, ...more }));
      expect(await runTraining(runtimes[DEVICES[i]!], readTrainingConfig(join(model, "config.json")))).toBe(4);
      runs.push(run);
    }
    expectSameRuns(runs);
    console.info(
      name,
      task,
      weightsApart(runs, (k) => k.startsWith("ema.")),
      weightsApart(runs, (k) => k.startsWith("adamw.m.")),
    );
  });

  test("pre-training of an encoder, its concept, tuning and pictures are the CPU's", async () => {
    const data = at("pairs.safetensors");
    writePictures(data, 16);
    const encoder = { width: 16, grid: 4, trunk_blocks: 1, norm_groups: 4, rank: 2, lora_alpha: 2 };
    const decoder = { decoder_layers: 1, decoder_heads: 2, decoder_inner: 16 };
    const runs: string[] = [];
    const pictures: Float32Array[] = [];
    const folders = models("sd1", "pretrain");
    for (const [i, folder] of folders.entries()) {
      const run = join(folder, "run");
      const config = {
        ...{ model: folder, data, run, seed: 1, encoder: { ...encoder, ...decoder }, start_word: "fox" },
        ...{ steps: 3, batch_size: 3, warmup_steps: 1, logging_steps: 1, checkpointing_steps: 3 },
        ...{ learning_rate: 1e-3, hypernetwork_learning_rate: 1e-3, contrastive_weight: 0.1, ema_decay: 0.5 },
      };
      writeFileSync(join(folder, "config.json"), JSON.stringify(config));
      const runtime = runtimes[DEVICES[i]!];
      expect(await pretrain(runtime, readPretrainConfig(join(folder, "config.json")))).toBe(3);
      runs.push(run);
      const model = loadModel(folders[0]!);
      const photo = { pixels: Uint8Array.from({ length: 768 }, (_, j) => (j * 37) % 256), width: 16, height: 16 };
      const options = { steps: 3, learningRate: 2e-3, batchSize: 2, token: "<S*>", seed: 5 };
      const concept = await personalize(runtime, model, photo, { ...options, encoder: findEncoder(model)! });
      const size = { width: model.resolution, height: model.resolution };
      const ask = { steps: 3, guidanceScale: 3, numImages: 2, seed: 9, ...size };
      const own = await generateConcept(runtime, model, concept, { ...ask, prompt: "a <S*> on the beach" });
      const plain = await generate(runtime, model, plainDenoiser(runtime, model), { ...ask, prompt: "a fox" });
      pictures.push(Float32Array.from([...own.latents, ...plain.latents]));
    }
    expectSameRuns(runs);
    expect(relativeError(pictures[1]!, pictures[0]!)).toBeLessThan(1e-4);
  });
});

import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { counterRandom, readSafetensorsHeader, startRuntime, writeSafetensors } from "@likeness/engine";
import { FIXTURES, readLog } from "@likeness/engine/testing";
import { afterAll, expect, test } from "vitest";
import { loadModel } from "../loading.ts";
import { captionWeight, noiseLevels, timestepAt } from "./denoiser.ts";
import { readTrainingConfig, runTraining } from "./run.ts";

const folder = mkdtempSync(join(tmpdir(), "denoiser-"));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (...names: string[]): string => join(folder, ...names);

test("min-SNR weights: of ε down to γ/SNR, of v never below what keeps a start without signal trained", () => {
  const alphas = Float32Array.of(0.99, 0.5, 0); // SNR 99, 1 and 0
  const of = (gamma: number | null, target: "epsilon" | "v_prediction", steps: number[]): number[] => [
    ...noiseLevels(steps, alphas, gamma, target).weight,
  ];
  expect(of(5, "epsilon", [0, 1])).toEqual([expect.closeTo(5 / 99, 4), 1]);
  expect(of(5, "v_prediction", [0, 1, 2])).toEqual([expect.closeTo(5 / 100, 4), 1, 1]);
  expect(of(null, "v_prediction", [0, 1, 2])).toEqual([1, 1, 1]);
});

test("timesteps: uniform at spread 1, closer to the middle and symmetric below, never outside", () => {
  const quantiles = [0, 0.1, 0.25, 0.5, 0.75, 0.9, 1 - 1e-12];
  const of = (spread: number): number[] => quantiles.map((u) => timestepAt(u, 1000, spread));
  expect(of(1)).toEqual([0, 100, 250, 500, 750, 900, 999]);
  // odds 1/9 and 1/3 to the power of 1/2: 1 in 4 and 1 in 2.732
  expect(of(0.5)).toEqual([0, 250, 366, 500, 633, 750, 999]);
});

test("a picture counts as much as the heaviest text of its caption, and 1 without any", () => {
  const weights = { pencil: 3, sketch: 2, snow: 0.5 };
  const captions = ["a pencil sketch of a fox", "a sketch of a fox", "a fox in snow", "a fox", ""];
  expect(captions.map((c) => captionWeight(c, weights))).toEqual([3, 2, 0.5, 1, 1]);
});

test("an error counts more where a mask shows the subject, as much as elsewhere where it shows it everywhere", async () => {
  cpSync(`${FIXTURES}/models/sd2`, at("model"), { recursive: true });
  const { resolution: side, scaleFactor } = loadModel(at("model"));
  const [count, blocks] = [8, side / scaleFactor];
  const random = counterRandom(3, "pictures");
  const bytes = (n: number, f: (i: number) => number): Uint8Array => Uint8Array.from({ length: n }, (_, i) => f(i));
  const images = {
    dtype: "U8" as const,
    shape: [count, side, side, 3],
    data: bytes(count * side * side * 3, () => random.int(256)),
  };
  const write = (name: string, mask?: (i: number) => number): void => {
    const masks = mask && {
      dtype: "U8" as const,
      shape: [count, blocks, blocks],
      data: bytes(count * blocks ** 2, mask),
    };
    const captions = JSON.stringify(Array.from({ length: count }, (_, i) => `a fox ${i}`));
    writeSafetensors(at(`${name}.safetensors`), { images, ...(masks && { masks }) }, { captions });
  };
  write("none");
  write("all", () => 255);
  write("half", (i) => (i % blocks < blocks / 2 ? 255 : 0));
  const losses = async (data: string, changes: object, inProcess = true): Promise<number[]> => {
    const path = at("config.json");
    const run = at(`run ${data} ${Object.keys(changes)} ${inProcess}`);
    const fixed = { task: "unet", model: at("model"), seed: 1, steps: 2, batch_size: 4, learning_rate: 1e-3 };
    const config = { ...fixed, data: at(`${data}.safetensors`), run, logging_steps: 1, from_weights: true, ...changes };
    writeFileSync(path, JSON.stringify({ ...config, checkpointing_steps: 9, warmup_steps: 1 }));
    const weights = readFileSync(at("model", "unet", "diffusion_pytorch_model.safetensors"));
    const runtime = await startRuntime({ inProcess });
    await runTraining(runtime, readTrainingConfig(path));
    await runtime.close();
    if ("optimizer" in changes)
      expect([...readSafetensorsHeader(join(run, "checkpoint.safetensors")).tensors.keys()]).toContain(
        "muon.momentum.mid_block.resnets.0.conv1.weight",
      );
    writeFileSync(at("model", "unet", "diffusion_pytorch_model.safetensors"), weights);
    return readLog(run).map(({ loss }) => loss!);
  };
  const plain = await losses("none", {});
  expect(await losses("none", {}, false)).toEqual(plain); // there, a step's inputs are made during the step before
  expect(await losses("all", { subject_weight: 3 })).toEqual(plain.map((x) => expect.closeTo(x, 3)));
  const [half] = await losses("half", { subject_weight: 3 });
  expect(Math.abs(half! / plain[0]! - 1)).toBeGreaterThan(1e-3);
  const known = await losses("none", { caption_dropout: 0 });
  const weighed = await losses("none", { caption_dropout: 0, caption_weights: { fox: 2, wolf: 5 } });
  expect(weighed[0]).toBeCloseTo(2 * known[0]!, 4);
  const muon = await losses("none", { optimizer: "muon" });
  expect(muon[0]).toBe(plain[0]);
  expect(muon[1]).not.toBe(plain[1]);
  await expect(losses("none", { subject_weight: 2 })).rejects.toThrow(
    new RegExp(`"masks" .*needed U8 \\(${count}, ${blocks}, ${blocks}\\).*found no such tensor`),
  );
});

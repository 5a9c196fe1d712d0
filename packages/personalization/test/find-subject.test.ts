import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadModel, SubjectMaskConfig, subjectMask } from "@likeness/diffusion";
import {
  constant,
  counterRandom,
  input,
  leafName,
  type Runtime,
  size,
  startRuntime,
  Variables,
  writeSafetensors,
} from "@likeness/engine";
import { FIXTURES } from "@likeness/engine/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { findSubject } from "../src/find-subject.ts";
import type { Photo } from "../src/photo.ts";

const folder = mkdtempSync(join(tmpdir(), "find-subject-"));
let runtime: Runtime;
beforeAll(async () => {
  runtime = await startRuntime({ inProcess: true });
});
afterAll(async () => {
  await runtime.close();
  rmSync(folder, { recursive: true });
});

const side = 16; // of the model; its picture encoder reads 32 x 32, in patches of 8
const photoOf = (colour: (x: number, y: number, c: number) => number): Photo => ({
  ...{ width: side, height: side },
  pixels: Uint8Array.from({ length: side * side * 3 }, (_, i) => {
    const at = Math.floor(i / 3);
    return colour(at % side, Math.floor(at / side), i % 3);
  }),
});
const random = counterRandom(1);
const noise = photoOf(() => random.int(256));
const dot = (x: number, y: number): boolean => Math.hypot(x - side / 2, y - side / 2) < side / 4;
const plain = photoOf((x, y) => (dot(x, y) ? 200 : 90));

/** A copy of the toy model with a subject mask of the given weights, 0 where none are given. */
function modelWith(name: string, values: Readonly<Record<string, Float32Array>>) {
  const at = join(folder, name);
  cpSync(join(FIXTURES, "models", "sd1"), at, { recursive: true });
  const model = loadModel(at);
  const config = SubjectMaskConfig.parse({ hidden_size: 4 });
  const variables = new Variables();
  const tower = model.imageEncoder!;
  subjectMask(variables.weights(), config, tower, input("pixels", [1, 3, 32, 32]));
  const tensors = variables.all().map((p) => {
    const data = values[leafName(p)] ?? new Float32Array(size(p.shape));
    return [leafName(p), { dtype: "F32" as const, shape: p.shape, data }] as const;
  });
  mkdirSync(join(at, "subject_mask"));
  writeSafetensors(join(at, "subject_mask", "model.safetensors"), Object.fromEntries(tensors));
  writeFileSync(join(at, "subject_mask", "config.json"), JSON.stringify(config));
  return model;
}
/** The bias says what each pixel of a patch is, whatever is seen. */
const always = (logit: (x: number, y: number) => number) => ({
  "fc2.bias": Float32Array.from({ length: 64 }, (_, i) => logit(i % 8, Math.floor(i / 8))),
});

test("a model without a subject mask finds what stands out from a plain background, and nothing else", async () => {
  const model = loadModel(join(FIXTURES, "models", "sd1"));
  expect(model.resolution).toBe(side);
  expect(await findSubject(runtime, model, noise)).toBeUndefined();
  const found = await findSubject(runtime, model, plain);
  expect(found!.by).toBe("plain background");
  expect([...found!.mask]).toEqual(Array.from({ length: side ** 2 }, (_, i) => (dot(i % side, i >> 4) ? 255 : 0)));
});

test("on other photos the subject mask says where the subject is, at the photo's size; halves are drawn apart", async () => {
  const model = modelWith(
    "left",
    always((x) => (x < 4 ? 9 : x < 6 ? -9 : 0)),
  );
  expect((await findSubject(runtime, model, plain))!.by).toBe("plain background");
  const found = await findSubject(runtime, model, noise);
  expect(found!.by).toBe("subject mask");
  // each patch of 8 is 4 pixels of the photo: subject, subject, not, and p = 1/2
  const row = [255, 255, 0, 127];
  expect([...found!.mask]).toEqual(Array.from({ length: side ** 2 }, (_, i) => row[i % 4]!));
});

test("what covers everything or nothing is no subject", async () => {
  for (const [name, logit] of [["all", 9] as const, ["nothing", -9] as const])
    expect(
      await findSubject(
        runtime,
        modelWith(
          name,
          always(() => logit),
        ),
        noise,
      ),
    ).toBeUndefined();
});

test("the mask depends on patch, tower and pixels", async () => {
  const model = loadModel(join(FIXTURES, "models", "sd1"));
  const variables = new Variables({ seed: 3 });
  const pixels = counterRandom(2).normal(3 * 32 * 32);
  const config = SubjectMaskConfig.parse({ hidden_size: 4 });
  const logits = (data: Float32Array) =>
    subjectMask(variables.weights(), config, model.imageEncoder!, constant(data, [1, 3, 32, 32]));
  const changed = pixels.map((x, i) => (i === 5 * 32 + 20 ? x + 1 : x)); // red of a pixel in the third patch
  const outputs = { a: logits(pixels), b: logits(changed) };
  await variables.load(runtime);
  const { a, b } = (await runtime.evaluate(outputs)) as Record<"a" | "b", Float32Array>;
  const moved = Array.from({ length: 16 }, (_, patch) => {
    const [px, py] = [(patch % 4) * 8, (patch >> 2) * 8];
    const cells = Array.from({ length: 64 }, (_, i) => (py + (i >> 3)) * 32 + px + (i % 8));
    return Math.max(...cells.map((i) => Math.abs(a[i]! - b[i]!)));
  });
  expect(Math.max(...moved)).toBe(moved[2]);
  expect(Math.min(...moved)).toBeGreaterThan(0); // the tower's attention tells the others
});

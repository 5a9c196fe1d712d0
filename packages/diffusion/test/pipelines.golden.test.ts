/** Whole generations against diffusers' pipelines on toy models: from the seed to the last latents. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { LikenessError, type Runtime, startRuntime } from "@likeness/engine";
import { FIXTURES, readGolden, relativeError } from "@likeness/engine/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { firstStep, type GenerateOptions, generate, loadModel, plainDenoiser } from "../src/index.ts";

interface Case {
  readonly kind: string;
  readonly scheduler: string;
  readonly prompt: string;
  readonly negative: string;
  readonly steps: number;
  readonly guidance: number;
  readonly images: number;
  readonly strength?: number;
  readonly clip_skip?: number;
  readonly eta?: number;
  readonly rescale?: number;
  readonly stop?: number;
}

const golden = readGolden("pipelines");
const { seed, cut } = golden.metadata;
const defaults = JSON.parse(golden.metadata.defaults!) as Case;
const cases = JSON.parse(golden.metadata.cases!) as Record<string, Partial<Case>>;
const models = Object.fromEntries(["sd1", "sd2"].map((kind) => [kind, loadModel(join(FIXTURES, "models", kind))]));
/** Max abs difference relative to the output's scale: five steps in float32, guided with 7.5, on random weights. */
const BAR = 1e-4;

let runtime: Runtime;
beforeAll(async () => {
  runtime = await startRuntime({ inProcess: true });
});
afterAll(() => runtime.close());

test.each(["pipelines", "noise-schedules"])("%s: made with the schedulers' names as they stand", (name) => {
  const table = "scheduler_classes.py";
  const bytes = readFileSync(join(FIXTURES, "make", table));
  expect(readGolden(name).metadata[table]).toBe(createHash("sha256").update(bytes).digest("hex"));
});

function run(name: string, changes: Partial<GenerateOptions> = {}): ReturnType<typeof generate> {
  const c = { ...defaults, ...cases[name] };
  const model = models[c.kind]!;
  const [, , h, w] = golden.shape(name) as [number, number, number, number];
  const data = Uint8Array.from(golden.ints("picture"));
  return generate(runtime, model, plainDenoiser(runtime, model, { clipSkip: c.clip_skip }), {
    ...{ prompt: c.prompt, negativePrompt: c.negative, steps: c.steps, guidanceScale: c.guidance, seed: Number(seed) },
    ...{
      height: h * model.scaleFactor,
      width: w * model.scaleFactor,
      numImages: c.images,
      scheduler: c.scheduler,
      eta: c.eta,
      guidanceRescale: c.rescale,
      guidanceStop: c.stop,
    },
    ...(c.strength !== undefined && { initImage: { data, strength: c.strength } }),
    ...changes,
  });
}

test.each(Object.keys(cases))("%s", async (name) => {
  const { latents, latentShape } = await run(name);
  expect(latentShape).toEqual(golden.shape(name));
  expect(relativeError(latents, golden.floats(name))).toBeLessThan(BAR);
});

test.each(["text/euler-a", "image/two/dpm++-2m-sde"])("%s in batches of one: the same pictures", async (name) => {
  const events: [number, number][] = [];
  const { latents, images } = await run(name, {
    batchSize: 1,
    onStep: ({ step, steps }) => events.push([step, steps]),
  });
  expect(relativeError(latents, golden.floats(name))).toBeLessThan(BAR);
  expect(images).toHaveLength(2);
  const total = events.length - 1;
  expect(events).toEqual(Array.from({ length: total + 1 }, (_, i) => [i, total]));
});

test("three pictures in batches of two: the last batch is smaller, and each is its seed's", async () => {
  const { latents } = await run("text/ddim", { numImages: 3, batchSize: 2 });
  const two = golden.floats("text/ddim");
  expect(relativeError(latents.subarray(0, two.length), two)).toBeLessThan(BAR);
  const third = await run("text/ddim", { numImages: 1, seed: Number(seed) + 2 });
  expect(relativeError(latents.subarray(two.length), third.latents)).toBeLessThan(1e-5);
});

test("guidance that stops before the first step that is made is none", async () => {
  const { latents } = await run("unguided", { guidanceScale: 7.5, guidanceStop: 0.1 });
  expect(relativeError(latents, golden.floats("unguided"))).toBeLessThan(BAR);
  const late = await run("image/ddim", { guidanceStop: 0.4 }); // of five steps, the picture leaves out two
  const none = await run("image/ddim", { guidanceScale: 1 });
  expect(relativeError(late.latents, none.latents)).toBeLessThan(BAR);
  expect(relativeError(none.latents, golden.floats("image/ddim"))).toBeGreaterThan(0.01);
});

test("what the text encoder can't read is told, as diffusers tells it", async () => {
  const told: object[] = [];
  await run("long", { steps: 1, onCut: (event) => told.push(event) });
  expect(told).toEqual([{ prompt: cases.long!.prompt, cut, limit: 16 }]);
});

test("an eta beyond [0, 1], or for another scheduler than ddim, is refused", async () => {
  await expect(run("text/eta", { eta: 1.5 })).rejects.toThrow(
    "eta: needed a number in [0, 1], found 1.5. [E_SCHEDULER]",
  );
  await expect(run("text/euler", { eta: 0.5 })).rejects.toThrow("eta: needed 0, as only ddim takes one, found 0.5.");
});

test("a strength that leaves no step, or is none, and a clip skip beyond the encoder are refused", async () => {
  expect(firstStep(20, 0.55)).toBe(9);
  expect(() => firstStep(4, 0.2)).toThrow("strength: needed at least 1/4, so that one of 4 steps is made, found 0.2.");
  expect(() => firstStep(4, 1.5)).toThrow("strength: needed a number in [0, 1], found 1.5.");
  const refused = (clipSkip: number) => () => plainDenoiser(runtime, models.sd1!, { clipSkip });
  expect(refused(3)).toThrow("clip skip: needed a whole number from 0 to 2, the layers of the text encoder, found 3.");
  expect(refused(-1)).toThrow(LikenessError);
});

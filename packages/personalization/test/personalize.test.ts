/** From a photo to pictures of its subject, on toy models with random weights. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  attentionMatrices,
  generate,
  loadModel,
  plainDenoiser,
  resnetConvolutions,
  type StableDiffusionModel,
  tokenTable,
} from "@likeness/diffusion";
import {
  constant,
  counterRandom,
  evaluate,
  gather,
  input,
  leafName,
  type Runtime,
  reshape,
  startRuntime,
} from "@likeness/engine";
import { FIXTURES, relativeError } from "@likeness/engine/testing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Concept } from "../src/concept.ts";
import { openEncoder, type TuningEncoder } from "../src/encoder-file.ts";
import { type ConceptOptions, conceptDenoiser, generateConcept } from "../src/generate.ts";
import { EncoderConfig } from "../src/method/config.ts";
import { personalUNet } from "../src/method/personal-unet.ts";
import { type PersonalizeOptions, personalize, stepsOf } from "../src/personalize.ts";
import { latentWeights, type Photo } from "../src/photo.ts";
import type { PersonalizePlan } from "../src/plan.ts";
import { conceptVariables, loadConcept, microBatchSize, tune } from "../src/tuning.ts";
import { writeToyEncoder } from "./toy-encoder.ts";

let runtime: Runtime;
beforeAll(async () => {
  runtime = await startRuntime({ inProcess: true });
});
afterAll(() => runtime.close());

const photoFor = ({ resolution: side }: StableDiffusionModel): Photo => ({
  pixels: Uint8Array.from({ length: side * side * 3 }, (_, i) => (i * 37) % 256),
  width: side,
  height: side,
});
const base: PersonalizeOptions = {
  steps: 3,
  learningRate: 2e-3,
  batchSize: 2,
  token: "<fox-1>",
  classWord: "fox",
  seed: 5,
};
const sampling = { steps: 2, guidanceScale: 3, numImages: 1, seed: 9 };

describe.each(["sd1", "sd2"])("%s", (name) => {
  const model = loadModel(`${FIXTURES}/models/${name}`);
  const size = { width: model.resolution, height: model.resolution };
  const make = (options: Partial<PersonalizeOptions> = {}): Promise<Concept> =>
    personalize(runtime, model, photoFor(model), { ...base, ...options });

  test("where memory is short, results are computed again instead of kept, and the concept is the same", async () => {
    const plans: PersonalizePlan[] = [];
    const onPlan = (plan: PersonalizePlan): number => plans.push(plan);
    const roomy = await make({ onPlan, availableMemory: 1e12 });
    const narrow = await make({ onPlan, availableMemory: 1 });
    const [all, least] = plans as [PersonalizePlan, PersonalizePlan];
    expect(all).toMatchObject({ recompute: undefined, fits: true, seconds: undefined });
    expect(least).toMatchObject({ recompute: Number.POSITIVE_INFINITY, fits: false });
    expect(least.bytes).toBeLessThan(all.bytes);
    expect(least.flops).toBeGreaterThan(1.1 * all.flops);
    expect(relativeError(narrow.embedding, roomy.embedding)).toBeLessThan(1e-5);
    const middle = await make({ onPlan, availableMemory: all.bytes - 1 });
    expect(plans[2]!.bytes).toBeLessThan(all.bytes);
    expect(plans[2]!.fits).toBe(true);
    expect(relativeError(middle.embedding, roomy.embedding)).toBeLessThan(1e-5);
  });

  test("without an encoder: from the class word, with offsets of zero at first", async () => {
    const start = await make({ steps: 0, rank: 2 });
    const fox = model.tokenizer.tokenize("fox").at(-1)!;
    const { weights, config } = model.textEncoder;
    const { row } = await evaluate({ row: gather(tokenTable(weights, config), constant(Int32Array.of(fox))) });
    expect(start).toMatchObject({
      hardToken: "fox",
      hardTokenId: fox,
      rank: 2,
      loraAlpha: 2,
      alphaBlend: 0.25,
      base: model.fingerprint,
    }); // prettier-ignore
    expect(start.embedding).toEqual(row);
    attentionMatrices(model.unet.config).forEach(({ dIn, dOut }, i) => {
      const { a, b } = start.factors[i]!;
      expect(a).toHaveLength(dIn * 2);
      expect(a.every((x) => x !== 0)).toBe(true);
      expect(b).toEqual(new Float32Array(2 * dOut));
    });
  });

  test("tuning moves word and offsets, at most by the learning rate a step; same seed, same concept", async () => {
    const losses: number[] = [];
    const start = await make({ steps: 0 });
    const tuned = await make({ onStep: ({ loss }) => losses.push(loss) });
    expect(losses).toHaveLength(3);
    expect(losses.every(Number.isFinite)).toBe(true);
    const moved = (x: Float32Array, y: Float32Array): number => Math.max(...x.map((v, i) => Math.abs(v - y[i]!)));
    for (const [x, y] of [
      [tuned.embedding, start.embedding],
      ...tuned.factors.map(({ b }, i) => [b, start.factors[i]!.b] as const),
    ] as const) {
      expect(moved(x, y)).toBeGreaterThan(1e-3);
      expect(moved(x, y)).toBeLessThan(3.1 * 2e-3);
    }
    expect(await make()).toEqual(tuned);
    expect((await make({ seed: 6 })).embedding).not.toEqual(tuned.embedding);
  });

  test("a batch in parts tunes as the whole does, for any size of the parts", async () => {
    const told = async (microBatchSize: number | undefined): Promise<[Concept, number[]]> => {
      const losses: number[] = [];
      const onStep = ({ loss, diffusion }: { loss: number; diffusion: number }) => losses.push(loss, diffusion);
      return [await make({ batchSize: 6, microBatchSize, onStep }), losses];
    };
    const [whole, losses] = await told(undefined);
    for (const size of [1, 2, 4]) {
      const [parted, partLosses] = await told(size); // 4 doesn't divide 6: parts of 3
      expect(relativeError(Float32Array.from(partLosses), Float32Array.from(losses)), `${size}`).toBeLessThan(1e-5);
      // AdamW's first steps are as long for a gradient near zero as for any other, and there rounding decides the sign
      const moved = (c: Concept): Float32Array =>
        Float32Array.from([...c.embedding, ...c.factors.flatMap(({ a, b }) => [...a, ...b])]);
      expect(relativeError(moved(parted), moved(whole)), `${size}`).toBeLessThan(1e-3);
    }
    expect(microBatchSize({ batchSize: 6, microBatchSize: 4 }, 64)).toBe(3);
    expect(microBatchSize({ batchSize: 16 }, 64 * 64)).toBe(1);
    expect(microBatchSize({ batchSize: 16 }, 16 * 16)).toBe(16);
    expect(microBatchSize({ batchSize: 6 }, 96 * 96)).toBe(1);
  });

  test("more steps fit the photo better", async () => {
    const losses: number[] = [];
    const onStep = ({ diffusion }: { diffusion: number }): number => losses.push(diffusion);
    await make({ steps: 60, learningRate: 2e-2, alphaBlend: 1, batchSize: 8, onStep });
    const mean = (xs: number[]): number => xs.reduce((a, b) => a + b) / xs.length;
    expect(mean(losses.slice(-10))).toBeLessThan(0.8 * mean(losses.slice(0, 10)));
  });

  test("a prompt without the token is refused, as is one that has it too late", async () => {
    const concept = await make({ steps: 0 });
    const ask = (prompt: string): Promise<unknown> =>
      generateConcept(runtime, model, concept, { ...sampling, ...size, prompt });
    await expect(ask("a photo of a fox")).rejects.toThrow(/prompt: needed the concept's token <fox-1>.*E_PROMPT/);
    await expect(ask(`${"photo ".repeat(20)}<fox-1>`)).rejects.toThrow(/<fox-1> among the 16 tokens.*E_PROMPT/);
  });

  test("an untuned concept makes the word's picture, and alpha 0 does whatever the concept", async () => {
    const plain = await generate(runtime, model, plainDenoiser(runtime, model), {
      ...sampling,
      ...size,
      prompt: "a photo of fox in snow",
    }); // prettier-ignore
    const ask = { ...sampling, ...size, prompt: "a photo of <fox-1> in snow" };
    const untuned = await generateConcept(runtime, model, await make({ steps: 0 }), ask);
    expect(relativeError(untuned.latents, plain.latents)).toBeLessThan(1e-5);
    const concept = await make({ learningRate: 0.1 });
    const hard = await generateConcept(runtime, model, concept, { ...ask, alphaBlend: 0 });
    expect(relativeError(hard.latents, plain.latents)).toBeLessThan(1e-5);
    const own = await generateConcept(runtime, model, concept, ask);
    expect(relativeError(own.latents, plain.latents)).toBeGreaterThan(1e-3);
    expect(await generateConcept(runtime, model, concept, ask)).toEqual(own);
  });

  test.each([0.25, 1])("with alpha %s, guidance_alpha is for the unconditional half alone", async (alphaBlend) => {
    const concept = await make({ learningRate: 0.1, alphaBlend });
    const { in_channels: c } = model.unet.config;
    const z = counterRandom(3).normal(c * 64);
    const run = async (options: ConceptOptions, prompts: readonly string[]): Promise<Float32Array> => {
      const denoiser = conceptDenoiser(runtime, model, concept, options);
      const n = prompts.length;
      const output = denoiser.build(input("sample", [n, c, 8, 8]), input("timestep", [n]));
      const sample = new Float32Array(n * z.length);
      for (let i = 0; i < n; i++) sample.set(z, i * z.length);
      const feeds = { sample, timestep: new Float32Array(n).fill(400), ...(await denoiser.condition(prompts)) };
      return (await runtime.evaluate({ output }, feeds)).output as Float32Array;
    };
    const prompt = "a photo of <fox-1> in snow";
    const plain = await run({ alphaBlend: 0 }, [""]);
    const half = await run({ alphaBlend: alphaBlend / 2 }, [""]);
    const [all, own] = [await run({}, [""]), await run({}, [prompt])];
    expect(relativeError(all, plain)).toBeGreaterThan(1e-3);
    for (const [guidanceAlpha, unconditional] of [
      [0, plain],
      [0.5, half],
      [1, all],
    ] as const) {
      const y = await run({ guidanceAlpha }, ["", prompt]);
      expect(relativeError(y.subarray(0, z.length), unconditional)).toBeLessThan(1e-5);
      expect(relativeError(y.subarray(z.length), own)).toBeLessThan(1e-5);
      expect(relativeError(await run({ guidanceAlpha }, [prompt]), own)).toBeLessThan(1e-5); // where guidance has stopped
    }
  });

  test("concepts swap without recompiling", async () => {
    const [one, two] = [await make({ steps: 1 }), await make({ steps: 1, seed: 6, learningRate: 0.1 })];
    const { v, factors, all } = conceptVariables(model, one.rank);
    const { in_channels: c, cross_attention_dim: d } = model.unet.config;
    const context = input("context", [1, 6, d]);
    const y = personalUNet(model, {
      ...{
        sample: input("sample", [1, c, 8, 8]),
        timestep: constant([250]),
        hardContext: context,
        factors,
        scale: 1,
        alpha: 0.5,
      }, // prettier-ignore
      softContext: reshape(v, [1, 1, d]),
    });
    const program = await runtime.compile({ outputs: { y } });
    const feeds = { sample: new Float32Array(c * 64).fill(0.3), context: new Float32Array(6 * d).fill(0.1) };
    const run = async (concept: Concept): Promise<Float32Array> => {
      await loadConcept(runtime, all, concept);
      return (await program.run(feeds)).y as Float32Array;
    };
    const [first, other, again] = [await run(one), await run(two), await run(one)];
    await program.release();
    expect(again).toEqual(first);
    expect(relativeError(other, first)).toBeGreaterThan(1e-3);
    expect(all.map(leafName)).toContain("concept.v");
  });
});

test("with a mask, what lies beside the subject hardly matters to the tuning", async () => {
  const model = loadModel(`${FIXTURES}/models/sd1`);
  const photo = photoFor(model);
  const side = photo.width;
  const covers = (left: number): Uint8Array =>
    Uint8Array.from({ length: side * side }, (_, i) => (i % side < left ? 255 : 0));
  const repainted = photo.pixels.map((x, i) => (Math.floor(i / 3) % side < side / 2 ? x : 255 - x));
  const tuned = async (pixels: Uint8Array, mask?: Uint8Array, cutOuts?: number): Promise<Float32Array> =>
    (await personalize(runtime, model, { ...photo, pixels, mask }, { ...base, cutOuts })).factors[0]!.b;
  const all = await tuned(photo.pixels);
  expect(relativeError(await tuned(photo.pixels, covers(side)), all)).toBeLessThan(1e-5);
  const moved = relativeError(await tuned(repainted), all);
  const half = await tuned(photo.pixels, covers(side / 2), 0);
  expect(relativeError(half, all)).toBeGreaterThan(1e-3);
  expect(relativeError(await tuned(repainted, covers(side / 2), 0), half)).toBeLessThan(moved);
  // the cut-outs have nothing of the photo's background at all
  const four = await tuned(photo.pixels, covers(side / 2), 4);
  expect(relativeError(four, half)).toBeGreaterThan(1e-3);
  expect(await tuned(photo.pixels, covers(side / 2), 4)).toEqual(four);
  await expect(tuned(photo.pixels, covers(0))).rejects.toThrow(/mask: needed some subject .* found none.*E_IMAGE/);
  await expect(tuned(photo.pixels, new Uint8Array(9))).rejects.toThrow(/mask: needed 16 x 16 pixels, as the photo/);
});

test("the weights of a mask are a tenth beside the subject, and 1 on average", () => {
  const mask = Uint8Array.from({ length: 16 }, (_, i) => (i % 4 < 2 ? 255 : 0)); // 4x4, the left half covered
  const weights = latentWeights({ pixels: new Uint8Array(48), width: 4, height: 4, mask }, 2)!;
  expect([...weights]).toEqual([1, 0.1, 1, 0.1].map((x) => expect.closeTo(x / 0.55, 5)));
  expect(latentWeights({ pixels: new Uint8Array(48), width: 4, height: 4 }, 2)).toBeUndefined();
});

test("a runtime that keeps programs teaches one subject after another as a fresh one does", async () => {
  const model = loadModel(`${FIXTURES}/models/sd1`);
  const photo = photoFor(model);
  const other = { ...photo, pixels: photo.pixels.map((x) => 255 - x) };
  const ask = { ...base, alphaBlend: 0.5 };
  const kept = await startRuntime({ inProcess: true, keepPrograms: 4 });
  await personalize(kept, model, photo, ask);
  const second = await personalize(kept, model, other, { ...ask, classWord: "dog" });
  expect(second).toEqual(await personalize(runtime, model, other, { ...ask, classWord: "dog" }));
  await kept.close();
});

test("Muon's first step turns all of an offset's rows as far, AdamW's moves the embedding at its own rate", async () => {
  const model = loadModel(`${FIXTURES}/models/sd1`);
  const start = await personalize(runtime, model, photoFor(model), { ...base, steps: 0, rank: 2 });
  const side = model.resolution / model.scaleFactor;
  const latents = counterRandom(1, "latents").normal(model.unet.config.in_channels * side * side);
  const rates = { learningRate: 0.05, embeddingLearningRate: 0.01, optimizer: "muon" } as const;
  const { hardTokenId, rank, loraAlpha } = start;
  const tuned = await tune(runtime, model, [{ latents, templates: ["a photo of a <S*>"] }], start, {
    ...{ ...rates, hardTokenId, rank, loraAlpha, alphaBlend: 0.5, steps: 1, batchSize: 2, seed: 1 },
  });
  const moved = tuned.embedding.map((x, i) => Math.abs(x - start.embedding[i]!));
  expect(Math.max(...moved)).toBeCloseTo(0.01, 4);
  for (const [i, { a, b }] of tuned.factors.entries()) {
    expect(a).toEqual(start.factors[i]!.a); // its gradient is zero while B is
    const d = b.length / 2;
    const unit = 0.05 * 0.2 * Math.sqrt(d);
    const dot = (p: number, q: number): number =>
      Array.from({ length: d }, (_, k) => b[p * d + k]! * b[q * d + k]!).reduce((x, y) => x + y) / unit ** 2;
    for (const p of [0, 1]) expect(Math.sqrt(dot(p, p))).toSatisfy((x: number) => x > 0.6 && x < 1.3);
    expect(Math.abs(dot(0, 1))).toBeLessThan(0.4);
  }
});

test("a rank above the encoder's changes nothing before the steps, which then have room beside what it predicts; one below is refused", async () => {
  const folder = mkdtempSync(join(tmpdir(), "personalize-"));
  const model = loadModel(`${FIXTURES}/models/sd1`);
  writeToyEncoder(folder, model);
  const encoder = openEncoder(folder, model);
  const make = (options: Partial<PersonalizeOptions>): Promise<Concept> =>
    personalize(runtime, model, photoFor(model), { ...base, encoder, ...options });
  const product = ({ factors, rank, loraAlpha }: Concept, i: number): Float32Array => {
    const { a, b } = factors[i]!;
    const [rows, columns] = [a.length / rank, b.length / rank];
    const entry = (r: number, c: number): number => {
      let sum = 0;
      for (let k = 0; k < rank; k++) sum += a[r * rank + k]! * b[k * columns + c]!;
      return (loraAlpha / rank) * sum;
    };
    return Float32Array.from({ length: rows * columns }, (_, at) => entry(Math.floor(at / columns), at % columns));
  };
  const [own, wide] = [await make({ steps: 0 }), await make({ steps: 0, rank: 5 })];
  expect([own.rank, own.loraAlpha, wide.rank, wide.loraAlpha]).toEqual([2, 2, 5, 5]);
  for (const [i, { dIn, dOut }] of attentionMatrices(model.unet.config).entries()) {
    const { a, b } = wide.factors[i]!;
    expect([a.length, b.length]).toEqual([5 * dIn, 5 * dOut]);
    expect(a.every((x) => x !== 0)).toBe(true); // where all of A or B is zero, the steps would never move the other
    expect(b.subarray(2 * dOut).every((x) => x === 0)).toBe(true);
    expect(relativeError(product(wide, i), product(own, i))).toBeLessThan(1e-6);
  }
  const tuned = await make({ rank: 5 });
  for (const [i, { dOut }] of attentionMatrices(model.unet.config).entries())
    expect(tuned.factors[i]!.b.subarray(2 * dOut).some((x) => x !== 0)).toBe(true);
  const stages: string[] = [];
  const less = make({ rank: 1, onStage: (stage) => stages.push(stage) });
  await expect(less).rejects.toThrow(/^rank: needed at least 2, the tuning-encoder's, found 1\./);
  expect(stages).toEqual([]);
  rmSync(folder, { recursive: true });
});

test("offsets of convolutions begin at zero, learn, and are drawn with", async () => {
  const model = loadModel(`${FIXTURES}/models/sd1`);
  const size = { width: model.resolution, height: model.resolution };
  const make = (options: Partial<PersonalizeOptions>): Promise<Concept> =>
    personalize(runtime, model, photoFor(model), { ...base, ...options });
  const [plain, none] = [await make({}), await make({ convRank: 0 })];
  expect(none).toEqual(plain);
  expect(plain.convolutions).toBeUndefined();
  expect((await make({ steps: 0, convRank: 2 })).convolutions).toBeUndefined();

  const tuned = await make({ convRank: 2 });
  expect(tuned.settings).toMatchObject({ conv_rank: 2 });
  expect(tuned.convolutions).toMatchObject({ rank: 2, loraAlpha: 2 });
  for (const [i, { shape }] of resnetConvolutions(model).entries()) {
    const { a, b } = tuned.convolutions!.factors[i]!;
    expect([a.length, b.length]).toEqual([2 * shape[1]! * 9, 2 * shape[0]!]);
    const most = Math.max(...b.map(Math.abs));
    expect(most).toBeGreaterThan(1e-3);
    expect(most).toBeLessThan(3.1 * 2e-3); // AdamW: a rate a step
  }
  expect(relativeError(tuned.embedding, plain.embedding)).toBeGreaterThan(1e-4); // it learns beside them

  const draw = async (concept: Concept) =>
    (await generateConcept(runtime, model, concept, { prompt: "a <fox-1>", ...size, ...sampling })).images[0]!;
  const off = { ...tuned, convolutions: undefined };
  expect(await draw(tuned)).not.toEqual(await draw(off));
});

test("with a mask, the encoder's config says whether convolutions learn; an own rate or rank says otherwise", () => {
  const masked_tuning = {
    optimizer: "muon",
    learning_rate: 0.04,
    embedding_learning_rate: 0.01,
    conv_rank: 4,
  } as const;
  const config = EncoderConfig.parse({ masked_tuning });
  const encoder = { config } as TuningEncoder;
  const asked = { steps: 12, encoder } as const;
  expect(stepsOf(true, asked)).toMatchObject({ learningRate: 0.04, convRank: 4 });
  expect(stepsOf(true, { ...asked, convRank: 8 })).toMatchObject({ convRank: 8 });
  for (const [masked, other] of [
    [true, { convRank: 0 }],
    [true, { steps: 0 }],
    [true, { learningRate: 1e-3 }],
    [false, {}],
  ] as const)
    expect(stepsOf(masked, { ...asked, ...other })).not.toHaveProperty("convRank");
  expect(stepsOf(false, { ...asked, convRank: 2 })).toMatchObject({ convRank: 2 });
});

test("a photo of another size is refused", async () => {
  const model = loadModel(`${FIXTURES}/models/sd1`);
  const photo = { pixels: new Uint8Array(3 * 64), width: 8, height: 8 };
  await expect(personalize(runtime, model, photo, base)).rejects.toThrow(
    /photo: needed 16 x 16 pixels for sd1, found 8 x 8/,
  );
});

test("a token that is a word of the model already is refused before anything is computed", async () => {
  const model = loadModel(`${FIXTURES}/models/sd1`);
  const stages: string[] = [];
  const options = { ...base, token: "fox", onStage: (stage: string) => stages.push(stage) };
  await expect(personalize(runtime, model, photoFor(model), options)).rejects.toThrow(/"fox": this is a token already/);
  expect(stages).toEqual([]);
});

test("aborting ends the tuning within a second", async () => {
  const model = loadModel(`${FIXTURES}/models/sd1`);
  const child = await startRuntime({});
  const controller = new AbortController();
  let at = 0;
  const started = personalize(child, model, photoFor(model), {
    ...{ ...base, steps: 10_000, signal: controller.signal },
    onStep: ({ step }) => {
      if (step !== 3) return;
      at = performance.now();
      controller.abort();
    },
  });
  await expect(started).rejects.toThrow(/abort/i);
  expect(performance.now() - at).toBeLessThan(1000);
  await child.close();
});

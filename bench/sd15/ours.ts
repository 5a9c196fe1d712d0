/**
 * Our side of the bench: a few steps of one kind in a process of its own, through the product's own functions.
 *
 *     node --import tsx bench/sd15/ours.ts plain|dual|generate|concepts|peak [--model DIR] [--size 512] [--steps 3] [--rank 4] [--batch-size 1] [--concepts 100] [--recompute N] [--device cpu] [--int8] [--widen-weights]
 *
 * One JSON line on stdout: when this process began (`began`, Unix time), when each step ended (`ends`; `ready` before the
 * first one where that is known), FLOPs of one step by family, nodes of its graph, and the losses.
 */
import { parseArgs } from "node:util";
import {
  attentionMatrices,
  generate,
  loadModel,
  plainDenoiser,
  prepareInt8,
  type StableDiffusionModel,
} from "../../packages/diffusion/src/index.ts";
import {
  counterRandom,
  type Device,
  matmul,
  type Program,
  type Runtime,
  slice,
  startRuntime,
  variable,
} from "../../packages/engine/src/index.ts";
import {
  type ConceptState,
  generateConcept,
  OBJECT_TEMPLATES,
  RECIPES,
  tune,
} from "../../packages/personalization/src/index.ts";
import { flopsOf } from "./flops.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    model: { type: "string", default: "data/sd-parity/sd15" },
    size: { type: "string", default: "512" },
    steps: { type: "string", default: "3" },
    int8: { type: "boolean", default: false },
    "widen-weights": { type: "boolean", default: false },
    rank: { type: "string", default: "4" },
    "batch-size": { type: "string", default: "1" },
    concepts: { type: "string", default: "100" },
    recompute: { type: "string" },
    device: { type: "string", default: "cpu" },
  },
});
const KINDS = { plain: tuning, dual: tuning, generate: generation, concepts, peak };
const kind = positionals[0] as keyof typeof KINDS;
const [size, steps, rank] = [values.size, values.steps, values.rank].map(Number) as [number, number, number];
const device = values.device as Device;
const now = (): number => (performance.timeOrigin + performance.now()) / 1000;

interface Report {
  readonly ends: number[];
  ready?: number;
  losses?: number[];
  flops?: Record<string, number>;
  nodes?: number;
}

/** The runtime, with FLOPs and nodes of the first program that it compiles, the UNet's, written into the report. */
function counted(runtime: Runtime, report: Report): Runtime {
  const compile = async (spec: Parameters<Runtime["compile"]>[0]): Promise<Program> => {
    const program = await runtime.compile(spec);
    report.flops ??= flopsOf([...Object.values(spec.outputs), ...(spec.updates ?? []).map(([, value]) => value)]);
    report.nodes ??= program.nodeCount;
    return program;
  };
  return { ...runtime, compile };
}

/**
 * "plain": what the LoRA baseline does, one path and no anchors. "dual": the method's step. Noise, time and prompt are drawn
 * for each.
 */
async function tuning(): Promise<Report> {
  const report: Report = { ends: [], losses: [] };
  const runtime = await startRuntime({ device });
  const model = await openModel();
  const side = size / model.scaleFactor;
  const latents = counterRandom(15, "bench/sd15 latents").normal(model.unet.config.in_channels * side * side);
  const batchSize = Number(values["batch-size"]);
  const recipe = kind === "plain" ? { ...RECIPES.lora, weightDecay: 0 } : RECIPES.date;
  await tune(counted(runtime, report), model, [{ latents, templates: OBJECT_TEMPLATES }], someConcept(model), {
    ...{ alphaBlend: 0.25, ...recipe, batchSize, microBatchSize: batchSize, steps, rank, loraAlpha: rank },
    recompute: values.recompute === undefined ? undefined : Number(values.recompute),
    hardTokenId: model.tokenizer.tokenize("dog")[0]!,
    seed: 1,
    onStep: ({ loss }) => {
      report.ends.push(now());
      report.losses!.push(loss);
    },
  });
  await runtime.close();
  return report;
}

/** Steps of a picture with guidance, as `likeness generate` makes them; the picture itself isn't waited for. */
async function generation(): Promise<Report> {
  const report: Report = { ends: [] };
  const runtime = counted(await startRuntime({ device, widenWeights: values["widen-weights"] }), report);
  const model = await openModel();
  const stop = new AbortController();
  await generate(runtime, model, plainDenoiser(runtime, model), {
    prompt: "a photo of a red fox in the snow",
    ...{ steps, guidanceScale: 7.5, width: size, height: size, numImages: 1, seed: 42, scheduler: "ddim" },
    signal: stop.signal,
    onStep: ({ step }) => {
      if (step === 0) report.ready = now();
      else report.ends.push(now());
      if (step === steps) stop.abort();
    },
  }).catch((error) => {
    if (!stop.signal.aborted) throw error;
  });
  await runtime.close();
  return report;
}

/** With --int8 the copies are made before anything is timed, as they are once for all. */
async function openModel(): Promise<StableDiffusionModel> {
  const model = loadModel(values.model, { int8: values.int8 });
  if (values.int8) await prepareInt8(model);
  return model;
}

/** A concept as it is before tuning: factors B of zero. */
function someConcept(model: StableDiffusionModel, random = counterRandom(15, "bench/sd15")): ConceptState {
  return {
    embedding: random.normal(model.textEncoder.config.hidden_size).map((x) => 0.02 * x),
    factors: attentionMatrices(model.unet.config).map(({ dIn, dOut }) => ({
      a: random.normal(dIn * rank).map((x) => x / Math.sqrt(dIn)),
      b: new Float32Array(rank * dOut),
    })),
  };
}

/** Concepts in turn on one loaded model, each for one picture of `steps` steps without guidance; all are in memory. */
async function concepts(): Promise<Report> {
  const report: Report = { ends: [] };
  const runtime = counted(await startRuntime({ device, keepPrograms: 8 }), report);
  const model = await openModel();
  const id = model.tokenizer.tokenize("dog")[0]!;
  const fixed = {
    token: "<S*>",
    rank,
    loraAlpha: rank,
    hardTokenId: id,
    hardToken: "dog",
    alphaBlend: 0.25,
    settings: {},
  };
  const base = { base: model.fingerprint, baseName: model.name };
  const all = Array.from({ length: Number(values.concepts) }, (_, i) => ({
    ...someConcept(model, counterRandom(i, "bench/sd15 concept")),
    ...fixed,
    ...base,
  }));
  const ask = { prompt: "a photo of a <S*>", guidanceScale: 1, width: size, height: size, numImages: 1, seed: 1 };
  report.ready = now();
  for (const concept of all) {
    await generateConcept(runtime, model, concept, { ...ask, steps });
    report.ends.push(now());
  }
  await runtime.close();
  return report;
}

/** Products of 2048-wide matrices, each as long as the next step is short: the machine's peak. */
async function peak(): Promise<Report> {
  const n = 2048;
  const many = 4;
  const runtime = await startRuntime({ device });
  const random = counterRandom(1, "peak");
  const names = Array.from({ length: 2 * many }, (_, i) => `m${i}`);
  for (const name of names) await runtime.write({ [name]: random.normal(n * n) }, { [name]: [n, n] });
  const leaf = (i: number) => variable(names[i]!, [n, n]);
  const outputs = Object.fromEntries(
    Array.from({ length: many }, (_, i) => [
      `y${i}`,
      slice(matmul(leaf(2 * i), leaf(2 * i + 1)), [0, 0], [1, 1], [0, 1]),
    ]),
  );
  const program = await runtime.compile({ outputs });
  const report: Report = { ends: [now()], flops: flopsOf(Object.values(outputs)) };
  for (let i = 0; i < steps; i++) {
    await program.run();
    report.ends.push(now());
  }
  await runtime.close();
  return report;
}

const report = await KINDS[kind]();
console.log(JSON.stringify({ began: performance.timeOrigin / 1000, ...report }));

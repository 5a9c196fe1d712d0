/**
 * How far products in 8 bits are from whole ones: the UNet's prediction, and the gradients of the method's tuning loss.
 *
 *     node --import tsx bench/int8.ts [--model DIR] [--size PIXELS] [--draws 2]
 *
 * One JSON line: root of the mean squared difference over that of the values, and the cosine, of each; medians over the draws.
 * A concept is random, of rank 4, its offsets a hundredth of what they change.
 */
import { parseArgs } from "node:util";
import {
  attentionMatrices,
  loadModel,
  noised,
  noiseLevels,
  prepareInt8,
  type StableDiffusionModel,
} from "../packages/diffusion/src/index.ts";
import { counterRandom, grad, input, startRuntime, type Tensor } from "../packages/engine/src/index.ts";
import { OBJECT_TEMPLATES, PLACEHOLDER, placeholderFeeds } from "../packages/personalization/src/prompts.ts";
import { conceptVariables, loadConcept, tuningLoss } from "../packages/personalization/src/tuning.ts";

const { values } = parseArgs({
  options: {
    model: { type: "string", default: "models/pocket" },
    size: { type: "string" },
    draws: { type: "string", default: "3" },
  },
});
const RANK = 4;
const draws = Number(values.draws);

/** Loss and gradients at each draw. */
async function gradients(model: StableDiffusionModel): Promise<Record<string, Float32Array>[]> {
  const side = Number(values.size ?? model.resolution) / model.scaleFactor;
  const shape = [1, model.unet.config.in_channels, side, side];
  const { all, v, factors } = conceptVariables(model, RANK);
  const [t, signal, sigma] = ["t", "signal", "sigma"].map((n) => input(n, [1])) as [Tensor, Tensor, Tensor];
  const prediction = model.scheduler("ddim").config.prediction_type === "epsilon" ? "epsilon" : "v_prediction";
  const { sample, target } = noised(input("z", shape), input("noise", shape), signal, sigma, prediction);
  const length = model.tokenizer.modelMaxLength;
  const hardTokenId = model.tokenizer.tokenize("dog")[0]!;
  const { loss } = tuningLoss(
    model,
    { v, factors, v0: v, factors0: factors },
    { ids: input("ids", [1, length], "int32"), mask: input("mask", [1, length]), sample, target, timestep: t },
    { alphaBlend: 0.5, rank: RANK, loraAlpha: RANK, hardTokenId, embeddingAnchor: 0, offsetAnchor: 0 },
  );
  const grads = grad(loss, all);
  const runtime = await startRuntime({});
  const random = counterRandom(1, "bench/int8 concept");
  await loadConcept(runtime, all, {
    embedding: random.normal(v.shape[0]!).map((x) => 0.02 * x),
    factors: attentionMatrices(model.unet.config).map(({ dIn, dOut }) => ({
      a: random.normal(dIn * RANK).map((x) => x / Math.sqrt(dIn)),
      b: random.normal(dOut * RANK).map((x) => 0.01 * x),
    })),
  });
  const program = await runtime.compile({
    outputs: { loss, ...Object.fromEntries(grads.map((g, i) => [`g${i}`, g])) },
  });
  const found = [];
  for (let i = 0; i < draws; i++) {
    const noise = counterRandom(i, "bench/int8 draw");
    const size = shape.reduce((a, b) => a * b, 1);
    const time = Math.floor(((i + 0.5) / draws) * 1000);
    const { weight: _, ...levels } = noiseLevels([time], model.scheduler("ddim").alphasCumprod, null, prediction);
    const text = placeholderFeeds(model.tokenizer, [OBJECT_TEMPLATES[i]!], PLACEHOLDER, hardTokenId);
    const all = await program.run({ ...levels, ...text, z: noise.normal(size), noise: noise.normal(size) });
    const list = (keep: (i: number) => boolean): Float32Array =>
      Float32Array.from(grads.flatMap((_, k) => (keep(k) ? [...(all[`g${k}`] as Float32Array)] : [])));
    found.push({
      loss: all.loss as Float32Array,
      embedding: list((k) => k === 0),
      a: list((k) => k > 0 && k % 2 === 1),
      b: list((k) => k > 0 && k % 2 === 0),
    });
  }
  await runtime.close();
  return found;
}

const dot = (a: Float32Array, b: Float32Array): number => a.reduce((s, x, i) => s + x * b[i]!, 0);
const median = (list: number[]): number => list.sort((a, b) => a - b)[list.length >> 1]!;

const whole = await gradients(loadModel(values.model));
const model = loadModel(values.model, { int8: true });
await prepareInt8(model);
const short = await gradients(model);
const report = Object.fromEntries(
  Object.keys(whole[0]!).map((key) => {
    const pairs = whole.map((w, i) => [w[key]!, short[i]![key]!] as const);
    const error = pairs.map(([w, s]) =>
      Math.sqrt(
        dot(
          w.map((x, i) => s[i]! - x),
          w.map((x, i) => s[i]! - x),
        ) / dot(w, w),
      ),
    );
    const cosine = pairs.map(([w, s]) => dot(w, s) / Math.sqrt(dot(w, w) * dot(s, s)));
    return [key, { error: median(error), cosine: median(cosine) }];
  }),
);
console.log(JSON.stringify({ model: values.model, size: values.size, draws, ...report }));

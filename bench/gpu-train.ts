/**
 * Training speed of the pocket model's UNet on a device: scenes a second by batch size, on random latents.
 *
 *     node --import tsx bench/gpu-train.ts [--device webgpu] [--batch-sizes 1,2] [--steps 2] [--model models/pocket] [--optimizer adamw]
 *
 * One JSON line a batch size on stdout: `first_ms` is the first step (it compiles shaders), `step_ms` the median of the
 * others, `feeds_ms` the median of what JavaScript takes to draw a step's batch (part of step_ms).
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type DenoiserParts, denoiserTask, loadModel, type PictureFile } from "../packages/diffusion/src/index.ts";
import {
  counterRandom,
  type Device,
  grad,
  leafName,
  muon,
  openWeights,
  resetState,
  startRuntime,
} from "../packages/engine/src/index.ts";

const { values } = parseArgs({
  options: {
    device: { type: "string", default: "cpu" },
    "batch-sizes": { type: "string", default: "1,2" },
    steps: { type: "string", default: "2" },
    model: { type: "string", default: "models/pocket" },
    optimizer: { type: "string", default: "muon" },
  },
});
const COUNT = 64;
const median = (list: readonly number[]): number => [...list].sort((a, b) => a - b)[list.length >> 1]!;

const model = loadModel(values.model);
const { unet, textEncoder, tokenizer } = model;
const { prediction_type: predictionType } = JSON.parse(
  readFileSync(join(values.model, "scheduler", "scheduler_config.json"), "utf8"),
) as { prediction_type: DenoiserParts["predictionType"] };
const parts: DenoiserParts = {
  unet: unet.config,
  text: textEncoder.config,
  textWeights: openWeights([join(values.model, "text_encoder", "model.safetensors")]).weights(),
  tokenizer,
  predictionType,
  alphasCumprod: model.scheduler().alphasCumprod,
};
const captions = Array.from({ length: COUNT }, (_, i) => `a photo of a fox on the beach ${i}`);
const data = { count: COUNT, list: () => captions } as unknown as PictureFile; // all that the task asks of its data
const side = model.resolution / model.scaleFactor;
const latents = counterRandom(1, "latents").normal(COUNT * unet.config.in_channels * side * side);

for (const batchSize of values["batch-sizes"].split(",").map(Number)) {
  const runtime = await startRuntime({ device: values.device as Device });
  const options = {
    batchSize,
    seed: 1,
    captionDropout: 0.1,
    snrGamma: 5,
    timestepSpread: 0.7,
    subjectWeight: 1,
    captionWeights: {},
  };
  const task = denoiserTask(parts, data, latents, options, () => undefined);
  const params = task.variables.all();
  const optimizer = muon(params, grad(task.scalars.loss, params), {
    matrices: (_name, shape) => values.optimizer === "muon" && shape.length > 1,
    maxGradNorm: 1,
    emaDecay: 0.999,
  });
  await task.variables.load(runtime);
  await resetState(runtime, optimizer);
  for (const p of params) {
    const name = leafName(p);
    await runtime.write({ [`ema.${name}`]: (await runtime.read([name]))[name]! }, { [`ema.${name}`]: p.shape });
  }
  const compiling = performance.now();
  const program = await runtime.compile({ outputs: { loss: task.scalars.loss }, updates: optimizer.updates });
  const compile = performance.now() - compiling;
  const [all, drawing]: number[][] = [[], []];
  let loss = 0;
  for (let step = 1; step <= Number(values.steps) + 1; step++) {
    const since = performance.now();
    const feeds = { ...(await task.feeds(step)), ...optimizer.feeds(step, 1e-3) };
    drawing!.push(performance.now() - since);
    loss = (await program.run(feeds)).loss![0]!;
    all!.push(performance.now() - since);
  }
  const [first, ...rest] = all!;
  const ms = median(rest);
  const rounded = (n: number): number => Number(n.toPrecision(4));
  console.log(
    JSON.stringify({
      device: values.device,
      batch_size: batchSize,
      samples_per_second: rounded((batchSize * 1000) / ms),
      step_ms: rounded(ms),
      feeds_ms: rounded(median(drawing!)),
      first_ms: rounded(first!),
      compile_ms: rounded(compile),
      nodes: program.nodeCount,
      loss: rounded(loss),
    }),
  );
  await program.release();
  await runtime.close();
}

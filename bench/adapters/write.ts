/**
 * Writes a concept with random values in every export format, and what this repository computes with those files and
 * with other LoRA files; check.py compares that with diffusers, PEFT and cloneofsimo/lora.
 *
 *     node --import tsx bench/adapters/write.ts MODEL OUT [LORA...]
 */
import { mkdirSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import { parseArgs } from "node:util";
import {
  attentionMatrices,
  loadModel,
  plainDenoiser,
  readEmbedding,
  readLora,
  type StableDiffusionModel,
  withAdapters,
} from "../../packages/diffusion/src/index.ts";
import { counterRandom, input, type Runtime, startRuntime, writeSafetensors } from "../../packages/engine/src/index.ts";
import {
  type Concept,
  EXPORT_FORMATS,
  exportConcept,
  flatten,
  flatteningError,
} from "../../packages/personalization/src/index.ts";

const SIDE = 32; // latents
const RANK = 4;
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { strength: { type: "string", default: "0.3" } },
});
const [folder, out, ...loras] = positionals as [string, string, ...string[]];
const strength = Number(values.strength);

const shape = (model: StableDiffusionModel): number[] => [1, model.unet.config.in_channels, SIDE, SIDE];

/** UNet output on the text states of a prompt; both go into a file. */
async function record(
  runtime: Runtime,
  model: StableDiffusionModel,
  name: string,
  prompt: string,
  about: object,
): Promise<void> {
  const denoiser = plainDenoiser(runtime, model);
  const size = shape(model);
  const output = denoiser.build(input("sample", size), input("timestep", [1]));
  const sample = counterRandom(5, "sample").normal(size.reduce((a, b) => a * b, 1));
  const timestep = Float32Array.of(321);
  const condition = await denoiser.condition([prompt]);
  const states = Object.values(condition)[0]!;
  const program = await runtime.compile({ outputs: { output } });
  const result = (await program.run({ sample, timestep, ...condition })).output as Float32Array;
  await program.release();
  const width = model.textEncoder.config.hidden_size;
  const tensor = (data: Float32Array, s: readonly number[]) => ({ dtype: "F32", shape: s, data }) as const;
  writeSafetensors(
    join(out, `ours-${name}.safetensors`),
    {
      sample: tensor(sample, size),
      timestep: tensor(timestep, [1]),
      states: tensor(states, [1, states.length / width, width]),
      out: tensor(result, size),
    },
    { about: JSON.stringify({ prompt, ...about }) },
  );
  console.log(`${name}: written`);
}

/** Factors and embedding of a size at which they matter. */
async function concept(runtime: Runtime, model: StableDiffusionModel): Promise<Concept> {
  const random = counterRandom(7, "concept");
  const hardTokenId = model.tokenizer.words()[17]!;
  const factors = attentionMatrices(model.unet.config).map(({ dIn, dOut }) => ({
    a: random.normal(dIn * RANK).map((x) => x * dIn ** -0.5),
    b: random.normal(RANK * dOut).map((x) => x * strength),
  }));
  const base = { base: model.fingerprint, baseName: model.name, settings: {}, alphaBlend: 0.25, loraAlpha: RANK };
  const rest = { token: "<duck>", rank: RANK, hardToken: model.tokenizer.decode([hardTokenId]), hardTokenId };
  const start: Concept = {
    ...base,
    ...rest,
    factors,
    embedding: new Float32Array(model.textEncoder.config.hidden_size),
  };
  const { embedding } = await flatten(runtime, model, { ...start, alphaBlend: 0 });
  const size = Math.sqrt(embedding.reduce((s, x) => s + x * x, 0) / embedding.length);
  return { ...start, embedding: embedding.map((x) => x + size * random.normal(1)[0]!) };
}

mkdirSync(out, { recursive: true });
const runtime = await startRuntime();
try {
  const plain = loadModel(folder);
  await record(runtime, plain, "plain", "a photo of a dog on the beach", {});
  const own = await concept(runtime, plain);
  const flat = await flatten(runtime, plain, own);
  const error = await flatteningError(runtime, plain, own, flat, { draws: 1, steps: 2 });
  console.log(`flattening: ${JSON.stringify(error)}`);
  for (const format of EXPORT_FORMATS) {
    const model = loadModel(folder); // a tokenizer that hasn't met the token
    const { files, token } = exportConcept(join(out, format), format, flat, "duck", model, error);
    const lora = readLora(files[0]!, model);
    const embeddings = format === "cloneofsimo" ? [] : readEmbedding(files[1]!, model);
    const at = files.map((f) => relative(out, f));
    await record(
      runtime,
      withAdapters(model, { loras: [lora], embeddings }),
      format,
      `a photo of ${token} on the beach`,
      {
        ...{ format, lora: at[0], token, ...(embeddings.length && { embedding: at[1] }) },
      },
    );
  }
  for (const path of loras) {
    const model = loadModel(folder);
    const lora = readLora(path, model);
    const { report, format } = lora;
    const tokens = lora.embeddings.map(({ token }) => token);
    const prompt = `a dog on the beach${tokens.length ? `, style of ${tokens.join("")}` : ""}`;
    const keys = {
      matched: report.matched.length,
      ignored: report.ignored.length,
      ...report.layers,
      ranks: report.ranks,
    };
    await record(runtime, withAdapters(model, { loras: [lora] }), `lora-${basename(path, ".safetensors")}`, prompt, {
      ...{ format, lora: relative(out, path) || dirname(path), tokens, keys },
    });
  }
} finally {
  await runtime.close();
}

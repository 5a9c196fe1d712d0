/** LoRA and embedding files in every layout against what diffusers and PEFT compute with them, on toy models. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { constant, evaluate } from "@likeness/engine";
import { FIXTURES, readGolden, relativeError } from "@likeness/engine/testing";
import { expect, test } from "vitest";
import {
  clipTextModel,
  embedTokens,
  loadModel,
  readEmbedding,
  readLora,
  type StableDiffusionModel,
  unet2DConditionModel,
  withAdapters,
} from "../src/index.ts";

const golden = readGolden("adapters");
const files = JSON.parse(golden.metadata.files!) as Record<string, string>;
const at = (name: string): string => join(FIXTURES, "adapters", name);
const models: Record<string, StableDiffusionModel> = {
  sd1: loadModel(join(FIXTURES, "models/sd1")),
  sd2: loadModel(join(FIXTURES, "models/sd2")),
};

/** Max abs difference relative to the output's scale: the project's bar for float32 parity. */
const BAR = 1e-4;

async function outputs(
  model: StableDiffusionModel,
  kind: string,
): Promise<{ out: Float32Array; states: Float32Array }> {
  const { unet, textEncoder: text, tokenizer } = model;
  const out = unet2DConditionModel(unet.weights, unet.config, {
    sample: golden.tensor(`${kind}/sample`),
    timestep: golden.tensor(`${kind}/timestep`),
    encoderHiddenStates: golden.tensor(`${kind}/context`),
  });
  const { inputIds } = tokenizer.encode(golden.metadata.plain_prompt!);
  const inputsEmbeds = embedTokens(text.weights, text.config, constant(inputIds, [1, inputIds.length]));
  const states = clipTextModel(text.weights, text.config, { inputsEmbeds }).lastHiddenState;
  return evaluate({ out, states });
}

async function expectOutputs(model: StableDiffusionModel, kind: string, name: string): Promise<void> {
  const found = await outputs(model, kind);
  for (const key of ["out", "states"] as const)
    expect(relativeError(found[key], golden.floats(`${name}/${key}`)), key).toBeLessThan(BAR);
}

test("the files are those that the numbers belong to", () => {
  for (const [name, sha256] of Object.entries(files))
    expect(
      createHash("sha256")
        .update(readFileSync(at(name)))
        .digest("hex"),
      name,
    ).toBe(sha256);
});

test.each<[file: string, kind: string, name: string, format: string]>([
  ["layers-peft.safetensors", "sd1", "layers", "diffusers"],
  ["layers-diffusers.safetensors", "sd1", "layers", "diffusers"],
  ["layers-kohya.safetensors", "sd1", "layers", "kohya"],
  ["layers2-peft.safetensors", "sd2", "layers2", "diffusers"],
  ["layers2-diffusers.safetensors", "sd2", "layers2", "diffusers"],
  ["layers2-kohya.safetensors", "sd2", "layers2", "kohya"],
  ["convolutions-kohya.safetensors", "sd1", "convolutions", "kohya"],
  ["processors.safetensors", "sd1", "processors", "diffusers"],
  ["peft", "sd1", "peft", "diffusers"],
  ["cloneofsimo.safetensors", "sd1", "cloneofsimo", "cloneofsimo"],
])("%s on %s: every key is used, UNet and text encoder as PEFT's", async (file, kind, name, format) => {
  const lora = readLora(at(file), models[kind]!);
  expect(lora.format).toBe(format);
  expect(lora.report.ignored).toEqual([]);
  expect(lora.report.ranks).toEqual([2]);
  await expectOutputs(withAdapters(models[kind]!, { loras: [lora] }), kind, name);
});

test("two LoRAs with scales of their own add up", async () => {
  const loras = [
    readLora(at("layers-peft.safetensors"), models.sd1!, { scale: 0.7 }),
    readLora(at("convolutions-kohya.safetensors"), models.sd1!, { scale: -0.4 }),
  ];
  await expectOutputs(withAdapters(models.sd1!, { loras }), "sd1", "together");
});

test("tokens of three vectors and of one: ids and text states of a prompt with both", async () => {
  const embeddings = ["learned_embeds.safetensors", "sunny-style.safetensors"].flatMap((f) =>
    readEmbedding(at(f), models.sd1!),
  );
  expect(embeddings.map(({ token, count }) => [token, count])).toEqual([
    ["<toy>", 3],
    ["sunny-style", 1],
  ]);
  const { textEncoder: text, tokenizer } = withAdapters(models.sd1!, { embeddings });
  const { inputIds } = tokenizer.encode(golden.metadata.prompt!);
  expect([...inputIds]).toEqual([...golden.ints("embeddings/ids")]);
  const inputsEmbeds = embedTokens(text.weights, text.config, constant(inputIds, [1, inputIds.length]));
  const { states } = await evaluate({
    states: clipTextModel(text.weights, text.config, { inputsEmbeds }).lastHiddenState,
  });
  expect(relativeError(states, golden.floats("embeddings/states"))).toBeLessThan(BAR);
});

/** Weights that are no numbers: the first result that shows it names the weight. */
import { copyFileSync, cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type Runtime,
  readSafetensorsHeader,
  readTensorBytes,
  startRuntime,
  type TensorToWrite,
  writeSafetensors,
} from "@likeness/engine";
import { FIXTURES } from "@likeness/engine/testing";
import { afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { badWeights, type GenerateOptions, generate, loadModel, plainDenoiser } from "../src/index.ts";

let runtime: Runtime;
beforeAll(async () => {
  runtime = await startRuntime({ inProcess: true });
});
let temp: string;
beforeEach(() => {
  temp = mkdtempSync(join(tmpdir(), "likeness-finite-"));
  cpSync(join(FIXTURES, "models", "bf16"), join(temp, "model"), { recursive: true });
});
afterEach(() => rmSync(temp, { recursive: true }));

/** Writes a bfloat16 file again with one other value. */
function spoil(path: string, key: string, index: number, bits: number): void {
  const header = readSafetensorsHeader(path);
  const tensors = [...header.tensors].map(([k, { dtype, shape }]) => {
    const data = new Uint16Array(readTensorBytes(header, k).buffer);
    if (k === key) data[index] = bits;
    return [k, { dtype: dtype as "BF16", shape, data } satisfies TensorToWrite] as const;
  });
  const other = join(temp, "other.safetensors");
  writeSafetensors(other, Object.fromEntries(tensors));
  copyFileSync(other, path);
}

const picture = (options: Partial<GenerateOptions> = {}) => {
  const model = loadModel(join(temp, "model"));
  const plain = { prompt: "a fox", steps: 2, guidanceScale: 2, width: 16, height: 16, numImages: 1, seed: 1 };
  return generate(runtime, model, plainDenoiser(runtime, model), { ...plain, ...options });
};

test.each([
  ["unet", "diffusion_pytorch_model", "mid_block.resnets.0.conv1.weight", 0x7fc0, "NaN"],
  ["text_encoder", "model", "encoder.layers.1.mlp.fc1.bias", 0x7f80, "Infinity"],
  ["vae", "diffusion_pytorch_model", "decoder.conv_in.weight", 0xff80, "-Infinity"],
])("%s/%s: %s is named", async (part, stem, key, bits, value) => {
  const file = join(temp, "model", part, `${stem}.safetensors`);
  spoil(file, key, 3, bits);
  await expect(picture()).rejects.toThrow(
    `"${key}" (${file}): needed numbers, found ${value} at place 3. The file is damaged`,
  );
  const { unet, textEncoder, vae } = loadModel(join(temp, "model"));
  expect([...badWeights([unet, textEncoder, vae])]).toEqual([{ key, file, index: 3, value }]);
});

test("good weights that overflow aren't blamed", async () => {
  await expect(picture({ guidanceScale: 1e39 })).rejects.toThrow(
    /^the UNet's prediction: needed numbers, found -?(Infinity|NaN)\. All weights of the base model are numbers: .* \[E_NOT_FINITE\]$/,
  );
});

test("of a file with several models, only the model's own keys are looked at", () => {
  const file = join(temp, "sd1.safetensors");
  cpSync(join(FIXTURES, "ldm", "sd1.safetensors"), file);
  const header = readSafetensorsHeader(file);
  const tensors = [...header.tensors].map(([k, { dtype, shape }]) => {
    const bytes = readTensorBytes(header, k).buffer;
    const data =
      dtype === "F32" ? new Float32Array(bytes) : dtype === "I64" ? new BigInt64Array(bytes) : new Uint16Array(bytes);
    if (k === "betas") (data as Float32Array)[0] = Number.NaN;
    if (k === "first_stage_model.decoder.conv_in.bias") (data as Uint16Array)[1] = 0x7fc0;
    return [k, { dtype, shape, data } as TensorToWrite] as const;
  });
  const spoiled = join(temp, "spoiled.safetensors");
  writeSafetensors(spoiled, Object.fromEntries(tensors));
  const { unet, textEncoder, vae } = loadModel(spoiled, {
    config: join(FIXTURES, "models", "ldm-sd1"),
    tokenizer: join(FIXTURES, "models", "sd1", "tokenizer"),
  });
  expect([...badWeights([unet, textEncoder])]).toEqual([]);
  expect([...badWeights([vae])].map((b) => b.key)).toEqual(["first_stage_model.decoder.conv_in.bias"]);
});

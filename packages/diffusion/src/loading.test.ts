import { cpSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { evaluate, input, readFloats, readSafetensorsHeader, writeSafetensors } from "@likeness/engine";
import { FIXTURES } from "@likeness/engine/testing";
import { afterEach, beforeEach, expect, test } from "vitest";
import { loadModel, type StableDiffusionModel } from "./loading.ts";
import { decode } from "./models/autoencoder-kl.ts";
import { clipTextModel, embedTokens } from "./models/clip-text.ts";

const original = join(FIXTURES, "models", "sd1");
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "likeness-model-"));
  cpSync(original, folder, { recursive: true });
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Writes a weights file again under other keys. */
function rekey(path: string, rename: (key: string) => string): void {
  const header = readSafetensorsHeader(path);
  const tensors = [...header.tensors].map(
    ([k, t]) => [rename(k), { dtype: "F32", shape: t.shape, data: readFloats(header, k) }] as const,
  );
  writeSafetensors(path, Object.fromEntries(tensors));
}

async function textStates({ textEncoder: { weights, config } }: StableDiffusionModel): Promise<Float32Array> {
  const ids = input("ids", [1, 8], "int32");
  const y = clipTextModel(weights, config, { inputsEmbeds: embedTokens(weights, config, ids) }).lastHiddenState;
  return (await evaluate({ y }, { ids: Int32Array.from({ length: 8 }, (_, i) => i) })).y;
}

async function picture({ vae: { weights, config } }: StableDiffusionModel): Promise<Float32Array> {
  const z = Float32Array.from({ length: 4 * 16 }, (_, i) => Math.sin(i));
  return (await evaluate({ y: decode(weights, config, input("z", [1, 4, 4, 4])) }, { z })).y;
}

test("a text encoder without the text_model prefix, as transformers 5 writes it, gives the same states", async () => {
  rekey(join(folder, "text_encoder", "model.safetensors"), (k) => k.replace(/^text_model\./, ""));
  expect(await textStates(loadModel(folder))).toEqual(await textStates(loadModel(original)));
});

test("an autoencoder with the attention keys of old diffusers gives the same picture", async () => {
  const old = { to_q: "query", to_k: "key", to_v: "value", "to_out.0": "proj_attn" };
  rekey(join(folder, "vae", "diffusion_pytorch_model.safetensors"), (k) =>
    k.replace(
      /(mid_block\.attentions\.0\.)(to_q|to_k|to_v|to_out\.0)\./,
      (_, at, name) => `${at}${old[name as keyof typeof old]}.`,
    ),
  );
  expect(await picture(loadModel(folder))).toEqual(await picture(loadModel(original)));
});

test("another model of the same architecture has another fingerprint", () => {
  expect(loadModel(folder).fingerprint).toBe(loadModel(original).fingerprint);
  const path = join(folder, "unet", "diffusion_pytorch_model.safetensors");
  const { tensors } = readSafetensorsHeader(path);
  const { offset } = tensors.get("mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight")!;
  const bytes = readFileSync(path);
  bytes[offset + 3]! ^= 0x80; // the sign of the first value
  writeFileSync(path, bytes);
  expect(loadModel(folder).fingerprint).not.toBe(loadModel(original).fingerprint);
});

test.each<[string, () => void, RegExp]>([
  [
    "no folder",
    () => rmSync(folder, { recursive: true }),
    /model \(.*\): needed a diffusers folder, found no such folder/,
  ],
  [
    "a pickle",
    () =>
      renameSync(
        join(folder, "unet", "diffusion_pytorch_model.safetensors"),
        join(folder, "unet", "diffusion_pytorch_model.bin"),
      ),
    /found diffusion_pytorch_model\.bin\. A pickle can run any code/,
  ],
  [
    "an unknown key",
    () => edit("unet", { strange: 1 }),
    /unet.config\.json: "strange" is a key that isn't implemented/,
  ],
  [
    "an unsupported value",
    () => edit("unet", { resnet_time_scale_shift: "scale_shift" }),
    /"resnet_time_scale_shift": found "scale_shift"/,
  ],
  [
    "another family",
    () => edit("", { _class_name: "FluxPipeline" }),
    /needed Stable Diffusion 1\.x or 2\.x \(StableDiffusionPipeline\), found Flux \(FluxPipeline\)/,
  ],
])("%s is an error that says so", (_name, damage, message) => {
  damage();
  try {
    expect(() => loadModel(folder)).toThrow(message);
  } finally {
    cpSync(original, folder, { recursive: true }); // for afterEach
  }
});

function edit(part: string, change: object): void {
  const path = join(folder, part, part ? "config.json" : "model_index.json");
  writeFileSync(path, JSON.stringify({ ...(JSON.parse(readFileSync(path, "utf8")) as object), ...change }));
}

/** Checkpoints in one file: what diffusers reads out of them, at toy size in numbers and at full size key by key. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { input, readSafetensorsHeader, readTensorBytes, type WeightRef, writeSafetensors } from "@likeness/engine";
import { FIXTURES, readGolden } from "@likeness/engine/testing";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type Component,
  expectAllRead,
  loadModel,
  type StableDiffusionModel,
  unet2DConditionModel,
} from "../src/index.ts";
import { readJsonFixture, type Shapes, writeHollow } from "./hollow.ts";
import { expectOutputs, outputs } from "./model-outputs.ts";

const temp = mkdtempSync(join(tmpdir(), "likeness-ldm-"));
afterAll(() => rmSync(temp, { recursive: true }));

describe.each(["sd1", "sd2"])("%s, toy", (kind) => {
  const golden = readGolden(`ldm-${kind}`);
  const model = loadModel(join(FIXTURES, "ldm", `${kind}.safetensors`), {
    config: join(FIXTURES, "models", `ldm-${kind}`),
    tokenizer: join(FIXTURES, "models", kind, "tokenizer"),
  });

  test("gives what diffusers' from_single_file gives, and reads every key", async () => {
    await expectOutputs(model, golden);
    expectAllRead(model);
  });

  test("has the folder's scheduler and its own name", () => {
    expect(model.scheduler().config.prediction_type).toBe(kind === "sd2" ? "v_prediction" : "epsilon");
    expect(model.name).toBe(kind);
  });

  test("and its fingerprint: a concept made with one is for the other too", () => {
    const folder = join(FIXTURES, "models", kind === "sd2" ? "sharded-fp16" : "bf16");
    expect(model.fingerprint).toBe(loadModel(folder).fingerprint);
  });
});

const DIALECTS: readonly (readonly [string, (key: string) => string])[] = [
  ["no text_model.", (key) => key.replace("transformer.text_model.", "transformer.")],
  [
    "diffusers' names in the autoencoder's attention",
    (key) => key.replace(/mid\.attn_1\.([qkv])\./, "mid.attn_1.to_$1.").replace("attn_1.proj_out.", "attn_1.to_out.0."),
  ],
];

test.each(DIALECTS)("spellings of other converters: %s", async (_name, rename) => {
  const header = readSafetensorsHeader(join(FIXTURES, "ldm", "sd1.safetensors"));
  const path = join(temp, "dialect.safetensors");
  const entries = [...header.tensors].map(([key, { dtype, shape }]) => {
    const bytes = readTensorBytes(header, key);
    const [to, matrix] = [rename(key), key.includes("mid.attn_1") && shape.length === 4];
    const data = { I64: BigInt64Array, F32: Float32Array, BF16: Uint16Array }[dtype as "BF16"];
    const flat = to !== key && matrix ? shape.slice(0, 2) : shape;
    return [to, { dtype: dtype as "BF16", shape: flat, data: new data(bytes.buffer) }] as const;
  });
  expect(entries.some(([to], i) => to !== [...header.tensors.keys()][i])).toBe(true);
  writeSafetensors(path, Object.fromEntries(entries));
  const model = loadModel(path, {
    config: join(FIXTURES, "models", "ldm-sd1"),
    tokenizer: join(FIXTURES, "models", "sd1", "tokenizer"),
  });
  await expectOutputs(model, readGolden("ldm-sd1"));
  expectAllRead(model);
});

interface FullSize {
  readonly shapes: Shapes;
  /** Per component: diffusers' key → the key it comes from, or [key, third]. */
  readonly keys: Readonly<Record<"unet" | "vae" | "text_encoder", Readonly<Record<string, string | [string, number]>>>>;
  readonly configs: Readonly<Record<"unet" | "vae" | "text_encoder", Readonly<Record<string, unknown>>>>;
}

const full = readJsonFixture<Record<"sd1" | "sd2", FullSize>>("ldm-keys.json.gz");

describe.each(["sd1", "sd2"] as const)("%s, full size", (kind) => {
  const { shapes, keys, configs } = full[kind];
  const path = join(temp, `${kind}.safetensors`);
  let model: StableDiffusionModel;
  beforeAll(() => {
    writeHollow(path, shapes);
    model = loadModel(path);
  });
  const parts = (): Record<keyof FullSize["keys"], Component<object>> => ({
    unet: model.unet,
    vae: model.vae,
    text_encoder: model.textEncoder,
  });

  test("keys and shapes say what diffusers' configs say", () => {
    for (const [part, { config }] of Object.entries(parts())) {
      const wanted = configs[part as keyof FullSize["configs"]];
      const differing = Object.entries(wanted).filter(([key, value]) => {
        const found = (config as Record<string, unknown>)[key];
        return found !== undefined && JSON.stringify(found) !== JSON.stringify(value);
      });
      // arithmetic is float32 whatever a file says; projections aren't run
      const ours = differing.map(([key]) => key).filter((k) => k !== "upcast_attention" && k !== "projection_dim");
      expect(ours, part).toEqual([]);
    }
  });

  test("every tensor is where diffusers takes it from", () => {
    const header = model.unet.files.files[0]!;
    for (const [part, { files }] of Object.entries(parts()))
      for (const [key, place] of Object.entries(keys[part as keyof FullSize["keys"]])) {
        const [stored, third] = typeof place === "string" ? [place, undefined] : place;
        const entry = header.tensors.get(stored)!;
        const [rows = 1, ...rest] = entry.shape;
        const asked = part === "text_encoder" ? `text_model.${key}` : key;
        const shape = third === undefined ? entry.shape : [rows / 3, ...rest];
        const flat = part === "vae" && key.includes("attentions") && shape.length === 4 ? shape.slice(0, 2) : shape;
        const ref = files.get(asked, flat).node.attrs.ref as WeightRef;
        const length = third === undefined ? entry.length : entry.length / 3;
        expect([ref.offset, ref.length], key).toEqual([entry.offset + (third ?? 0) * length, length]);
      }
  });

  test("the graphs of all three models are built, and use every key", () => {
    const fresh = loadModel(path);
    const side = fresh.resolution / 8;
    const built = outputs(fresh, {
      sample: input("sample", [1, 4, side, side]),
      timestep: input("timestep", [1]),
      ids: input("ids", [1, 77], "int32"),
      pixels: input("pixels", [1, 3, fresh.resolution, fresh.resolution]),
      latents: input("latents", [1, 4, side, side]),
    });
    expect(built.out.shape).toEqual([1, 4, side, side]);
    expect(built.decoded.shape).toEqual([1, 3, fresh.resolution, fresh.resolution]);
    expectAllRead(fresh);
  });

  test("scheduler, size and tokenizer are those of the published folders", () => {
    const v = kind === "sd2";
    expect(model.resolution).toBe(v ? 768 : 512);
    expect(model.scheduler().config.prediction_type).toBe(v ? "v_prediction" : "epsilon");
    expect([...model.tokenizer.encode("a fox").inputIds.slice(0, 5)]).toEqual([49406, 320, 3240, 49407, v ? 0 : 49407]);
  });
});

test("a 2.x file for 512 pixels is told by flag or by its metadata", () => {
  const path = join(temp, "base.safetensors");
  const expectBase = (model: StableDiffusionModel): void => {
    expect(model.resolution).toBe(512);
    expect(model.scheduler().config.prediction_type).toBe("epsilon");
  };
  writeHollow(path, full.sd2.shapes);
  expectBase(loadModel(path, { predictionType: "epsilon" }));
  writeHollow(path, full.sd2.shapes, { "modelspec.prediction_type": "epsilon" });
  expectBase(loadModel(path));
});

const without = (kind: "sd1" | "sd2", gone: RegExp): Shapes =>
  Object.fromEntries(Object.entries(full[kind].shapes).filter(([k]) => !gone.test(k)));
const only = (kind: "sd1" | "sd2", kept: RegExp): Shapes =>
  Object.fromEntries(Object.entries(full[kind].shapes).filter(([k]) => kept.test(k)));

test.each<[string, Shapes, string]>([
  ["no autoencoder", without("sd1", /^first_stage/), "found no autoencoder (first_stage_model.*). Take the whole"],
  ["no text encoder", without("sd2", /^cond_stage/), "found no text encoder (cond_stage_model.transformer.* or"],
  ["no UNet", without("sd1", /^model\./), "found no UNet (model.diffusion_model.*)"],
  ["only a VAE", only("sd1", /^first_stage/), "found no UNet (model.diffusion_model.*), no text encoder"],
  ["SDXL", { ...full.sd1.shapes, "conditioner.embedders.1.model.ln_final.bias": [1] }, "found Stable Diffusion XL."],
  ["SD 3", { "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": [1] }, "found Stable Diffusion 3."],
  ["Flux", { "double_blocks.0.img_attn.norm.key_norm.scale": [1] }, "found Flux."],
  ["PixArt", { "adaln_single.linear.weight": [1] }, "found PixArt."],
  ["a LoRA", { "lora_unet_mid_block.lora_up.weight": [1] }, "found a LoRA."],
  ["a diffusers UNet", { "time_embedding.linear_1.weight": [1] }, "found a UNet alone, in diffusers' keys."],
  ["something else", { x: [1] }, "found another kind of file."],
  [
    "an inpainting model",
    { ...full.sd1.shapes, "model.diffusion_model.input_blocks.0.0.weight": [320, 9, 3, 3] },
    "UNet (",
  ],
  [
    "no first block",
    without("sd1", /diffusion_model\.input_blocks\.0/),
    '"model.diffusion_model.input_blocks.0.0.weight" (',
  ],
])("%s: one line that says so", (name, shapes, message) => {
  const path = join(temp, "bad.safetensors");
  writeHollow(path, shapes);
  expect(() => loadModel(path)).toThrow(message);
  if (name === "an inpainting model")
    expect(() => loadModel(path)).toThrow("needed 4 channels in and out, found 9 and 4: an inpainting model.");
});

test("a weight of another shape is named when the graph is built", () => {
  const path = join(temp, "shape.safetensors");
  writeHollow(path, { ...full.sd1.shapes, "model.diffusion_model.middle_block.0.in_layers.2.bias": [7] });
  const { unet } = loadModel(path);
  expect(() =>
    unet2DConditionModel(unet.weights, unet.config, {
      sample: input("sample", [1, 4, 64, 64]),
      timestep: input("timestep", [1]),
      encoderHiddenStates: input("context", [1, 77, 768]),
    }),
  ).toThrow(
    /model\.diffusion_model\.middle_block\.0\.in_layers\.2\.bias: needed shape \(1280\) by the config, found \(7\)/,
  );
});

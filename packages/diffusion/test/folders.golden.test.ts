/** Folders as today's diffusers and transformers write them: bfloat16, variants, shards. And what can be wrong with one. */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FIXTURES, readGolden } from "@likeness/engine/testing";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { expectAllRead, findSnapshot, loadModel, parseRepoName } from "../src/index.ts";
import { expectOutputs } from "./model-outputs.ts";

const BF16 = join(FIXTURES, "models", "bf16");
const SHARDED = join(FIXTURES, "models", "sharded-fp16");

let temp: string;
let folder: string;
beforeEach(() => {
  temp = mkdtempSync(join(tmpdir(), "likeness-folders-"));
  folder = join(temp, "model");
});
afterEach(() => rmSync(temp, { recursive: true }));

test("bfloat16 in plain files", async () => {
  const model = loadModel(BF16);
  await expectOutputs(model, readGolden("ldm-sd1"));
  expectAllRead(model);
});

test.each([undefined, "fp16"])("shards of a variant, asked for as %s", async (variant) => {
  const model = loadModel(SHARDED, { variant });
  await expectOutputs(model, readGolden("ldm-sd2"));
  expectAllRead(model);
  expect(model.unet.files.files.length).toBe(2);
});

test("a snapshot in the Hugging Face cache: its files are links, the model has its name", async () => {
  const repo = join(temp, "models--org--name");
  const commit = "0".repeat(40);
  mkdirSync(join(repo, "refs"), { recursive: true });
  writeFileSync(join(repo, "refs", "main"), commit);
  const snapshot = join(repo, "snapshots", commit);
  cpSync(BF16, join(repo, "blobs"), { recursive: true });
  for (const part of ["unet", "vae", "text_encoder", "scheduler", "tokenizer"])
    mkdirSync(join(snapshot, part), { recursive: true });
  symlinkSync("../../blobs/model_index.json", join(snapshot, "model_index.json"));
  const stems = { unet: "diffusion_pytorch_model", vae: "diffusion_pytorch_model", text_encoder: "model" };
  for (const [part, stem] of Object.entries(stems))
    for (const name of ["config.json", `${stem}.safetensors`])
      symlinkSync(`../../../blobs/${part}/${name}`, join(snapshot, part, name));
  for (const name of ["scheduler/scheduler_config.json", "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json"])
    symlinkSync(`../../../blobs/${name}`, join(snapshot, name));
  const model = loadModel(findSnapshot(parseRepoName("org/name")!, temp)!);
  expect(model.name).toBe("org/name");
  await expectOutputs(model, readGolden("ldm-sd1"));
});

describe("which files are taken", () => {
  beforeEach(() => cpSync(BF16, folder, { recursive: true }));
  const weights = (part: string, variant = ""): string =>
    join(folder, part, `${part === "text_encoder" ? "model" : "diffusion_pytorch_model"}${variant}.safetensors`);
  const taken = (variant?: string): string[] => {
    const { unet, vae } = loadModel(folder, { variant });
    return [unet, vae].flatMap((c) => c.files.files.map((f) => f.path.slice(f.path.lastIndexOf("/") + 1)));
  };
  const plain = "diffusion_pytorch_model.safetensors";

  test("the plain ones where both are there; a variant by name, the plain one where it lacks", () => {
    cpSync(weights("unet"), weights("unet", ".fp16"));
    expect(taken()).toEqual([plain, plain]);
    expect(taken("fp16")).toEqual(["diffusion_pytorch_model.fp16.safetensors", plain]);
  });

  test("the only variant that is there", () => {
    renameSync(weights("unet"), weights("unet", ".fp16"));
    expect(taken()).toEqual(["diffusion_pytorch_model.fp16.safetensors", plain]);
  });

  test("one of several only by name", () => {
    cpSync(weights("unet"), weights("unet", ".fp16"));
    renameSync(weights("unet"), weights("unet", ".non_ema"));
    expect(() => taken()).toThrow(
      /needed diffusion_pytorch_model\.safetensors, or a variant by name, found variants fp16, non_ema\. Choose one: --variant fp16/,
    );
    expect(taken("non_ema")).toEqual(["diffusion_pytorch_model.non_ema.safetensors", plain]);
  });

  test("a variant that no component has is an error", () => {
    expect(() => taken("fp16")).toThrow(
      /variant "fp16" \(.*\): needed files such as diffusion_pytorch_model\.fp16\.safetensors, found only files without a variant/,
    );
  });

  test("an index with the variant's name before .safetensors", () => {
    const index = { weight_map: { "conv_in.weight": "a.safetensors" } };
    renameSync(weights("unet"), join(folder, "unet", "a.safetensors"));
    writeFileSync(`${weights("unet", ".fp16")}.index.json`, JSON.stringify(index));
    expect(taken()).toEqual(["a.safetensors", plain]);
  });
});

describe("one line that says what is wrong", () => {
  beforeEach(() => cpSync(SHARDED, folder, { recursive: true }));
  const index = (): string => join(folder, "unet", "diffusion_pytorch_model.safetensors.index.fp16.json");
  const shard = (): string => join(folder, "unet", "diffusion_pytorch_model.fp16-00002-of-00002.safetensors");
  const edit = (path: string, change: (json: Record<string, never>) => object): void =>
    writeFileSync(path, JSON.stringify(change(JSON.parse(readFileSync(path, "utf8")))));

  test.each<[string, () => void, RegExp]>([
    [
      "a missing shard",
      () => rmSync(shard()),
      /^shard "diffusion_pytorch_model\.fp16-00002-of-00002\.safetensors" \(.*index\.fp16\.json\): needed the file that holds "[\w.]+", found none\. Fetch the model again: it is incomplete\. \[E_MODEL\]$/,
    ],
    [
      "a shard cut off",
      () => writeFileSync(shard(), readFileSync(shard()).subarray(0, 9000)),
      /00002-of-00002\.safetensors\): needed data up to byte \d+, found a file of 9000 bytes\. The file is cut off: fetch it again\./,
    ],
    [
      "a shard cut off in its header",
      () => writeFileSync(shard(), readFileSync(shard()).subarray(0, 100)),
      /^header \(.*00002-of-00002\.safetensors\): needed at most 92 bytes, found \d+\. The file is cut off/,
    ],
    [
      "a shard outside of the folder",
      () => edit(index(), () => ({ weight_map: { "conv_in.weight": "../../secret.safetensors" } })),
      /^shard "\.\.\/\.\.\/secret\.safetensors" \(.*\): .* found a name that is no \.safetensors file of this folder/,
    ],
    [
      "an index of pickles",
      () => edit(index(), () => ({ weight_map: { "conv_in.weight": "pytorch_model-00001.bin" } })),
      /^shard "pytorch_model-00001\.bin" \(.*\): .* no \.safetensors file of this folder/,
    ],
    ["no index", () => edit(index(), () => ({})), /index\.fp16\.json: "weight_map": found undefined/],
    ["an index that is no JSON", () => writeFileSync(index(), "{"), /index\.fp16\.json: needed JSON, found text/],
    [
      "only pickles",
      () => {
        rmSync(join(folder, "vae"), { recursive: true });
        cpSync(join(BF16, "vae"), join(folder, "vae"), { recursive: true });
        const whole = join(folder, "vae", "diffusion_pytorch_model.safetensors");
        renameSync(whole, whole.replace("safetensors", "bin"));
      },
      /^weights \(.*vae\): needed diffusion_pytorch_model\.safetensors, found diffusion_pytorch_model\.bin\. A pickle can run any code/,
    ],
    [
      "no weights",
      () => {
        rmSync(join(folder, "vae"), { recursive: true });
        mkdirSync(join(folder, "vae"));
        cpSync(join(BF16, "vae", "config.json"), join(folder, "vae", "config.json"));
      },
      /^weights \(.*vae\): needed diffusion_pytorch_model\.safetensors, found none\. Fetch the model again/,
    ],
    [
      "another family",
      () => edit(join(folder, "model_index.json"), (j) => ({ ...j, _class_name: "StableDiffusion3Pipeline" })),
      /^model \(.*model_index\.json\): needed Stable Diffusion 1\.x or 2\.x \(StableDiffusionPipeline\), found Stable Diffusion 3 \(StableDiffusion3Pipeline\)\. Other families aren't supported\. \[E_MODEL\]$/,
    ],
    [
      "a guidance that is none",
      () => writeFileSync(join(folder, "generation_config.json"), JSON.stringify({ guidance_rescale: 7 })),
      /generation_config\.json: "guidance_rescale": found 7\./,
    ],
    [
      "another's text encoder",
      () => cpSync(join(FIXTURES, "models", "sd1", "text_encoder"), join(folder, "text_encoder"), { recursive: true }),
      /^text encoder \(.*\): needed width 8, which the UNet reads, found width 12\./,
    ],
  ])("%s", (_name, damage, message) => {
    damage();
    expect(() => loadModel(folder)).toThrow(message);
  });

  test("a folder of one component, a folder with a checkpoint in it", () => {
    expect(() => loadModel(join(folder, "unet"))).toThrow(
      /needed a diffusers folder with model_index\.json, found a folder of one component\. Name the folder above it\./,
    );
    cpSync(join(FIXTURES, "ldm", "sd1.safetensors"), join(temp, "sd1.safetensors"));
    expect(() => loadModel(temp)).toThrow(/If sd1\.safetensors is a whole checkpoint, name the file\./);
  });
});

test.each([
  ["StableDiffusionXLPipeline", "Stable Diffusion XL"],
  ["FluxPipeline", "Flux"],
  ["PixArtAlphaPipeline", "PixArt"],
  ["StableCascadeDecoderPipeline", "Stable Cascade"],
  ["StableDiffusionInpaintPipeline", "an inpainting model"],
  ["WanPipeline", "a video model"],
])("%s is called %s", (className, family) => {
  mkdirSync(folder);
  writeFileSync(join(folder, "model_index.json"), JSON.stringify({ _class_name: className }));
  expect(() => loadModel(folder)).toThrow(`found ${family} (${className}).`);
});

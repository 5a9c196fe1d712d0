/** Base models of every kind through the command line: one file, shards of a variant, a name in the cache; bad ones. */
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FIXTURES } from "@likeness/engine/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { BIN, type Ended, runLikeness } from "./likeness.ts";

const fixture = (name: string): string => join(FIXTURES, name);
const folder = mkdtempSync(join(tmpdir(), "likeness-files-"));
const at = (name: string): string => join(folder, name);
afterAll(() => rmSync(folder, { recursive: true }));

const likeness = (...args: string[]): Promise<Ended> =>
  runLikeness(args, { cwd: folder, env: { HF_HUB_CACHE: at("cache"), HF_HUB_OFFLINE: "1" } });

const SHARDED = fixture("models/sharded-fp16");
const ONE_FILE = [
  ...["--model", fixture("ldm/sd2.safetensors"), "--model-config", fixture("models/ldm-sd2")],
  ...["--tokenizer", fixture("models/sd2/tokenizer")],
];
const generate = (out: string, ...model: string[]): string[] => [
  ...["generate", "a fox", ...model, "--steps", "2", "--seed", "3", "--guidance-scale", "3"],
  ...["--width", "16", "--height", "16", "--save-latents", `${out}.safetensors`, "--out", out],
];

/** A cache as huggingface_hub lays it out: every file a link to a blob. */
beforeAll(() => {
  const repo = join(at("cache"), "models--org--toy");
  const commit = "a".repeat(40);
  mkdirSync(join(repo, "refs"), { recursive: true });
  mkdirSync(join(repo, "blobs"));
  writeFileSync(join(repo, "refs", "main"), commit);
  for (const name of readdirSync(SHARDED, { recursive: true, withFileTypes: true })) {
    if (!name.isFile()) continue;
    const source = join(name.parentPath, name.name);
    const path = source.slice(SHARDED.length + 1);
    const blob = path.replaceAll("/", "-");
    cpSync(source, join(repo, "blobs", blob));
    const link = join(repo, "snapshots", commit, path);
    mkdirSync(join(link, ".."), { recursive: true });
    symlinkSync(`${"../".repeat(path.split("/").length + 1)}blobs/${blob}`, link);
  }
});

test("the same weights give the same picture: one file, shards of a variant, a name in the cache", async () => {
  const models = {
    folder: ["--model", SHARDED],
    variant: ["--model", SHARDED, "--variant", "fp16"],
    file: ONE_FILE,
    cached: ["--model", "org/toy@main"],
  };
  for (const [name, flags] of Object.entries(models)) {
    const made = await likeness(...generate(name, ...flags));
    expect(made.code, made.err).toBe(0);
    expect(made.out).toBe(`${name}/00001-3.png\n`);
  }
  const latents = (name: string): Buffer => readFileSync(at(`${name}.safetensors`));
  for (const name of ["variant", "file", "cached"]) expect(latents(name).equals(latents("folder")), name).toBe(true);
  // what the UNet predicts can be told otherwise: another picture
  expect(await likeness(...generate("told", ...ONE_FILE, "--prediction-type", "epsilon"))).toMatchObject({ code: 0 });
  expect(latents("told").equals(latents("folder"))).toBe(false);
});

test("inspect tells a checkpoint, variants, a name in the cache; --check reads all weights", async () => {
  const file = await likeness("inspect", fixture("ldm/sd1.safetensors"), "--check");
  expect(file).toMatchObject({ code: 0, err: "" });
  expect(file.out).toContain(
    "Stable Diffusion 1.x in one file (LDM layout): UNet, autoencoder, text encoder; predicts epsilon",
  );
  const cached = await likeness("inspect", "org/toy", "--check", "--json");
  expect(cached.code, cached.err).toBe(0);
  const { components } = JSON.parse(cached.out) as {
    components: { name: string; variants: string[]; files: string[] }[];
  };
  expect(components.find((c) => c.name === "unet")).toMatchObject({
    variants: ["fp16"],
    files: [1, 2].map((i) => `diffusion_pytorch_model.fp16-0000${i}-of-00002.safetensors`),
  });
});

const bad = at("bad");
const UNET = join(bad, "unet", "diffusion_pytorch_model.safetensors");
const SHARD = "diffusion_pytorch_model.fp16-00002-of-00002.safetensors";

test.each<[string, () => string[], string]>([
  [
    "a missing shard",
    () => {
      cpSync(SHARDED, bad, { recursive: true });
      rmSync(join(bad, "unet", SHARD));
      return ["--model", "bad"];
    },
    `shard "${SHARD}" (bad/unet/diffusion_pytorch_model.safetensors.index.fp16.json): needed the file that holds`,
  ],
  [
    "NaN weights",
    () => {
      cpSync(fixture("models/bf16"), bad, { recursive: true });
      const bytes = readFileSync(UNET);
      bytes.writeUInt16LE(0x7fc0, bytes.length - 2);
      writeFileSync(UNET, bytes);
      return ["--model", "bad"];
    },
    `.weight" (${UNET}): needed numbers, found NaN at place`,
  ],
  [
    "a pickle in the folder",
    () => {
      cpSync(fixture("models/bf16"), bad, { recursive: true });
      renameSync(UNET, UNET.replace("safetensors", "bin"));
      return ["--model", "bad"];
    },
    "weights (bad/unet): needed diffusion_pytorch_model.safetensors, found diffusion_pytorch_model.bin. A pickle can run any code",
  ],
  [
    "a pickle as the model",
    () => {
      writeFileSync(at("model.ckpt"), "PK");
      return ["--model", "model.ckpt"];
    },
    "model (model.ckpt): needed a checkpoint of Stable Diffusion 1.x or 2.x in one .safetensors file, found a pickle.",
  ],
  [
    "another family",
    () => {
      mkdirSync(bad);
      writeFileSync(join(bad, "model_index.json"), '{"_class_name": "FluxPipeline"}');
      return ["--model", "bad"];
    },
    "model (bad/model_index.json): needed Stable Diffusion 1.x or 2.x (StableDiffusionPipeline), found Flux (FluxPipeline).",
  ],
  [
    "a part as the model",
    () => ["--model", fixture("models/sd1/unet")],
    "found a folder of one component. Name the folder above it.",
  ],
  ["a text as the model", () => ["--model", BIN], "found a file of another kind. Check --model."],
  ["no such variant", () => ["--model", fixture("models/bf16"), "--variant", "fp16"], 'variant "fp16" ('],
  [
    "no such name in the cache",
    () => ["--model", "org/none"],
    `found none in ${at("cache")}. Fetch it, without HF_HUB_OFFLINE: likeness pull org/none`,
  ],
  [
    "a tokenizer that isn't there",
    () => ["--model", SHARDED, "--tokenizer", "no"],
    "--tokenizer (no): needed a folder",
  ],
  [
    "a config for a folder",
    () => ["--model", SHARDED, "--model-config", fixture("models/sd1")],
    "needed a model in a single file",
  ],
])("%s: one line, exit code 2, no file", async (_name, model, line) => {
  try {
    const { code, out, err } = await likeness(...generate("none", ...model()));
    const lines = err
      .trim()
      .split("\n")
      .filter((l) => !l.startsWith("Steps"));
    expect(lines, err).toHaveLength(1);
    expect(lines[0]).toContain(line);
    expect({ code, out }).toEqual({ code: 2, out: "" });
    expect(readdirSync(folder)).not.toContain("none");
  } finally {
    rmSync(bad, { recursive: true, force: true });
  }
});

test("inspect --check names the first bad weight and counts the others", async () => {
  cpSync(fixture("models/bf16"), bad, { recursive: true });
  const bytes = readFileSync(UNET);
  for (let i = bytes.length - 2000; i < bytes.length; i += 2) bytes.writeUInt16LE(0x7fc0, i);
  writeFileSync(UNET, bytes);
  const { code, err } = await likeness("inspect", "bad", "--check");
  rmSync(bad, { recursive: true });
  expect(code).toBe(2);
  expect(err).toMatch(
    /^likeness: "[\w.]+" \(.*\): needed numbers, found NaN at place \d+, and more in \d+ other tensors\. The file is damaged/,
  );
});

/** Full-size models as folders: today's configs, every key of the real checkpoints, and graphs of the right shapes. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { input } from "@likeness/engine";
import { FIXTURES } from "@likeness/engine/testing";
import { afterAll, describe, expect, test } from "vitest";
import {
  attentionMatrices,
  clipTextModel,
  clipVisionModel,
  embedTokens,
  expectAllRead,
  imageEmbeds,
  loadCLIP,
  loadCLIPVision,
  loadModel,
  logitScale,
  pooledText,
  textEmbeds,
} from "../src/index.ts";
import { readJsonFixture, type Shapes, writeHollow } from "./hollow.ts";
import { outputs } from "./model-outputs.ts";

const temp = mkdtempSync(join(tmpdir(), "likeness-full-"));
afterAll(() => rmSync(temp, { recursive: true }));

type Part = "unet" | "vae" | "text_encoder";
const full =
  readJsonFixture<
    Record<"sd1" | "sd2", { shapes: Shapes; keys: Record<Part, Record<string, string | [string, number]>> }>
  >("ldm-keys.json.gz");
const { configs } = readJsonFixture<{ configs: Record<string, { config: object }> }>("configs.json");

/** diffusers' keys and shapes of one component. */
function shapesOf(kind: "sd1" | "sd2", part: Part): Shapes {
  const { shapes, keys } = full[kind];
  const entries = Object.entries(keys[part]).map(([key, place]) => {
    const [stored, third] = typeof place === "string" ? [place, undefined] : place;
    const [rows = 1, ...rest] = shapes[stored]!;
    const shape = third === undefined ? shapes[stored]! : [rows / 3, ...rest];
    return [
      part === "text_encoder" ? `text_model.${key}` : key,
      part === "vae" && key.includes("attentions") ? shape.slice(0, 2) : shape,
    ] as const;
  });
  return Object.fromEntries(entries);
}

function writeFolder(kind: "sd1" | "sd2", unet: string, text: string): string {
  const folder = join(temp, unet.replaceAll(/\W/g, "-"));
  const write = (path: string, config: object): void => {
    mkdirSync(join(folder, path, ".."), { recursive: true });
    writeFileSync(join(folder, path), JSON.stringify(config));
  };
  write("model_index.json", configs["model index 2.1, 2022"]!.config);
  write("scheduler/scheduler_config.json", { _class_name: "DDIMScheduler", prediction_type: "epsilon" });
  for (const [part, name] of [
    ["unet", unet],
    ["vae", "vae, today"],
    ["text_encoder", text],
  ] as const) {
    write(`${part}/config.json`, configs[name]!.config);
    const stem = part === "text_encoder" ? "model" : "diffusion_pytorch_model";
    writeHollow(join(folder, part, `${stem}.safetensors`), shapesOf(kind, part));
  }
  return folder;
}

test.each([
  ["sd1", "unet 1.5, today", "text encoder 1.5, today", 64, 768],
  ["sd1", "unet 1.4, 2022", "text encoder 1.4, 2022", 64, 768],
  ["sd2", "unet 2.1, today", "text encoder 2.1, today", 96, 1024],
  ["sd2", "unet 2.1, 2022", "text encoder 2.1, 2022", 96, 1024],
  ["sd2", "unet 2.0-base, 2022", "text encoder 2.1, 2022", 64, 1024],
] as const)("%s, %s: every key is read at its shape; 96 matrices", (kind, unet, text, side, width) => {
  const model = loadModel(writeFolder(kind, unet, text), { tokenizer: join(FIXTURES, "tokenizer") });
  const built = outputs(model, {
    sample: input("sample", [1, 4, side, side]),
    timestep: input("timestep", [1]),
    ids: input("ids", [1, 77], "int32"),
    pixels: input("pixels", [1, 3, 512, 512]),
    latents: input("latents", [1, 4, 64, 64]),
  });
  expect(built.states.shape).toEqual([1, 77, width]);
  expect(built.out.shape).toEqual([1, 4, side, side]);
  expect(built.mean.shape).toEqual([1, 4, 64, 64]);
  expect(built.decoded.shape).toEqual([1, 3, 512, 512]);
  expect(model.resolution).toBe(8 * side);
  expectAllRead(model);
  expect(attentionMatrices(model.unet.config)).toHaveLength(96);
});

interface Layout {
  readonly config: object;
  readonly shapes: Shapes;
}
const clips =
  readJsonFixture<Record<"ViT-H-14" | "ViT-B-16-quickgelu", Record<"open_clip" | "transformers", Layout>>>(
    "clip-keys.json.gz",
  );
const FILES = {
  open_clip: ["open_clip_config.json", "open_clip_model.safetensors"],
  transformers: ["config.json", "model.safetensors"],
} as const;

describe.each([
  ["ViT-H-14", 1280, 256, 1024],
  ["ViT-B-16-quickgelu", 768, 196, 512],
] as const)("%s", (name, width, patches, embed) => {
  const write = (layout: keyof typeof FILES): string => {
    const folder = join(temp, `${name}-${layout}`);
    mkdirSync(folder, { recursive: true });
    const [config, weights] = FILES[layout];
    writeFileSync(join(folder, config), JSON.stringify(clips[name][layout].config));
    writeHollow(join(folder, weights), clips[name][layout].shapes);
    return folder;
  };

  test.each(["open_clip", "transformers"] as const)("from %s's keys: every key is read at its shape", (layout) => {
    const { weights, config, files } = loadCLIP(write(layout));
    const { text_config: text, vision_config: vision, projection_dim } = config;
    const seen = clipVisionModel(weights, vision, input("pixels", [1, 3, 224, 224]));
    expect(seen.patches.shape).toEqual([1, patches, width]);
    expect(imageEmbeds(weights, { ...vision, projection_dim }, seen.pooled).shape).toEqual([1, embed]);
    const inputsEmbeds = embedTokens(weights, text, input("ids", [1, 77], "int32"));
    const { lastHiddenState } = clipTextModel(weights, text, { inputsEmbeds });
    const pooled = pooledText(lastHiddenState, input("eos", [1], "int32"));
    expect(textEmbeds(weights, text, projection_dim, pooled).shape).toEqual([1, embed]);
    logitScale(weights, config);
    expect(files.unread()).toEqual([]);
  });

  test("the vision towers of both layouts have one config", () => {
    const told = loadCLIPVision(write("open_clip")).config;
    const { hidden_size, num_attention_heads, num_hidden_layers, hidden_act, patch_size } = told;
    expect(loadCLIPVision(write("transformers")).config).toMatchObject({
      ...{ hidden_size, num_attention_heads, num_hidden_layers, hidden_act, patch_size, projection_dim: embed },
    });
  });
});

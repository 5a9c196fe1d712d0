/** CLIP towers from open_clip's and transformers' files: whole outputs against both libraries. */
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  evaluate,
  readFloats,
  readSafetensorsHeader,
  type Tensor,
  type WeightRef,
  writeSafetensors,
} from "@likeness/engine";
import { FIXTURES, type Golden, readGolden, relativeError } from "@likeness/engine/testing";
import { afterAll, describe, expect, test } from "vitest";
import {
  clipTextModel,
  clipVisionModel,
  embedTokens,
  imageEmbeds,
  loadCLIP,
  loadCLIPVision,
  loadModel,
  logitScale,
  logitsPerText,
  pooledText,
  textEmbeds,
} from "../src/index.ts";

const temp = mkdtempSync(join(tmpdir(), "likeness-clip-"));
afterAll(() => rmSync(temp, { recursive: true }));

async function expectGolden(golden: Golden, outputs: Record<string, Tensor>): Promise<void> {
  const found = await evaluate(outputs);
  for (const [key, tensor] of Object.entries(outputs)) {
    expect(tensor.shape, key).toEqual(golden.shape(key));
    expect(relativeError(found[key]!, golden.floats(key)), key).toBeLessThan(1e-4);
  }
}

function vision(path: string, pixels: Tensor): Record<"patches" | "image_embeds", Tensor> {
  const { weights, config } = loadCLIPVision(path);
  const { patches, pooled } = clipVisionModel(weights, config, pixels);
  return { patches, image_embeds: imageEmbeds(weights, config, pooled) };
}

describe.each(["h", "b"])("open_clip %s", (kind) => {
  const golden = readGolden(`openclip-${kind}`);
  const folder = join(FIXTURES, "openclip", kind);

  test("vision tower: patches after the last norm, image embeddings", () =>
    expectGolden(golden, vision(folder, golden.tensor("pixels"))));

  test("both towers: text embeddings, logits; every key is read", async () => {
    const { weights, config, files } = loadCLIP(folder);
    const { text_config: text, vision_config, projection_dim: width } = config;
    const inputsEmbeds = embedTokens(weights, text, golden.tensor("ids"));
    const states = clipTextModel(weights, text, { inputsEmbeds }).lastHiddenState;
    const textOut = textEmbeds(weights, text, width, pooledText(states, golden.tensor("eos")));
    const { pooled } = clipVisionModel(weights, vision_config, golden.tensor("pixels"));
    const image = imageEmbeds(weights, vision_config, pooled);
    const logits = logitsPerText(textOut, image, logitScale(weights, config));
    await expectGolden(golden, { text_embeds: textOut, image_embeds: image, logits_per_text: logits });
    expect(files.unread()).toEqual([]);
  });
});

test("q, k and v are thirds of the mapped matrix, nothing is copied", () => {
  const { files } = loadCLIPVision(join(FIXTURES, "openclip", "h"));
  const stored = files.files[0]!.tensors.get("visual.transformer.resblocks.1.attn.in_proj_weight")!;
  const ref = (name: string): WeightRef =>
    files.get(`vision_model.encoder.layers.1.self_attn.${name}.weight`, [16, 16]).node.attrs.ref as WeightRef;
  const [q, k, v] = [ref("q_proj"), ref("k_proj"), ref("v_proj")];
  expect([q.offset, k.offset, v.offset]).toEqual([0, 1, 2].map((i) => stored.offset + (i * stored.length) / 3));
});

/** The toy's weights under other keys. */
function rekeyed(name: string, rename: (key: string) => string | undefined): string {
  const header = readSafetensorsHeader(join(FIXTURES, "openclip", "h", "open_clip_model.safetensors"));
  const path = join(temp, `${name}.safetensors`);
  const kept = [...header.tensors].flatMap(([k, { shape }]) => {
    const key = rename(k);
    return key === undefined ? [] : [[key, { dtype: "F32" as const, shape, data: readFloats(header, k) }] as const];
  });
  writeSafetensors(path, Object.fromEntries(kept));
  return path;
}

test("a text tower below text., as open_clip's newer classes have it", async () => {
  const golden = readGolden("openclip-h");
  const folder = join(temp, "custom");
  cpSync(join(FIXTURES, "openclip", "h"), folder, { recursive: true });
  const file = rekeyed("custom-keys", (k) => (/^(visual\.|logit_scale)/.test(k) ? k : `text.${k}`));
  cpSync(file, join(folder, "open_clip_model.safetensors"));
  const { weights, config, files } = loadCLIP(folder);
  const text = config.text_config;
  const states = clipTextModel(weights, text, { inputsEmbeds: embedTokens(weights, text, golden.tensor("ids")) });
  const pooled = pooledText(states.lastHiddenState, golden.tensor("eos"));
  await expectGolden(golden, { text_embeds: textEmbeds(weights, text, config.projection_dim, pooled) });
  expect(files.unread().every((k) => k.startsWith("visual.") || k === "logit_scale")).toBe(true);
});

test("a file without a config is told by its shapes, but for heads and activation", () => {
  const path = rekeyed("bare", (k) => (k.startsWith("visual.") ? k : undefined));
  const { config } = loadCLIPVision(path);
  expect(config).toMatchObject({
    ...{ hidden_size: 16, intermediate_size: 32, num_hidden_layers: 2, patch_size: 7, image_size: 28 },
    ...{ projection_dim: 10, hidden_act: "gelu" },
  });
});

test("a model takes another image encoder, and one where it has none", () => {
  const imageEncoder = join(FIXTURES, "openclip", "h");
  expect(loadModel(join(FIXTURES, "models", "sd1"), { imageEncoder }).imageEncoder!.config.image_size).toBe(28);
  expect(loadModel(join(FIXTURES, "models", "bf16")).imageEncoder).toBeUndefined();
  expect(loadModel(join(FIXTURES, "models", "bf16"), { imageEncoder }).imageEncoder!.config.patch_size).toBe(7);
});

test("ViT-H/14's shapes give its 16 heads", () => {
  const golden = { width: 1280, layers: 32 };
  const entries: Record<string, { dtype: "F16"; shape: number[]; data: Uint16Array }> = {};
  const put = (key: string, ...shape: number[]): void => {
    entries[`visual.${key}`] = { dtype: "F16", shape, data: new Uint16Array(shape.reduce((a, b) => a * b, 1)) };
  };
  put("class_embedding", golden.width);
  put("conv1.weight", golden.width, 3, 14, 14);
  put("positional_embedding", 257, golden.width);
  put("proj", golden.width, 1024);
  put("transformer.resblocks.0.mlp.c_fc.weight", 5120, golden.width);
  for (let i = 0; i < golden.layers; i++) put(`transformer.resblocks.${i}.ln_1.weight`, golden.width);
  const path = join(temp, "vit-h.safetensors");
  writeSafetensors(path, entries);
  expect(loadCLIPVision(path).config).toMatchObject({
    ...{ hidden_size: 1280, num_attention_heads: 16, num_hidden_layers: 32, intermediate_size: 5120 },
    ...{ image_size: 224, patch_size: 14, projection_dim: 1024, hidden_act: "gelu" },
  });
});

describe("transformers' files", () => {
  test.each(["sd1", "sd2"])("CLIPVisionModelWithProjection of %s", (kind) => {
    const golden = readGolden(`models-${kind}`);
    const found = vision(join(FIXTURES, "models", kind, "image_encoder"), golden.tensor("vision/pixels"));
    return expectGolden(golden, { "vision/patches": found.patches, "vision/image_embeds": found.image_embeds });
  });

  test("both towers of a CLIPModel; its vision tower alone, with the model's projection", async () => {
    const folder = join(FIXTURES, "models", "clip");
    const golden = readGolden("models-clip");
    const { image_embeds } = vision(folder, golden.tensor("pixels"));
    const { found } = await evaluate({ found: image_embeds });
    // the golden ones are scaled to length one
    const [n, d] = image_embeds.shape as [number, number];
    const unit = Float32Array.from(found, (x, i) => {
      const row = found.subarray(Math.floor(i / d) * d, (Math.floor(i / d) + 1) * d);
      return x / Math.hypot(...row);
    });
    expect(n).toBe(3);
    expect(relativeError(unit, golden.floats("image_embeds"))).toBeLessThan(1e-4);
    expect(loadCLIP(folder).config.text_config.num_hidden_layers).toBe(2);
  });
});

test.each<[string, () => string, string]>([
  ["no CLIP", () => join(FIXTURES, "models-clip.safetensors"), "needed a CLIP vision tower, in transformers' keys"],
  ["no such file", () => join(temp, "no.safetensors"), "found no such file"],
  ["a pickle", () => join(temp, "open_clip_pytorch_model.bin"), "found a pickle. A pickle can run any code"],
  [
    "another open_clip model",
    () => {
      const folder = join(temp, "pooled");
      cpSync(join(FIXTURES, "openclip", "h"), folder, { recursive: true });
      const config = { model_cfg: { embed_dim: 10, vision_cfg: { attentional_pool: true }, text_cfg: {} } };
      writeFileSync(join(folder, "open_clip_config.json"), JSON.stringify(config));
      return folder;
    },
    '"model_cfg.vision_cfg.attentional_pool": found true',
  ],
])("%s: one line that says so", (_name, path, message) => expect(() => loadCLIPVision(path())).toThrow(message));

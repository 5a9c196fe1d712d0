/** LoRA and embedding files that must not be used: one line each that says why. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LikenessError, type TensorToWrite, writeSafetensors } from "@likeness/engine";
import { FIXTURES } from "@likeness/engine/testing";
import { afterAll, expect, test } from "vitest";
import { loadModel } from "../loading.ts";
import { readEmbedding } from "./read-embedding.ts";
import { readLora } from "./read-lora.ts";
import { withAdapters } from "./with-adapters.ts";

const model = loadModel(join(FIXTURES, "models/sd1"));
const folder = mkdtempSync(join(tmpdir(), "adapters-"));
afterAll(() => rmSync(folder, { recursive: true }));

type Shapes = Readonly<Record<string, readonly number[]>>;
const path = join(folder, "file.safetensors");

/** A file with tensors of ones in these shapes. */
function write(shapes: Shapes, metadata: Record<string, string> = {}, fill: number = 1): string {
  const tensors: Record<string, TensorToWrite> = {};
  for (const [key, shape] of Object.entries(shapes))
    tensors[key] = { dtype: "F32", shape, data: new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(fill) };
  writeSafetensors(path, tensors, metadata);
  return path;
}

const q = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q";
const k = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k";
const good: Shapes = { [`${q}.lora_down.weight`]: [2, 12], [`${q}.lora_up.weight`]: [12, 2] };
const PEFT = {
  "base_model.model.conv_in.lora_A.weight": [2, 4, 3, 3],
  "base_model.model.conv_in.lora_B.weight": [8, 2, 1, 1],
};

test.each<[string, Shapes, RegExp]>([
  [
    "SD 1.5's text width",
    { [`${k}.lora_down.weight`]: [4, 768], [`${k}.lora_up.weight`]: [1280, 4] },
    /needed one for sd1, a base model \(text width 12\), found one for SD 1\.x \(text width 768\): "lora_unet_.*attn2_to_k\.lora_down\.weight" \(4, 768\) and up \(1280, 4\) don't fit \(12, 12\).*\[E_LORA_BASE\]$/,
  ],
  [
    "SDXL by its second text encoder",
    { ...good, "lora_te2_text_model_encoder_layers_0_mlp_fc1.alpha": [] },
    /found one for SDXL\..*\[E_LORA_BASE\]$/,
  ],
  [
    "Flux",
    { "transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": [4, 3072] },
    /found one for a transformer model such as Flux\..*\[E_LORA_BASE\]$/,
  ],
  [
    "another width, text encoder alone",
    { "text_encoder:0:down": [4, 768], "text_encoder:0:up": [768, 4] },
    /found one for SD 1\.x \(text width 768\).*\[E_LORA_BASE\]$/,
  ],
  ["DoRA", { ...good, [`${q}.dora_scale`]: [12, 1] }, /found DoRA in 1 keys, first ".*dora_scale".*\[E_LORA\]$/],
  ["LoHa", { [`${q}.hada_w1_a`]: [2, 2], [`${q}.hada_w1_b`]: [2, 2] }, /found LoHa in 2 keys.*\[E_LORA\]$/],
  ["LoKr", { [`${q}.lokr_w1`]: [2, 2], [`${q}.lokr_w2`]: [6, 6] }, /found LoKr in 2 keys.*\[E_LORA\]$/],
  [
    "half a change",
    { [`${q}.lora_down.weight`]: [2, 12] },
    /to_q\.lora_down\.weight".*needed its up factor too.*\[E_LORA\]$/,
  ],
  [
    "layers that this base lacks",
    {
      "lora_unet_down_blocks_9_conv.lora_down.weight": [2, 12],
      "lora_unet_down_blocks_9_conv.lora_up.weight": [12, 2],
    },
    /needed layers of sd1, found none of them, but 1 others such as ".*down_blocks_9_conv.*It would change nothing.*\[E_LORA\]$/,
  ],
  [
    "an embedding",
    { "<cat>": [1, 12] },
    /needed LoRA keys of .*found keys such as "<cat>"\. .*--embedding\. \[E_LORA\]$/,
  ],
  [
    "an alpha of two values",
    { ...good, [`${q}.alpha`]: [2] },
    /alpha".*needed one finite number, found 2 values\. \[E_LORA\]$/,
  ],
  [
    "a bundled embedding of another width",
    { ...good, "bundle_emb.cat.string_to_param.*": [1, 768] },
    /needed one for sd1, .*found one for SD 1\.x \(text width 768\).*\[E_EMBEDDING_BASE\]$/,
  ],
  ["nothing", {}, /found no tensors\..*\[E_LORA\]$/],
])("no LoRA for this model: %s", (_name, shapes, message) => {
  expect(() => readLora(write(shapes), model)).toThrow(message);
  expect(() => readLora(path, model)).toThrow(LikenessError);
});

test("a LoRA with a value that is no number", () => {
  expect(() => readLora(write(good, {}, Number.NaN), model)).toThrow(/needed finite values, found others.*\[E_LORA\]$/);
});

test.each<[string, Record<string, unknown>, RegExp]>([
  ["DoRA", { r: 2, lora_alpha: 2, use_dora: true }, /adapter_config\.json\): needed a plain LoRA, found DoRA/],
  ["another method", { peft_type: "LOHA" }, /"peft_type" .*needed LORA/],
  ["an alpha that is no number", { lora_alpha: "2" }, /"lora_alpha" .*expected number/],
])("PEFT's folder: %s", (_name, config, message) => {
  write(PEFT);
  writeFileSync(join(folder, "adapter_config.json"), JSON.stringify(config));
  expect(() => readLora(path, model)).toThrow(message);
  rmSync(join(folder, "adapter_config.json"));
});

test("metadata of diffusers that isn't JSON", () => {
  const file = write(good, { lora_adapter_metadata: "{" });
  expect(() => readLora(file, model)).toThrow(/metadata "lora_adapter_metadata" .*needed a JSON object.*\[E_LORA\]$/);
});

test("a folder without a LoRA, a pickle, no file", () => {
  expect(() => readLora(FIXTURES, model)).toThrow(/needed adapter_model\.safetensors or .*found neither\. \[E_LORA\]$/);
  expect(() => readLora("lora.pt", model)).toThrow(/found a pickle\. .*run any code.*\[E_PICKLE\]$/);
  expect(() => readEmbedding("a.bin", model)).toThrow(/embedding \(a\.bin\): .*found a pickle.*\[E_PICKLE\]$/);
  expect(() => readLora(join(folder, "none.safetensors"), model)).toThrow(/no such file/);
});

test.each<[string, Shapes, string | undefined, RegExp]>([
  [
    "another width",
    { "<cat>": [1, 768] },
    undefined,
    /needed one for sd1, .*found one for SD 1\.x .*\[E_EMBEDDING_BASE\]$/,
  ],
  ["SDXL", { clip_l: [1, 768], clip_g: [1, 1280] }, undefined, /found one for SDXL.*\[E_EMBEDDING_BASE\]$/],
  ["a LoRA", good, undefined, /found "lora_unet_.*A LoRA goes with --lora.*\[E_EMBEDDING\]$/],
  ["no tensors", {}, undefined, /found no tensors.*\[E_EMBEDDING\]$/],
  ["no vectors", { "<cat>": [0, 12] }, undefined, /one or more vectors of finite values, found none.*\[E_EMBEDDING\]$/],
  ["a word with a space", { "<cat>": [12] }, "my cat", /a word without spaces, found "my cat".*\[E_EMBEDDING\]$/],
  ["one word for two tokens", { "<a>": [12], "<b>": [12] }, "<c>", /a file with one token, to call it <c>, found 2/],
])("no embedding for this model: %s", (_name, shapes, token, message) => {
  expect(() => readEmbedding(write(shapes), model, token)).toThrow(message);
});

test("a token twice, and a token that is a word", () => {
  const embeddings = readEmbedding(write({ "<cat>": [2, 12] }), model);
  expect(() => withAdapters(model, { embeddings: [...embeddings, ...embeddings] })).toThrow(
    /token .*needed a new word, found "<cat>": there is one\. .*FILE:TOKEN\. \[E_EMBEDDING\]$/,
  );
  const word = model.tokenizer.decode([model.tokenizer.words()[0]!]);
  expect(() => withAdapters(model, { embeddings: readEmbedding(path, model, word) })).toThrow(/needed a new word/);
});

test("keys that are left out are told", () => {
  const { report } = readLora(write({ ...good, "lora_unet_nowhere.alpha": [], note: [1] }), model);
  expect(report).toMatchObject({ layers: { unet: 1, text_encoder: 0 }, ranks: [2], zero: false });
  expect(report.ignored).toEqual([
    { key: "lora_unet_nowhere.alpha", reason: "sd1 has no layer of this name" },
    { key: "note", reason: "not a key of kohya's layout" },
  ]);
  expect(readLora(write(good, {}, 0), model).report.zero).toBe(true);
});

/** Config files as programs write them: today's, and those of the folders that everybody has. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { FIXTURES } from "@likeness/engine/testing";
import { expect, test } from "vitest";
import type { z } from "zod";
import { CLIPConfig, CLIPTextConfig, CLIPVisionConfig } from "./clip.ts";
import { ModelIndex } from "./model-index.ts";
import { parseConfig } from "./parse.ts";
import { UNet2DConditionConfig } from "./unet.ts";
import { AutoencoderKLConfig } from "./vae.ts";

interface Entry {
  readonly kind: keyof typeof SCHEMAS;
  readonly config: Readonly<Record<string, unknown>>;
}
const SCHEMAS = {
  unet: UNet2DConditionConfig,
  vae: AutoencoderKLConfig,
  text: CLIPTextConfig,
  vision: CLIPVisionConfig,
  clip: CLIPConfig,
  index: ModelIndex,
} satisfies Record<string, z.ZodType>;

const golden = JSON.parse(readFileSync(join(FIXTURES, "configs.json"), "utf8")) as {
  made_by: string;
  sha256: string;
  configs: Readonly<Record<string, Entry>>;
};
const parsed = (name: string): Record<string, unknown> => {
  const { kind, config } = golden.configs[name]!;
  return parseConfig<z.ZodType>(SCHEMAS[kind], config, name) as Record<string, unknown>;
};

test("the configs are those of the maker as it stands", () => {
  const maker = readFileSync(join(FIXTURES, "..", golden.made_by));
  expect(createHash("sha256").update(maker).digest("hex")).toBe(golden.sha256);
});

test.each(Object.keys(golden.configs))("%s is read, and every number in it kept", (name) => {
  const { config } = golden.configs[name]!;
  const found = parsed(name);
  for (const [key, value] of Object.entries(config)) {
    const isSize = typeof value === "number" || (Array.isArray(value) && value.every((v) => typeof v === "number"));
    if (isSize) expect(found[key], key).toEqual(value);
  }
});

test("what old files leave out has the value that it had then", () => {
  expect(parsed("unet 1.4, 2022")).toMatchObject({ use_linear_projection: false, transformer_layers_per_block: 1 });
  expect(parsed("vae 1.4, 2022")).toMatchObject({ scaling_factor: 0.18215, use_quant_conv: true });
  expect(parsed("text encoder 1.4, 2022")).toMatchObject({ layer_norm_eps: 1e-5, max_position_embeddings: 77 });
});

test("the two towers of a CLIPModel have the sizes that transformers gives them", () => {
  const h = parsed("CLIP ViT-H/14, 2022");
  expect(h.vision_config).toMatchObject({
    hidden_size: 1280,
    num_hidden_layers: 32,
    patch_size: 14,
    hidden_act: "gelu",
  });
  expect(h.text_config).toMatchObject({ hidden_size: 1024, num_hidden_layers: 24, hidden_act: "gelu" });
  const b = parsed("CLIP ViT-B/16, today");
  expect(b.vision_config).toMatchObject({ hidden_size: 768, num_hidden_layers: 12, patch_size: 16, image_size: 224 });
  expect(b.text_config).toMatchObject({ hidden_size: 512, num_attention_heads: 8, intermediate_size: 2048 });
});

test("text_config_dict overrules text_config", () => {
  const { config } = golden.configs["CLIP ViT-H/14, 2022"]!;
  const changed = { ...config, text_config_dict: { num_hidden_layers: 7 } };
  expect(parseConfig(CLIPConfig, changed, "x").text_config.num_hidden_layers).toBe(7);
});

test.each<[string, string, object, string]>([
  ["unet 1.5, today", "a key nobody knows", { strange: 1 }, 'file: "strange" is a key that isn\'t implemented.'],
  [
    "unet 1.5, today",
    "SDXL's conditions",
    { addition_embed_type: "text_time" },
    '"addition_embed_type": found "text_time"',
  ],
  ["vae, today", "SD 3's shift", { shift_factor: 0.0609 }, '"shift_factor": found 0.0609'],
  ["text encoder 1.5, today", "another model", { model_type: "t5" }, '"model_type": found "t5"'],
  ["text encoder 1.5, today", "no number", { hidden_size: "768" }, '"hidden_size": found "768"'],
])("%s with %s is refused by key", (name, _why, change, message) => {
  const { kind, config } = golden.configs[name]!;
  expect(() => parseConfig<z.ZodType>(SCHEMAS[kind], { ...config, ...change }, "file")).toThrow(message);
});

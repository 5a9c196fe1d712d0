import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { loadModel } from "@likeness/diffusion";
import { readSafetensorsHeader } from "@likeness/engine";
import { FIXTURES } from "@likeness/engine/testing";
import { expect, test } from "vitest";
import { loraFacts, loraLines } from "./adapter.ts";

const sd1 = loadModel(`${FIXTURES}/models/sd1`);
const facts = (name: string, base = sd1) => loraFacts(readSafetensorsHeader(`${FIXTURES}/adapters/${name}`), base);

test("a LoRA's layers among those of a base model", () => {
  const found = facts("cloneofsimo.safetensors")!;
  expect(found).toMatchObject({ format: "cloneofsimo", ranks: [2], base: "sd1", trigger: ["<s1>"], unmatched: [] });
  const attention = { "unet to_q": 12, "unet to_k": 12, "unet to_v": 12, "unet to_out.0": 12 };
  const text = Object.fromEntries(["k_proj", "v_proj", "q_proj", "out_proj"].map((k) => [`text_encoder ${k}`, 2]));
  expect(found.layers).toEqual({ ...attention, "unet ff.net.0.proj": 6, ...text });
  expect(found.of).toEqual({ unet: 121, text_encoder: 12 });
  expect(loraLines(found)).toContain("  in prompts: <s1>");
});

test("keys without a place in that base, and a base that isn't known", () => {
  const other = facts("layers2-kohya.safetensors")!;
  expect(other.unmatched.length).toBeGreaterThan(0);
  expect(new Set(other.unmatched.map(({ reason }) => reason))).toEqual(
    new Set(["sd1 has no layer of this name", "its size isn't that of sd1"]),
  );
  const header = readSafetensorsHeader(`${FIXTURES}/adapters/layers-peft.safetensors`);
  const unknown = loraFacts(header)!;
  expect(unknown).toMatchObject({ base: undefined, made_for: "a base model (text width 12)", layers: {} });
  expect(unknown.unmatched).toHaveLength(header.tensors.size);
});

test("an embedding is no LoRA", () => expect(facts("learned_embeds.safetensors")).toBeUndefined());

const real = fileURLToPath(new URL("../../../../../shared/data/sd15-loras/", import.meta.url));
test.skipIf(!existsSync(real))("two published files of SD 1.5, where they are at hand: every key has its place", () => {
  for (const [name, rank] of [
    ["analog_svd_rank4", 4],
    ["lora_disney", 1],
  ] as const) {
    const found = loraFacts(readSafetensorsHeader(`${real}${name}.safetensors`))!;
    expect(found).toMatchObject({ base: "SD 1.x", ranks: [rank], unmatched: [] });
    expect(Object.values(found.layers).reduce((a, b) => a + b, 0)).toBe(144 + 48);
  }
});

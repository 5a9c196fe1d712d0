/** `likeness pretrain` from outside, on a toy model and a few pictures. */
import { cpSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { counterRandom, writeSafetensors } from "@likeness/engine";
import { FIXTURES } from "@likeness/engine/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { runLikeness } from "./likeness.ts";

const folder = mkdtempSync(join(tmpdir(), "likeness-pretrain-"));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (...names: string[]): string => join(folder, ...names);

beforeAll(() => {
  cpSync(join(FIXTURES, "models", "sd1"), at("sd1"), { recursive: true });
  const random = counterRandom(1, "pictures");
  const data = Uint8Array.from({ length: 4 * 16 * 16 * 3 }, () => random.int(256));
  const images = { dtype: "U8" as const, shape: [4, 16, 16, 3], data };
  writeSafetensors(at("data.safetensors"), { images }, { captions: JSON.stringify(Array(4).fill("a fox")) });
});

test.each([
  ["the model's folder", {}, "sd1"],
  ["the folder that the config asks for", { out: "elsewhere" }, "elsewhere"],
])("it tells where the encoder is: %s", async (_, changes, told) => {
  const encoder = {
    ...{ width: 16, grid: 4, trunk_blocks: 1, norm_groups: 4, decoder_layers: 1, decoder_heads: 2 },
    ...{ decoder_inner: 16, rank: 2, lora_alpha: 2 },
  };
  const steps = { seed: 1, steps: 1, batch_size: 2, learning_rate: 1e-3, hypernetwork_learning_rate: 1e-3 };
  const paths = { model: "sd1", data: "data.safetensors", run: "run", start_word: "fox" };
  writeFileSync(at("config.json"), JSON.stringify({ ...paths, ...steps, encoder, ...changes }));
  const ended = await runLikeness(["pretrain", "config.json"], { cwd: folder });
  expect(ended, ended.err).toMatchObject({ code: 0, out: `${told}\n` });
  const written = "out" in changes ? changes.out : join("sd1", "tuning_encoder");
  expect(existsSync(at(written, "config.json"))).toBe(true);
  const record = await runLikeness(["pretrain", "config.json", "--json", "--resume", "latest"], { cwd: folder });
  expect(JSON.parse(record.out)).toEqual({ step: 1, steps: 1, model: "sd1", run: "run", ...changes });
});

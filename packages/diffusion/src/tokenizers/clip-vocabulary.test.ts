import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { openaiCLIPTokenizer } from "./clip-vocabulary.ts";

type Case = readonly [text: string, ids: readonly number[], decoded: string];
const { cases } = JSON.parse(
  readFileSync(new URL("../../../../fixtures/tokenizer-clip.json", import.meta.url), "utf8"),
) as { cases: readonly Case[] };

test("the bundled vocabulary gives transformers' ids", () => {
  const tokenizer = openaiCLIPTokenizer();
  expect(tokenizer.vocabSize).toBe(49408);
  expect(cases.length).toBeGreaterThan(20);
  for (const [text, ids] of cases) expect(tokenizer.tokenize(text), text).toEqual(ids);
});

test("Stable Diffusion 1 pads with the end token, 2 with an exclamation mark", () => {
  expect([...openaiCLIPTokenizer().encode("a").inputIds.slice(0, 5)]).toEqual([49406, 320, 49407, 49407, 49407]);
  expect([...openaiCLIPTokenizer("!").encode("a").inputIds.slice(0, 5)]).toEqual([49406, 320, 49407, 0, 0]);
});

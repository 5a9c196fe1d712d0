import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readSafetensorsHeader, readTensorBytes } from "@likeness/engine";
import { afterAll, expect, test } from "vitest";
import { PLACE_NAMES, PLAIN_NAMES } from "./backgrounds.ts";
import { sceneAt } from "./dataset.ts";
import { type EvaluationSetOptions, evaluationContent, writeEvaluationSet } from "./evaluation.ts";
import { LOOKS } from "./looks.ts";
import { drawSprites } from "./sprites.ts";
import { subjectBy, subjectsOf } from "./subjects.ts";
import { vocabulary, wordsOf } from "./vocabulary.ts";

const folder = mkdtempSync(join(tmpdir(), "evaluation-set-"));
afterAll(() => rmSync(folder, { recursive: true }));

interface Judged {
  readonly caption: string;
  readonly choices: readonly { attribute: string; right: number; captions: readonly string[]; names?: string[] }[];
}
const options: EvaluationSetOptions = { split: "held-out", seed: 5, backbone: 40, trained: [{ seed: 1, count: 500 }] };
const content = evaluationContent(options);

test("every held-out subject once, in one of its hands, with its class word", () => {
  expect(content.subjects).toHaveLength(subjectsOf("held-out").length);
  expect(new Set(content.subjects.map((s) => s.instance)).size).toBe(content.subjects.length);
  const fox = content.subjects.find((s) => s.name.startsWith("fox by "))!;
  expect(fox).toMatchObject({ class_word: "animal", nouns: ["an animal", "two animals", "three animals"] });
  expect(evaluationContent({ ...options, subjects: 3 }).subjects).toEqual(content.subjects.slice(0, 3));
});

test("ten prompts of the grammar: places, looks, counts, colours, a thing worn; all of different scenes", () => {
  const texts = content.prompts.map((p) => p.prompt);
  expect(new Set(texts).size).toBe(10);
  for (const text of texts) expect(text.match(/<S\*>/g)).toHaveLength(1);
  const known = new Set(vocabulary());
  for (const text of texts) for (const word of wordsOf(text.replace("<S*>", ""))) expect(known).toContain(word);
  const asked = content.prompts.flatMap((p) => (p as Judged).choices.map((c) => c.attribute));
  const count = (a: string): number => asked.filter((x) => x === a).length;
  expect([count("place"), count("look"), count("count")]).toEqual([9, 3, 1]);
});

test("the right caption is the prompt's own, among all places, looks and counts that there are", () => {
  const sizes: Record<string, number> = {
    place: PLACE_NAMES.length + PLAIN_NAMES.length,
    look: LOOKS.length,
    count: 3,
  };
  for (const { caption, choices } of [...content.prompts, ...content.backbone.prompts] as Judged[])
    for (const { attribute, right, captions, names } of choices) {
      expect(captions[right]).toBe(caption);
      expect(new Set(captions).size).toBe(sizes[attribute]);
      if (attribute !== "count") expect(new Set(names).size).toBe(sizes[attribute]);
    }
});

test("the base model's prompts name trained subjects and are none of the captions that it was trained on", () => {
  const { names, prompts } = content.backbone;
  expect([names.length, prompts.length]).toEqual([200, 40]);
  for (const { prompt, name } of prompts) expect(prompt).toContain(names[name]![0]);
  const trained = { split: "train", seed: 1, count: 500 } as const;
  const seen = new Set(Array.from({ length: trained.count }, (_, i) => sceneAt(trained, i).caption));
  expect(prompts.filter((p) => seen.has(p.prompt))).toEqual([]);
});

test("one seed gives one file, byte for byte: photos of the subjects, plain pictures of all instances", async () => {
  const among = ["fox", "owl", "wolf"].map(subjectBy);
  const sprites = await drawSprites(among);
  const write = (name: string): Buffer => {
    writeEvaluationSet(join(folder, name), sprites, { ...options, among, size: 16, backbone: 2, trained: [] });
    return readFileSync(join(folder, name));
  };
  expect(write("one.safetensors").equals(write("two.safetensors"))).toBe(true);
  const header = readSafetensorsHeader(join(folder, "one.safetensors"));
  const instances = among.reduce((n, s) => n + s.hands.length, 0);
  expect(header.tensors.get("images")!.shape).toEqual([instances, 16, 16, 3]);
  expect(header.tensors.get("photos")!.shape).toEqual([2, 16, 16, 3]); // the wolf is trained
  const masks = readTensorBytes(header, "masks");
  expect(masks).toHaveLength(2 * 16 * 16);
  for (const subject of [masks.subarray(0, 256), masks.subarray(256)]) {
    expect(subject[8 * 16 + 8]).toBeGreaterThan(200); // a photo's subject is in the middle
    expect(subject[0]).toBe(0);
  }
  expect(header.tensors.get("scenes")!.shape).toEqual([2, 16, 16, 3]);
  const images = readTensorBytes(header, "images");
  const pictures = Array.from({ length: instances }, (_, i) => images.subarray(i * 768, (i + 1) * 768).join());
  expect(new Set(pictures).size).toBe(instances);
});

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadJudge } from "@likeness/diffusion";
import { startRuntime } from "@likeness/engine";
import { readGolden, relativeError } from "@likeness/engine/testing";
import { afterAll, expect, test } from "vitest";
import { writeToyJudge } from "../../test/toy-judge.ts";
import { productNorm } from "./collapse.ts";
import { dot, entropy, pictureEmbedder, rankOf, textEmbedder } from "./metrics.ts";

const golden = readGolden("evaluation");
const folder = mkdtempSync(join(tmpdir(), "metrics-"));
afterAll(() => rmSync(folder, { recursive: true }));

test("CLIP's cosines are transformers': texts, pictures of another size, batches that don't fill up", async () => {
  writeToyJudge(folder);
  const judge = loadJudge(folder);
  const runtime = await startRuntime({ inProcess: true });
  const text = await textEmbedder(runtime, judge, 3);
  const picture = await pictureEmbedder(runtime, judge, 16, 2);
  const captions = JSON.parse(golden.metadata.captions!) as string[];
  const bytes = Uint8Array.from(golden.ints("clip/pictures"));
  const size = 16 * 16 * 3;
  const seen = await picture.embed([0, 1, 2].map((i) => bytes.subarray(i * size, (i + 1) * size)));
  const images = seen.map((s) => s.embeds);
  expect(seen.map((s) => s.instance)).toEqual(images); // a CLIPModel has one vector for both questions
  const rows = await text.embed([...captions, captions[0]!]);
  expect(rows[4]).toBe(rows[0]);
  const cosines = (a: Float32Array[], b: Float32Array[]): number[] => a.flatMap((x) => b.map((y) => dot(x, y)));
  expect(relativeError(cosines(rows.slice(0, 4), images), golden.floats("clip/text_to_image"))).toBeLessThan(1e-4);
  expect(relativeError(cosines(images, images), golden.floats("clip/image_to_image"))).toBeLessThan(1e-4);
});

test("entropy is torch's", () => {
  expect(entropy([...golden.floats("entropy/counts")])).toBeCloseTo(golden.floats("entropy/value")[0]!, 5);
  expect(entropy([7])).toBe(0);
  expect(entropy([2, 0, 2])).toBeCloseTo(Math.log(2), 12);
});

test("the right one's place: from 1, equals before it, no number is last", () => {
  expect(rankOf([0.1, 0.9, 0.5], 1)).toBe(1);
  expect(rankOf([0.1, 0.9, 0.5], 0)).toBe(3);
  expect(rankOf([0.5, 0.5, 0.5], 1)).toBe(3);
  expect(rankOf([0.5, Number.NaN, 0.1], 1)).toBe(3);
});

test("‖A·B‖² by Grams is that of the product", () => {
  const [a, b] = [Float32Array.of(1, 2, -1, 0, 3, 1), Float32Array.of(2, -1, 0, 1, 0.5, -2, 1, 1)]; // (3, 2), (2, 4)
  let direct = 0;
  for (let i = 0; i < 3; i++)
    for (let j = 0; j < 4; j++) direct += (a[i * 2]! * b[j]! + a[i * 2 + 1]! * b[4 + j]!) ** 2;
  expect(productNorm(a, b, 2)).toBeCloseTo(direct, 5);
});

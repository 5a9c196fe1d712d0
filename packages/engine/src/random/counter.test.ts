import { expect, test } from "vitest";
import { counterRandom } from "./counter.ts";

test("Philox4x32-10 gives the words of the paper's known-answer test for key and counter zero", () => {
  // Random123 kat_vectors: philox4x32 10, all zero → 6627e8d5 e169c58d bc57ac4c 9b00dbd8. Stream "" has key hash
  // 0x811c9dc5, so seed 0x811c9dc5·2³² clears the second key word.
  const r = counterRandom(0x811c9dc5 * 2 ** 32, "");
  const words = [...r.uniform(4)].map((u) => u * 2 ** 24);
  expect(words).toEqual([0x6627e8, 0xe169c5, 0xbc57ac, 0x9b00db]);
});

test("normal values have mean 0 and variance 1, and streams differ", () => {
  const z = counterRandom(1, "noise").normal(20001);
  const mean = z.reduce((a, b) => a + b, 0) / z.length;
  const variance = z.reduce((a, b) => a + (b - mean) ** 2, 0) / z.length;
  expect(Math.abs(mean)).toBeLessThan(0.03);
  expect(Math.abs(variance - 1)).toBeLessThan(0.04);
  expect(z.every(Number.isFinite)).toBe(true);
  expect([...counterRandom(1, "other").normal(4)]).not.toEqual([...z.subarray(0, 4)]);
});

test("a stream can be entered at any block", () => {
  const all = counterRandom(7, "a").uniform(12);
  expect([...counterRandom(7, "a", 2).uniform(4)]).toEqual([...all.subarray(8)]);
});

test("the same bits on every machine and under every JavaScript engine: no Math.log, no Math.sin", () => {
  const bits = new Uint32Array(counterRandom(3, "noise").normal(5).buffer);
  expect([...bits].map((x) => x.toString(16))).toEqual(["3d306da6", "3ec1e9f2", "3f2b6da8", "bf435c8e", "bf7b23a7"]);
});

import { createHash } from "node:crypto";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { readFloats, readSafetensorsHeader, readTensorBytes } from "../weights/safetensors.ts";
import { mt19937 } from "./mt19937.ts";
import { SeedError, torchRandn } from "./torch-randn.ts";

const golden = readSafetensorsHeader(fileURLToPath(new URL("../../../../fixtures/randn.safetensors", import.meta.url)));
const floats = (key: string): Float32Array => readFloats(golden, key);
const draws = [...golden.tensors.keys()].filter((key) => /^-?\d+\/\d+$/.test(key));

test("mt19937 gives the 10000th word that the C++ standard demands", () => {
  const words = mt19937(5489);
  for (let i = 1; i < 10_000; i++) words();
  expect(words()).toBe(4123659995);
});

test.each(draws)("seed/size %s: torch.randn, bit for bit", (key) => {
  const [seed, n] = key.split("/") as [string, string];
  expect(torchRandn(BigInt(seed)).normal(Number(n))).toEqual(floats(key));
});

test("a million values have torch's sha256", () => {
  const values = torchRandn(0).normal(Number(golden.metadata.long_length));
  expect(createHash("sha256").update(new Uint8Array(values.buffer)).digest("hex")).toBe(golden.metadata.long_sha256);
});

test("draws follow each other as in torch: short and long, with the spare value kept between short ones", () => {
  const random = torchRandn(7);
  for (const [i, n] of [5, 16, 3, 100, 1, 4].entries()) expect(random.normal(n)).toEqual(floats(`sequence/${i}`));
});

test.each(["few", "odd", "whole", "rest", "mixed"])("latents and the noise of steps from one generator: %s", (name) => {
  const random = torchRandn(11);
  const keys = [...golden.tensors.keys()].filter((key) => key.startsWith(`steps/${name}/`)).sort();
  expect(keys.length).toBeGreaterThan(2);
  for (const key of keys) expect(random.normal(floats(key).length), key).toEqual(floats(key));
});

test("torch.rand, torch.randint and torch.randn from one generator", () => {
  const random = torchRandn(3);
  expect(random.uniform(10)).toEqual(floats("mixed/uniform"));
  expect(random.integers(10, 1000)).toEqual(new Int32Array(readTensorBytes(golden, "mixed/integers").buffer));
  expect(random.normal(20)).toEqual(floats("mixed/normal"));
});

test.each([1.5, Number.NaN, 2 ** 60, 2n ** 64n, -(2n ** 63n) - 1n])("seed %s is refused", (seed) => {
  expect(() => torchRandn(seed)).toThrow(SeedError);
});

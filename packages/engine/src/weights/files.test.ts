import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { evaluate } from "../runtime/runtime.ts";
import { openWeights, type Stored } from "./files.ts";
import { badValues } from "./finite.ts";
import { toFloat16 } from "./float16.ts";
import { readSafetensorsHeader, type TensorToWrite, writeSafetensors } from "./safetensors.ts";

const folder = mkdtempSync(join(tmpdir(), "likeness-weights-"));
const path = join(folder, "w.safetensors");
afterAll(() => rmSync(folder, { recursive: true }));

const fused = Float32Array.from({ length: 18 }, (_, i) => i);
writeSafetensors(path, {
  in_proj_weight: { dtype: "F32", shape: [6, 3], data: fused },
  half: { dtype: "F16", shape: [6], data: toFloat16(fused.subarray(0, 6)) },
  conv: { dtype: "F32", shape: [2, 3, 1, 1], data: fused.slice(0, 6) },
  other: { dtype: "F32", shape: [1], data: fused.slice(0, 1) },
});

const PLACES: Readonly<Record<string, Stored>> = {
  whole: { key: "in_proj_weight" },
  q: { key: "in_proj_weight", part: { index: 0, of: 3 } },
  k: { key: "in_proj_weight", part: { index: 1, of: 3 } },
  v: { key: "in_proj_weight", part: { index: 2, of: 3 } },
  vHalf: { key: "half", part: { index: 2, of: 3 } },
  turned: { key: "in_proj_weight", transposed: true },
  matrix: { key: "conv", flat: true },
  strict: { key: "conv" },
  odd: { key: "in_proj_weight", part: { index: 0, of: 4 } },
};
const open = () => openWeights([path], { locate: (key) => PLACES[key] ?? key, owns: (key) => key !== "other" });

test("parts, turned matrices and flat kernels are the stored bytes", async () => {
  const files = open();
  const { q, k, v, whole, vHalf, turned, matrix } = await evaluate({
    q: files.get("q", [2, 3]),
    k: files.get("k", [2, 3]),
    v: files.get("v", [2, 3]),
    whole: files.get("whole", [6, 3]), // starts where q starts
    vHalf: files.get("vHalf", [2]),
    turned: files.get("turned", [3, 6]),
    matrix: files.get("matrix", [2, 3]),
  });
  expect([...q, ...k, ...v]).toEqual([...fused]);
  expect([...whole]).toEqual([...fused]);
  expect([...vHalf]).toEqual([4, 5]);
  expect([...turned]).toEqual([0, 1, 2].flatMap((c) => [0, 1, 2, 3, 4, 5].map((r) => 3 * r + c)));
  expect([...matrix]).toEqual([0, 1, 2, 3, 4, 5]);
});

test("a tensor counts as read when all its parts are; keys of other models don't count", () => {
  const files = open();
  files.get("q", [2, 3]);
  files.get("k", [2, 3]);
  expect(files.unread()).toEqual(["conv", "in_proj_weight", "half"]);
  files.get("v", [2, 3]);
  expect(files.unread()).toEqual(["conv", "half"]);
});

test("another shape, a part that doesn't come out even", () => {
  expect(() => open().get("strict", [2, 3])).toThrow(/conv: needed shape \(2, 3\) by the config, found \(2, 3, 1, 1\)/);
  expect(() => open().get("q", [3, 2])).toThrow(/in_proj_weight: needed shape \(3, 2\) by the config, found \(2, 3\)/);
  expect(() => open().get("turned", [6, 3])).toThrow(/needed shape \(6, 3\) by the config, found \(3, 6\)/);
  expect(() => open().get("matrix", [3, 2])).toThrow(/needed shape \(3, 2\) by the config, found \(2, 3, 1, 1\)/);
  expect(() => open().get("odd", [1, 3])).toThrow(/"in_proj_weight" .*: needed a first axis that 4 divides, found 6/);
});

test("values that are no numbers are found by key and place, in every float type", () => {
  const ok = Float32Array.of(1, -2, 3.4e38);
  const f32 = (data: Float32Array): TensorToWrite => ({ dtype: "F32", shape: [data.length], data });
  const bits = (dtype: "F16" | "BF16", ...data: number[]): TensorToWrite => ({
    dtype,
    shape: [data.length],
    data: Uint16Array.from(data),
  });
  const file = join(folder, "bad.safetensors");
  const long = new Float32Array(5_000_000);
  long[4_500_000] = Number.NaN;
  writeSafetensors(file, {
    a: f32(ok),
    b: f32(Float32Array.of(0, Number.NaN, Number.NaN)),
    c: f32(Float32Array.of(Number.NEGATIVE_INFINITY)),
    d: f32(long),
    e: bits("F16", 0x7bff, 0xfbff, 0xfc00),
    f: bits("F16", 0xfe00),
    g: bits("BF16", 0x7f7f, 0x7f80),
    h: bits("BF16", 0xff7f),
    i: { dtype: "I32", shape: [1], data: Int32Array.of(-1) },
  });
  const found = [...badValues(readSafetensorsHeader(file))].sort((x, y) => (x.key < y.key ? -1 : 1));
  expect(found).toEqual([
    { key: "b", index: 1, value: "NaN" },
    { key: "c", index: 0, value: "-Infinity" },
    { key: "d", index: 4_500_000, value: "NaN" },
    { key: "e", index: 2, value: "-Infinity" },
    { key: "f", index: 0, value: "NaN" },
    { key: "g", index: 1, value: "Infinity" },
  ]);
  expect([...badValues(readSafetensorsHeader(file), (key) => key === "a")]).toEqual([]);
});

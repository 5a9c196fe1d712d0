import { expect, test } from "vitest";
import { input, variable, weight } from "../core/leaves.ts";
import { sum } from "../ops/index.ts";
import { lower } from "./lower.ts";

test("weights that a device can't widen, and that don't fit into a model, are refused before they are read", () => {
  const shape = [600, 1 << 20];
  const w = weight({ file: "/models/big.safetensors", offset: 8, length: 1200 << 20, dtype: "bfloat16", shape });
  expect(() => lower({ y: sum(w) }, "webgpu", new Set(["bfloat16"]))).toThrow(
    "bfloat16 weights, which this GPU can't widen (/models/big.safetensors): needed at most 1920 MiB of them as float32, found 2400 MiB. Use float32 files, or the CPU. [E_DEVICE]",
  );
});

test("an output may not be called as an input or a variable is", () => {
  for (const leaf of [input, variable])
    expect(() => lower({ x: sum(leaf("x", [2])) }, "cpu")).toThrow(
      '"x" is an input or variable and an output too: give one of them another name.',
    );
});

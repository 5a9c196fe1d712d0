/** float16 and bfloat16 weights: widened at each use or once per program, the results are the same bits. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import {
  constant,
  conv2d,
  gather,
  linear,
  openWeights,
  startRuntime,
  toFloat16,
  writeSafetensors,
} from "../src/index.ts";
import { ramp } from "../src/testing/index.ts";

test("weights that are widened once give what weights that are widened at each use give", async () => {
  const folder = mkdtempSync(join(tmpdir(), "half-"));
  const path = join(folder, "w.safetensors");
  const kernel = ramp(8 * 4 * 9, 1);
  writeSafetensors(path, {
    full: { dtype: "F32", shape: [4, 6], data: ramp(24, 4) },
    kernel: { dtype: "F16", shape: [8, 4, 3, 3], data: toFloat16(kernel) },
    matrix: { dtype: "BF16", shape: [4, 6], data: Uint16Array.from({ length: 24 }, (_, i) => 0x3f80 + 8 * i) },
  });
  const w = openWeights([path]).weights();
  const matrix = w.get("matrix", [4, 6]);
  const outputs = {
    conv: conv2d(constant(ramp(4 * 25, 2), [1, 4, 5, 5]), w.get("kernel", [8, 4, 3, 3]), undefined, { padding: 1 }),
    dense: linear(constant(ramp(12, 3), [2, 6]), matrix),
    rows: gather(matrix, constant(Int32Array.of(3, 0, 3), [3], "int32")),
    full: linear(constant(ramp(12, 3), [2, 6]), w.get("full", [4, 6])),
  };
  const results = [];
  for (const widenWeights of [false, true]) {
    const runtime = await startRuntime({ inProcess: true, widenWeights });
    const program = await runtime.compile({ outputs });
    results.push({ ...(await program.run()), nodes: program.nodeCount });
    await runtime.close();
  }
  rmSync(folder, { recursive: true });
  const [{ nodes: each, ...narrow }, { nodes: once, ...wide }] = results as [(typeof results)[0], (typeof results)[0]];
  expect(wide).toEqual(narrow);
  expect(once).toBeLessThan(each);
});

/** Products with weights in 8 bits: against the same sums made in JavaScript, and near those of the whole weights. */
import { mkdtempSync, readdirSync, rmSync, statSync, utimesSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import {
  constant,
  conv2d,
  costOf,
  evaluate,
  grad,
  int8Weights,
  linear,
  makeInt8Copies,
  mul,
  multipliesBytes,
  openWeights,
  sum,
  type Tensor,
  toFloat16,
  type Weights,
  writeSafetensors,
} from "../src/index.ts";
import { ramp } from "../src/testing/index.ts";

const folder = mkdtempSync(join(tmpdir(), "int8-"));
const path = join(folder, "w.safetensors");
const [O, C, M] = [48, 40, 6];
const matrix = ramp(O * C, 1);
const able = multipliesBytes() !== false;
let base: Weights;
let small: Weights;

beforeAll(() => {
  vi.stubEnv("XDG_CACHE_HOME", join(folder, "cache"));
  writeSafetensors(path, {
    matrix: { dtype: "F32", shape: [O, C], data: matrix },
    kernel: { dtype: "F16", shape: [O, C, 3, 3], data: toFloat16(ramp(O * C * 9, 2)) },
    point: { dtype: "F32", shape: [O, C, 1, 1], data: ramp(O * C, 3) },
    narrow: { dtype: "F32", shape: [4, C], data: ramp(4 * C, 4) },
    bias: { dtype: "F32", shape: [O], data: ramp(O, 5) },
  });
  base = openWeights([path]).weights();
  small = able ? int8Weights(base) : base;
});
afterAll(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

/** Root of the mean squared difference over that of the values. */
function error(found: Float32Array, wanted: Float32Array): number {
  const squares = (f: (i: number) => number) => wanted.reduce((s, _, i) => s + f(i) ** 2, 0);
  return Math.sqrt(squares((i) => found[i]! - wanted[i]!) / squares((i) => wanted[i]!));
}

describe.runIf(able)("in 8 bits", () => {
  test("a product is that of the rounded row and the rounded column, to the last digits", async () => {
    const x = ramp(M * C, 7);
    const bias = ramp(O, 5);
    const { y } = await evaluate({
      y: linear(constant(x, [M, C]), small.get("matrix", [O, C]), small.get("bias", [O])),
    });
    const rounded = (row: Float32Array): [Float32Array, number] => {
      const scale = Math.max(...row.map(Math.abs)) / 127;
      return [row.map((v) => Math.round(v / scale)), scale];
    };
    const rows = Array.from({ length: M }, (_, i) => rounded(x.subarray(i * C, (i + 1) * C)));
    const columns = Array.from({ length: O }, (_, j) => rounded(matrix.subarray(j * C, (j + 1) * C)));
    const wanted = rows.flatMap(([a, s]) =>
      columns.map(([b, t], j) => a.reduce((total, v, k) => total + v * b[k]!, 0) * s * t + bias[j]!),
    );
    expect(error(y, Float32Array.from(wanted))).toBeLessThan(1e-6);
  });

  const dense = (w: Weights, x: Tensor): Tensor => linear(x, w.get("matrix", [O, C]), w.get("bias", [O]));
  const convolution =
    (key: string, side: number, stride: number, padding: number) =>
    (w: Weights, x: Tensor): Tensor =>
      conv2d(x, w.get(key, [O, C, side, side]), w.get("bias", [O]), { stride, padding });

  test.each([
    ["linear", dense, [2, 3, C], ["y", "dx"]],
    ["3x3", convolution("kernel", 3, 1, 1), [2, C, 6, 5], ["y", "dx"]],
    ["3x3 with stride 2", convolution("kernel", 3, 2, 1), [1, C, 7, 8], ["y"]],
    ["3x3 without padding", convolution("kernel", 3, 1, 0), [1, C, 5, 5], ["y"]],
    ["1x1", convolution("point", 1, 1, 0), [3, C, 4, 4], ["y", "dx"]],
  ] as const)("%s: value and gradient are within 2%% of the whole weights'", async (_, f, shape, inInt8) => {
    const x = constant(
      ramp(
        shape.reduce((a, b) => a * b, 1),
        8,
      ),
      shape,
    );
    const all = (w: Weights) => {
      const y = f(w, x);
      const dy = constant(
        ramp(
          y.shape.reduce((a, b) => a * b, 1),
          9,
        ),
        y.shape,
      );
      return { y, dx: grad(sum(mul(y, dy)), [x])[0]! };
    };
    const [found, wanted] = [await evaluate(all(small)), await evaluate(all(base))];
    for (const name of ["y", "dx"] as const) {
      expect(error(found[name], wanted[name])).toBeLessThan(0.02);
      if ((inInt8 as readonly string[]).includes(name)) expect(found[name]).not.toEqual(wanted[name]);
      else expect(found[name]).toEqual(wanted[name]);
    }
  });

  test("what has few rows or columns stays whole", async () => {
    const x = constant(ramp(M * C, 7), [M, C]);
    const [found, wanted] = await Promise.all(
      [small, base].map((w) => evaluate({ y: linear(x, w.get("narrow", [4, C])) })),
    );
    expect(found).toEqual(wanted);
  });

  test("copies are made once, ahead if asked, and anew when the file changes", async () => {
    const weights = () => int8Weights(openWeights([path]).weights()).get("matrix", [O, C]);
    const folders = () => readdirSync(join(folder, "cache", "likeness", "int8"));
    const done: number[] = [];
    await makeInt8Copies([weights()], { onProgress: (n) => done.push(n) });
    const [first] = folders();
    const copy = readdirSync(join(folder, "cache", "likeness", "int8", first!)).find((n) => n.endsWith(`-${O}x${C}`))!;
    const made = () => statSync(join(folder, "cache", "likeness", "int8", first!, copy)).mtimeMs;
    const before = made();
    await makeInt8Copies([weights()]);
    expect(made()).toBe(before);
    utimesSync(path, 1, 1);
    weights();
    expect(folders()).toHaveLength(2);
    const signal = AbortSignal.abort(new Error("stopped"));
    await expect(makeInt8Copies([weights()], { signal })).rejects.toThrow("stopped");
  });

  test("a copy counts a byte a weight, once for value and gradient", () => {
    const x = constant(ramp(M * C, 7), [M, C]);
    const y = linear(x, small.get("matrix", [O, C]));
    expect(costOf([y]).weightBytes).toBe(O * C);
    expect(costOf([grad(sum(mul(y, y)), [x])[0]!]).weightBytes).toBe(O * C);
  });
});

test.skipIf(able)("a CPU whose sums of bytes overflow is refused", () => {
  expect(() => int8Weights(base)).toThrow("needed VNNI");
});

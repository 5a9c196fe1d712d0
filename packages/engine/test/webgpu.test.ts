/** The WebGPU provider beside the CPU's: every op, weights of every width, and values that stay on the device. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  adamW,
  argMax,
  cast,
  constant,
  conv2dWeightGrad,
  cos,
  devices,
  dot,
  evaluate,
  gather,
  grad,
  input,
  leafName,
  linear,
  matmul,
  max,
  mean,
  mul,
  openWeights,
  type Runtime,
  resetState,
  reshape,
  silu,
  sin,
  slice,
  square,
  startRuntime,
  sub,
  sum,
  type Tensor,
  toFloat16,
  topK,
  Variables,
  variable,
  writeSafetensors,
} from "../src/index.ts";
import { caseOutputs, cases } from "../src/ops/cases.ts";
import { ramp, relativeError, webgpuMissing } from "../src/testing/index.ts";

const missing = webgpuMissing();
const every = Object.entries(cases).flatMap(([op, list]) => list.map((c, i) => ({ name: `${op} ${i}`, c })));

describe.skipIf(missing)("webgpu", () => {
  let runtime: Runtime;
  beforeAll(async () => {
    runtime = await startRuntime({ device: "webgpu" });
  });
  afterAll(() => runtime?.close());

  async function run(outputs: Record<string, Tensor>): Promise<Record<string, Float32Array | Int32Array>> {
    const program = await runtime.compile({ outputs });
    const results = await program.run();
    await program.release();
    return results;
  }

  test.each(every)("$name: value and gradient are the CPU's, and no node runs there", async ({ c }) => {
    const outputs = caseOutputs(c);
    const [ours, cpu] = [await run(outputs), await evaluate(outputs)];
    for (const key of Object.keys(outputs)) {
      expect(ours[key]).toHaveLength(cpu[key]!.length);
      expect(relativeError(ours[key] as Float32Array, cpu[key]!), key).toBeLessThan(5e-6);
    }
  });

  test("sine and cosine are right up to the last timestep", async () => {
    const x = Float32Array.from({ length: 2001 }, (_, i) => i - 1000 + 0.37);
    const r = await run({ sin: sin(constant(x)), cos: cos(constant(x)) });
    for (const [i, at] of x.entries()) {
      expect(Math.abs(r.sin![i]! - Math.sin(at))).toBeLessThan(3e-7);
      expect(Math.abs(r.cos![i]! - Math.cos(at))).toBeLessThan(3e-7);
    }
  });

  test("products and sums of many numbers are made in parts", async () => {
    const [x, dy] = [constant(ramp(3 * 5 * 900, 1), [3, 5, 30, 30]), constant(ramp(3 * 4 * 900, 1), [3, 4, 30, 30])];
    const outputs: Record<string, Tensor> = {
      weight: conv2dWeightGrad(x, dy, [4, 5, 3, 3], { stride: 1, padding: 1 }),
      strided: conv2dWeightGrad(x, slice(dy, [0, 0], [15, 15], [2, 3]), [4, 5, 3, 3], { stride: 2, padding: 1 }),
      pointwise: conv2dWeightGrad(x, dy, [4, 5, 1, 1], { stride: 1, padding: 0 }),
      dense: matmul(reshape(x, [2700, 5]), reshape(dy, [2700, 4]), { transA: true, alpha: 0.5 }),
      bias: sum(dy, [0, 2, 3]),
      mean: mean(x, [0, 1, 2], true),
      max: max(x),
      square: dot(x, x),
    };
    const [ours, cpu] = [await run(outputs), await evaluate(outputs)];
    for (const key of Object.keys(outputs))
      expect(relativeError(ours[key] as Float32Array, cpu[key]!), key).toBeLessThan(2e-6);
  });

  test("indices of the largest: the first of ties, along any axis", async () => {
    const x = constant([5, 1, 5, 2, 1, 1, 1, 1, -3, -1, -2, -1], [3, 4]);
    const r = await run({ rows: argMax(x), columns: argMax(x, 0), top: topK(x, 3).indices });
    expect(r.rows).toEqual(Int32Array.of(0, 0, 1));
    expect(r.columns).toEqual(Int32Array.of(0, 0, 0, 0));
    expect(r.top).toEqual(Int32Array.of(0, 2, 3, 0, 1, 2, 1, 3, 2));
  });

  test("weights of 32 and of 16 bits are read from their file", async () => {
    const folder = mkdtempSync(join(tmpdir(), "webgpu-"));
    const path = join(folder, "w.safetensors");
    const values = ramp(12, 7);
    const half = Uint16Array.from(new Uint32Array(values.buffer), (bits) => bits >>> 16);
    const shape = [3, 4];
    writeSafetensors(path, {
      f32: { dtype: "F32", shape, data: values },
      f16: { dtype: "F16", shape, data: toFloat16(values) },
      bf16: { dtype: "BF16", shape, data: half },
    });
    const w = openWeights([path]).weights();
    const x = constant(ramp(8, 3), [2, 4]);
    const outputs = Object.fromEntries(["f32", "f16", "bf16"].map((k) => [k, linear(x, w.get(k, shape))]));
    const [ours, cpu] = [await run(outputs), await evaluate(outputs)];
    for (const key of Object.keys(outputs))
      expect(relativeError(ours[key] as Float32Array, cpu[key]!)).toBeLessThan(1e-6);
    rmSync(folder, { recursive: true });
  });

  test("variables are written, updated by runs and read, by programs that share them", async () => {
    const v = variable("counter", [2, 2]);
    await runtime.write({ counter: Float32Array.of(1, 2, 3, 4) }, { counter: [2, 2] });
    const twice = await runtime.compile({ outputs: { total: sum(v) }, updates: [[v, mul(v, 2)]] });
    const look = await runtime.compile({ outputs: { v } });
    for (const total of [10, 20, 40]) expect((await twice.run()).total![0]).toBe(total);
    expect((await look.run()).v).toEqual(Float32Array.of(8, 16, 24, 32));
    expect((await runtime.read(["counter"])).counter).toEqual(Float32Array.of(8, 16, 24, 32));
    await runtime.write({ counter: Float32Array.of(1, 1, 1, 1) }, { counter: [2, 2] });
    expect((await look.run()).v).toEqual(Float32Array.of(1, 1, 1, 1));
    await twice.run();
    await twice.release(); // what it made outlives it
    expect((await look.run()).v).toEqual(Float32Array.of(2, 2, 2, 2));
    expect((await runtime.read(["counter"])).counter).toEqual(Float32Array.of(2, 2, 2, 2));
    await runtime.write({ counter: Float32Array.of(3, 3, 3, 3) }, { counter: [2, 2] });
    expect((await look.run()).v).toEqual(Float32Array.of(3, 3, 3, 3));
    await expect(runtime.read(["nothing"])).rejects.toThrow(/"nothing".*E_VARIABLE/);
  });

  test("AdamW with clipping, decay and averages takes the CPU's steps", async () => {
    const cpu = await startRuntime();
    const found = await Promise.all([steps(runtime), steps(cpu)]);
    await cpu.close();
    const [ours, theirs] = found as [Record<string, Float32Array>, Record<string, Float32Array>];
    for (const [name, values] of Object.entries(theirs))
      expect(relativeError(ours[name]!, values), name).toBeLessThan(1e-4);
  });
});

/** Six steps of a small network; the losses, and all variables afterwards. */
async function steps(runtime: Runtime): Promise<Record<string, Float32Array>> {
  const w = new Variables({ seed: 3 });
  const table = w.get("table", [5, 6]);
  const hidden = silu(linear(gather(table, input("ids", [4], "int32")), w.get("w1", [8, 6]), w.get("b1", [8])));
  const y = linear(hidden, w.get("w2", [2, 8]));
  const loss = mean(square(sub(y, cast(input("target", [4, 2]), "float32"))));
  const options = { maxGradNorm: 0.05, weightDecay: 0.1, emaDecay: 0.8 };
  const optimizer = adamW(w.all(), grad(loss, w.all()), options);
  await w.load(runtime);
  await resetState(runtime, optimizer);
  for (const t of w.all()) {
    const start = await runtime.read([leafName(t)]);
    await runtime.write({ [`ema.${leafName(t)}`]: start[leafName(t)]! }, { [`ema.${leafName(t)}`]: t.shape });
  }
  const program = await runtime.compile({ outputs: { loss }, updates: optimizer.updates });
  const losses: number[] = [];
  for (let step = 1; step <= 6; step++) {
    const feeds = { ids: Int32Array.of(0, 4, 4, step % 5), target: ramp(8, step), ...optimizer.feeds(step, 1e-2) };
    losses.push((await program.run(feeds)).loss![0]!);
  }
  const values = await runtime.read(optimizer.updates.map(([v]) => leafName(v)));
  return { ...values, losses: Float32Array.from(losses) };
}

test.runIf(devices().includes("webgpu") && process.platform === "linux")(
  "without a GPU, one line says so, and what to do",
  async () => {
    const before = { ...process.env };
    Object.assign(process.env, { VK_ICD_FILENAMES: "/nowhere.json", VK_DRIVER_FILES: "/nowhere.json" });
    const started = startRuntime({ device: "webgpu" });
    await expect(started).rejects.toMatchObject({ code: "E_DEVICE" });
    await expect(started).rejects.toThrow(
      /^device "webgpu": needed a GPU .*, found none \(.*\)\. Install .* \[E_DEVICE\]$/,
    );
    for (const key of ["VK_ICD_FILENAMES", "VK_DRIVER_FILES"])
      if (before[key] === undefined) delete process.env[key];
      else process.env[key] = before[key];
  },
);

/** Invariants of the dual path (Eq. 5) that hold whatever the weights. */
import {
  attentionMatrices,
  loadModel,
  resnetConvolutions,
  tokenTable,
  unet2DConditionModel,
} from "@likeness/diffusion";
import {
  add,
  constant,
  counterRandom,
  evaluate,
  gather,
  matmul,
  mul,
  reshape,
  size,
  sub,
  type Tensor,
  transpose,
  view,
  type Weights,
} from "@likeness/engine";
import { FIXTURES, relativeError } from "@likeness/engine/testing";
import { describe, expect, test } from "vitest";
import type { Factors } from "./losses.ts";
import { personalText } from "./personal-text.ts";
import { personalUNet } from "./personal-unet.ts";

describe.each(["sd1", "sd2"])("%s", (name) => {
  const model = loadModel(`${FIXTURES}/models/${name}`);
  const { weights, config } = model.unet;
  const matrices = attentionMatrices(config);
  const random = counterRandom(3);
  const normal = (shape: readonly number[], std: number = 1): Tensor =>
    constant(
      random.normal(size(shape)).map((x) => x * std),
      shape,
    );
  const B = 2;
  const RANK = 2;
  const sample = normal([B, 4, 8, 8]);
  const timestep = constant([250, 801]);
  const length = 6;
  const text = model.textEncoder;
  const prompt = {
    ids: constant(
      Int32Array.from({ length: B * length }, (_, i) => 3 + ((i * 7) % 20)),
      [B, length],
    ),
    mask: constant([0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0], [B, length]),
  };
  const row = gather(tokenTable(text.weights, text.config), constant(Int32Array.of(11)));
  const v = add(row, normal([1, text.config.hidden_size], 0.3));
  const hardContext = personalText(text.weights, text.config, prompt, row);
  const softContext = personalText(text.weights, text.config, prompt, v);
  const factors = matrices.map(({ dIn, dOut }) => ({ a: normal([dIn, RANK]), b: normal([RANK, dOut], 0.3) }));
  const nothing = factors.map(({ a, b }) => ({ a, b: mul(b, 0) }));
  const resnets = resnetConvolutions(model);
  const convolutions = resnets.map(({ shape: [out, ...inputs] }) => ({
    a: normal([RANK, ...inputs], 0.3),
    b: normal([out!, RANK, 1, 1], 0.3),
  }));
  const perSample = matrices.map(({ dIn, dOut }) => ({ a: normal([B, dIn, RANK]), b: normal([B, RANK, dOut], 0.3) }));

  /** The dual path with changes of convolutions beside those of attention. */
  const convolved = (alpha: number | Tensor, scale: number = 1, factors_: readonly Factors[] = convolutions): Tensor =>
    personalUNet(model, {
      ...{ sample, timestep, softContext, hardContext, factors, scale: 1, alpha },
      convolutions: { factors: factors_, scale },
    });

  const plain = (w: Weights, context: Tensor): Tensor =>
    unet2DConditionModel(w, config, { sample, timestep, encoderHiddenStates: context });
  const dual = (
    alpha: number | Tensor,
    f: readonly Factors[] = factors,
    soft: Tensor = softContext,
    scale: number = 1,
  ): Tensor => personalUNet(model, { sample, timestep, softContext: soft, hardContext, factors: f, scale, alpha });

  /** The base weights with W + s·(AB)ᵀ made in full (torch keeps W transposed). */
  const merged = (f: readonly Factors[], scale: number): Weights => {
    const at = new Map(matrices.map(({ path }, i) => [`${path}.weight`, f[i]!]));
    return view({
      has: (key) => weights.has(key),
      get: (key, shape) => {
        const w = weights.get(key, shape);
        const change = at.get(key);
        return change ? add(w, mul(transpose(matmul(change.a, change.b), [1, 0]), scale)) : w;
      },
    });
  };

  /** Largest relative difference between two tensors. */
  const difference = async (x: Tensor, y: Tensor): Promise<number> => {
    const found = await evaluate({ x, y });
    return relativeError(found.x, found.y);
  };

  test.each([0, 0.25, 1])("zero offsets and v = v_h give the vanilla output at alpha %d", async (alpha) => {
    expect(await difference(dual(alpha, nothing, hardContext), plain(weights, hardContext))).toBeLessThan(1e-6);
  });

  test("alpha 0 is the vanilla output of the hard prompt, bit for bit", async () => {
    expect(await difference(dual(0), plain(weights, hardContext))).toBe(0);
  });

  test("alpha 1 is plain LoRA with the learnt word; weights merged with the offsets give the same", async () => {
    const [side, whole] = [dual(1, factors, softContext, 0.7), plain(merged(factors, 0.7), softContext)];
    expect(await difference(side, whole)).toBeLessThan(1e-5);
  });

  test("the concept matters, and each branch does", async () => {
    expect(await difference(dual(0.25), plain(weights, hardContext))).toBeGreaterThan(1e-2);
    expect(await difference(dual(0.25), dual(0.25, factors, hardContext))).toBeGreaterThan(1e-3);
    expect(await difference(dual(0.25), dual(0.25, nothing))).toBeGreaterThan(1e-3);
  });

  test("factors of each sample are those of that sample", async () => {
    const one = (i: number): Factors[] =>
      perSample.map(({ a, b }) => {
        const of = (t: Tensor): Tensor => {
          const n = size(t.shape) / B;
          return constant((t.node.attrs.data as Float32Array).subarray(i * n, (i + 1) * n), t.shape.slice(1));
        };
        return { a: of(a), b: of(b) };
      });
    const found = await evaluate({
      both: dual(0.25, perSample),
      first: dual(0.25, one(0)),
      second: dual(0.25, one(1)),
    });
    const half = found.both.length / 2;
    expect(relativeError(found.both.subarray(0, half), found.first.subarray(0, half))).toBeLessThan(1e-5);
    expect(relativeError(found.both.subarray(half), found.second.subarray(half))).toBeLessThan(1e-5);
  });

  test("a share for each of the batch is that of each alone", async () => {
    const found = await evaluate({
      both: dual(constant([0, 0.6])),
      vanilla: plain(weights, hardContext),
      soft: dual(0.6),
    });
    const half = found.both.length / 2;
    expect(relativeError(found.both.subarray(0, half), found.vanilla.subarray(0, half))).toBeLessThan(1e-5);
    expect(relativeError(found.both.subarray(half), found.soft.subarray(half))).toBeLessThan(1e-5);
  });

  test("convolutions: alpha 0 is the vanilla output, no change that of attention alone", async () => {
    expect(await difference(convolved(0), plain(weights, hardContext))).toBe(0);
    const none = convolutions.map(({ a, b }) => ({ a, b: mul(b, 0) }));
    expect(await difference(convolved(0.25, 1, none), dual(0.25))).toBe(0);
    expect(await difference(convolved(0.25), dual(0.25))).toBeGreaterThan(1e-2);
  });

  test("convolutions: their weights with a share of the changes merged give the same, in both branches", async () => {
    const [alpha, scale] = [0.25, 0.7];
    const full = new Map<string, Tensor>(
      resnets.map(({ path, shape }, i) => {
        const { a, b } = convolutions[i]!;
        const flat = matmul(reshape(b, [shape[0]!, RANK]), reshape(a, [RANK, -1]), { alpha: alpha * scale });
        return [`${path}.weight`, reshape(flat, shape)] as const;
      }),
    );
    const merged = view({
      has: (key) => weights.has(key),
      get: (key, shape) => {
        const w = weights.get(key, shape);
        return full.has(key) ? add(w, full.get(key)!) : w;
      },
    });
    const other = { ...model, unet: { ...model.unet, weights: merged } };
    const inputs = { sample, timestep, softContext, hardContext, factors, scale: 1, alpha };
    expect(await difference(convolved(alpha, scale), personalUNet(other, inputs))).toBeLessThan(1e-5);
  });

  test("convolutions: a share for each of the batch is that of each alone", async () => {
    const found = await evaluate({
      both: convolved(constant([0, 0.6]), 0.7),
      vanilla: plain(weights, hardContext),
      soft: convolved(0.6, 0.7),
    });
    const half = found.both.length / 2;
    expect(relativeError(found.both.subarray(0, half), found.vanilla.subarray(0, half))).toBeLessThan(1e-5);
    expect(relativeError(found.both.subarray(half), found.soft.subarray(half))).toBeLessThan(1e-5);
  });

  test("one path with a·(v − v_h) and a·AB comes near, in proportion to the offsets' size", async () => {
    const a = 0.25;
    const errors: number[] = [];
    for (const e of [1, 0.1, 0.01]) {
      const small = factors.map(({ a, b }) => ({ a, b: mul(b, e) }));
      const word = (share: number): Tensor =>
        personalText(text.weights, text.config, prompt, add(row, mul(sub(v, row), share * e)));
      const two = dual(a, small, word(1));
      const flat = dual(
        1,
        small.map(({ a: down, b }) => ({ a: down, b: mul(b, a) })),
        word(a),
      );
      const found = await evaluate({ two, flat, base: plain(weights, hardContext) });
      const change = found.two.map((x, i) => x - found.base[i]!);
      errors.push(
        relativeError(
          found.flat.map((x, i) => x - found.base[i]!),
          change,
        ),
      ); // prettier-ignore
    }
    expect(errors[0]!).toBeGreaterThan(0.05);
    expect(errors[1]!).toBeLessThan(errors[0]! / 3);
    expect(errors[2]!).toBeLessThan(errors[1]! / 3);
  });
});

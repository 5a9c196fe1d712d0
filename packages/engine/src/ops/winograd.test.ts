import { expect, test } from "vitest";
import { constant, defineOp1 } from "../core/op.ts";
import { size } from "../core/shape.ts";
import type { Shape, Tensor } from "../core/tensor.ts";
import { counterRandom } from "../random/index.ts";
import { evaluate } from "../runtime/runtime.ts";
import { relativeError } from "../testing/index.ts";
import { conv2d, conv2dInputGrad } from "./index.ts";
import { winograd } from "./winograd.ts";

/** Every so many result channels are compared, whole. */
const EVERY = 10;
const some = (y: ArrayLike<number>, channels: number, plane: number): Float32Array =>
  Float32Array.from(y).filter((_, i) => (Math.floor(i / plane) % channels) % EVERY === 0);

/** Σ w[o, c, i, j] · x[b, c, y + i − 1, x + j − 1] in float64; `transposed`: the same terms, from the result's place. */
function plainConvolution(x: Float32Array, w: Float32Array, shape: Shape, [o, c]: number[], transposed: boolean) {
  const [b, from, h, wd] = shape as [number, number, number, number];
  const to = transposed ? c! : o!;
  const y = new Float64Array(b * to * h * wd);
  for (let n = 0; n < b; n++)
    for (let t = 0; t < to; t += EVERY)
      for (let f = 0; f < from; f++)
        for (let i = -1; i < 2; i++)
          for (let j = -1; j < 2; j++) {
            const tap = transposed ? 4 - 3 * i - j + 9 * (f * c! + t) : 4 + 3 * i + j + 9 * (t * c! + f);
            for (let r = Math.max(0, -i); r < h - Math.max(0, i); r++)
              for (let s = Math.max(0, -j); s < wd - Math.max(0, j); s++)
                y[((n * to + t) * h + r) * wd + s]! += w[tap]! * x[((n * from + f) * h + r + i) * wd + s + j]!;
          }
  return some(y, to, h * wd);
}

const draw = (name: string, shape: Shape): Tensor => constant(counterRandom(1, name).normal(size(shape)), shape);
const valuesOf = (t: Tensor): Float32Array => t.node.attrs.data as Float32Array;

test.each([
  [1, 256, 260, 24],
  [2, 264, 256, 16],
])(
  "a large picture's convolution and its gradient are the sums they stand for: %i x %i to %i at %i",
  async (b, c, o, side) => {
    const [x, w, bias, dy] = [
      draw("x", [b, c, side, side]),
      draw("w", [o, c, 3, 3]),
      draw("bias", [o]),
      draw("dy", [b, o, side, side]),
    ] as const;
    const r = await evaluate({
      y: conv2d(x, w, bias, { padding: 1 }),
      dx: conv2dInputGrad(dy, w, x.shape, { stride: 1, padding: 1 }),
    });
    const y = plainConvolution(valuesOf(x), valuesOf(w), x.shape, [o, c], false);
    const shifts = some(
      Float32Array.from({ length: b * o * side ** 2 }, (_, i) => valuesOf(bias)[Math.floor(i / side ** 2) % o]!),
      o,
      side ** 2,
    );
    expect(
      relativeError(
        some(r.y!, o, side ** 2),
        y.map((v, i) => v + shifts[i]!),
      ),
    ).toBeLessThan(2e-5);
    const dx = plainConvolution(valuesOf(dy), valuesOf(w), dy.shape, [o, c], true);
    expect(relativeError(some(r.dx!, c, side ** 2), dx)).toBeLessThan(2e-5);
  },
);

test("kernels and pictures in parts give the same", async () => {
  const whole = { kernelBytes: 1e9, pictureBytes: 1e9 };
  const inParts = { kernelBytes: 36 * 4 * 8 * 3, pictureBytes: 36 * 4 * 8 * 6 * 2 };
  for (const transposed of [false, true]) {
    const op = defineOp1<{ limits: typeof whole } & Record<string, unknown>>({
      name: "winograd",
      infer: ([x], _) => ({ shape: [2, transposed ? 8 : 10, 20, 24], dtype: x!.dtype }),
      lower: (g, names, { attrs, inputs }) =>
        winograd(g, names, inputs[0]!.shape, inputs[1]!.shape, { transposed, ...attrs.limits }),
    });
    const leaves = [draw("x", [2, transposed ? 10 : 8, 20, 24]), draw("w", [10, 8, 3, 3])];
    const r = await evaluate({ a: op(leaves, { limits: whole }), b: op(leaves, { limits: inParts }) });
    const wanted = plainConvolution(valuesOf(leaves[0]!), valuesOf(leaves[1]!), leaves[0]!.shape, [10, 8], transposed);
    expect(relativeError(some(r.a!, transposed ? 8 : 10, 20 * 24), wanted)).toBeLessThan(2e-5);
    expect(relativeError(r.b!, r.a!)).toBeLessThan(2e-5);
  }
});

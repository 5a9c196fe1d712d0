import { expect, test } from "vitest";
import { input } from "../core/leaves.ts";
import { constant } from "../core/op.ts";
import { size } from "../core/shape.ts";
import { ancestors, type Tensor } from "../core/tensor.ts";
import { counterRandom } from "../random/index.ts";
import { evaluate } from "../runtime/runtime.ts";
import { vjpError } from "../testing/index.ts";
import { checkpoint, grad } from "../transforms/grad.ts";
import { caseInputs, cases } from "./cases.ts";
import { abs, add, concat, conv2d, div, matmul, max, mul, silu, slice, sub, sum } from "./index.ts";

const every = Object.entries(cases).flatMap(([op, list]) => list.map((c, i) => ({ name: `${op} ${i}`, c })));

test.each(every.filter(({ c }) => !c.constant))("$name: the vjp is the slope", async ({ c }) => {
  expect(await vjpError(c.f, caseInputs(c))).toBeLessThan(2e-3);
});

test.each(every.filter(({ c }) => c.constant))("$name: runs, and has no gradient", async ({ c }) => {
  const xs = caseInputs(c);
  const { y } = await evaluate({ y: sum(c.f(...xs)) });
  expect(Number.isFinite(y[0])).toBe(true);
});

test.each(every.filter(({ c }) => !c.constant))("$name: checkpointing changes nothing", async ({ c }) => {
  const xs = caseInputs(c);
  const moving = xs.filter((x) => x.dtype === "float32");
  const loss = (wrap: <T>(f: () => T) => T) => {
    const y = wrap(() => c.f(...xs));
    return sum(mul(y, add(y, 1)));
  };
  const plain = grad(
    loss((f) => f()),
    moving,
  );
  const again = grad(loss(checkpoint), moving);
  const all = Object.fromEntries([...plain.map((g, i) => [`p${i}`, g]), ...again.map((g, i) => [`c${i}`, g])]);
  const r = await evaluate(all);
  for (const i of plain.keys()) expect(r[`c${i}`]).toEqual(r[`p${i}`]);
});

test("a batch convolves as its pictures do, whichever way its size takes on the CPU", async () => {
  for (const [b, side] of [
    [4, 8], // pictures stacked, taps in one product
    [4, 12], // pictures apart, taps in one
    [40, 32], // pictures apart, a product per tap
  ] as const) {
    const random = counterRandom(1, `batch ${b}`);
    const [x, w, dy] = [
      [b, 20, side, side],
      [18, 20, 3, 3],
      [b, 18, side, side],
    ].map((shape) => constant(random.normal(size(shape)), shape)) as [Tensor, Tensor, Tensor];
    const conv = (x: Tensor): Tensor => conv2d(x, w, undefined, { padding: 1 });
    const gradients = (x: Tensor, dy: Tensor): Tensor[] => grad(sum(mul(conv(x), dy)), [x, w]);
    const parts = Array.from(
      { length: b },
      (_, i) => [x, dy].map((t) => slice(t, [i], [i + 1], [0])) as [Tensor, Tensor],
    );
    const [dx, dw] = gradients(x, dy) as [Tensor, Tensor];
    const apart = parts.map(([x, dy]) => gradients(x, dy));
    const off = (a: Tensor, b: Tensor): Tensor => div(max(abs(sub(a, b))), max(abs(b)));
    const all = (list: Tensor[]): Tensor => concat(list, 0);
    const { y, gx, gw } = await evaluate({
      y: off(conv(x), all(parts.map(([x]) => conv(x)))),
      gx: off(dx, all(apart.map(([g]) => g!))),
      gw: off(dw, apart.map(([, g]) => g!).reduce(add)),
    });
    for (const error of [y, gx, gw]) expect(error![0]).toBeLessThan(3e-6);
  }
});

test("a checkpoint keeps the results of what is dearer than it says", () => {
  const x = input("x", [4, 8]);
  const w = input("w", [8, 8]); // 8 multiply-adds for each float: 4 FLOPs per byte
  const products = (upTo: number): number => {
    const y = checkpoint(() => sum(silu(matmul(silu(matmul(silu(x), w)), w))), upTo);
    return ancestors([y, ...grad(y, [x])]).filter((n) => n.op.name === "gemm").length;
  };
  expect([0, 3.9, 4, Number.POSITIVE_INFINITY].map(products)).toEqual([4, 4, 6, 6]);
});

/**
 * How near 3×3 convolutions and their gradients come to the machine's matrix-product peak.
 *
 *     node --import tsx bench/conv.ts [--shapes 32x128x128x8,...] [--runs 9]
 *
 * A shape is batch x input channels x output channels x side. Prints GFLOP/s of forward, gradient to the input and gradient
 * to the weight (medians), and what share each is of a 2048-wide product measured between them.
 */
import { parseArgs } from "node:util";
import {
  conv2d,
  counterRandom,
  grad,
  input,
  matmul,
  mul,
  type Program,
  type Runtime,
  startRuntime,
  sum,
  type Tensor,
} from "../packages/engine/src/index.ts";

const { values } = parseArgs({
  options: {
    shapes: {
      type: "string",
      default: "32x64x64x16,32x128x128x16,32x128x128x8,32x256x128x8,32x128x128x4,1x320x320x64,1x1280x1280x8",
    },
    runs: { type: "string", default: "9" },
  },
});
const median = (list: readonly number[]): number => [...list].sort((a, b) => a - b)[list.length >> 1]!;
const random = counterRandom(1, "bench/conv");

interface Case {
  readonly name: string;
  readonly flops: number;
  readonly program: Program;
  readonly feeds: Readonly<Record<string, Float32Array>>;
  readonly ms: number[];
}

/** A program that computes y from inputs of the given shapes; its output is one number, so that nothing large is copied. */
async function prepare(
  runtime: Runtime,
  name: string,
  flops: number,
  shapes: Readonly<Record<string, readonly number[]>>,
  f: (inputs: Readonly<Record<string, Tensor>>) => Tensor,
): Promise<Case> {
  const inputs = Object.fromEntries(Object.entries(shapes).map(([key, shape]) => [key, input(key, shape)]));
  const feeds = Object.fromEntries(
    Object.entries(shapes).map(([key, shape]) => [key, random.normal(shape.reduce((a, b) => a * b, 1))]),
  );
  const program = await runtime.compile({ outputs: { y: sum(f(inputs)) } });
  return { name, flops, program, feeds, ms: [] };
}

const runtime = await startRuntime();
const side = 2048;
const product = await prepare(runtime, `matmul ${side}`, 2 * side ** 3, { a: [side, side], b: [side, side] }, (t) =>
  matmul(t.a!, t.b!),
);
console.log("shape                     forward        d input       d weight   (GFLOP/s, share of the peak)");
for (const shape of values.shapes.split(",")) {
  const [b, c, o, n] = shape.split("x").map(Number) as [number, number, number, number];
  const flops = 2 * b * c * o * 9 * n * n;
  const shapes = { x: [b, c, n, n], w: [o, c, 3, 3] };
  const dy = [b, o, n, n];
  const conv = (t: Readonly<Record<string, Tensor>>): Tensor => conv2d(t.x!, t.w!, undefined, { padding: 1 });
  const gradient = (of: "x" | "w") => (t: Readonly<Record<string, Tensor>>) =>
    grad(sum(mul(conv(t), t.dy!)), [t[of]!])[0]!;
  const cases = [
    await prepare(runtime, "forward", flops, shapes, conv),
    await prepare(runtime, "d input", flops, { ...shapes, dy }, gradient("x")),
    await prepare(runtime, "d weight", flops, { ...shapes, dy }, gradient("w")),
  ];
  product.ms.length = 0;
  for (let run = 0; run <= Number(values.runs); run++)
    for (const each of [...cases, product]) {
      const since = performance.now();
      await each.program.run(each.feeds);
      if (run > 0) each.ms.push(performance.now() - since);
    }
  const rate = ({ flops, ms }: Case): number => flops / median(ms) / 1e6;
  const cells = cases.map(
    (each) => `${rate(each).toFixed(0).padStart(6)} (${((100 * rate(each)) / rate(product)).toFixed(0)} %)`,
  );
  console.log(
    `${shape.padEnd(20)}${cells.map((cell) => cell.padStart(15)).join("")}   peak ${rate(product).toFixed(0)}`,
  );
  for (const { program } of cases) await program.release();
}
await runtime.close();

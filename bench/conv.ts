/**
 * How near 3×3 convolutions and their gradients come to the machine's matrix-product peak.
 *
 *     node --import tsx bench/conv.ts [--shapes 32x128x128x8,...] [--runs 9]
 *
 * A shape is batch x input channels x output channels x side. Prints GFLOP/s of ONNX Runtime's own Conv, and of our forward,
 * gradient to the input and gradient to the weight (medians), and what share each is of a 2048-wide product measured
 * between them. The FLOPs are those of the definition: Winograd's form does a quarter of them, and may pass the peak.
 */
import { parseArgs } from "node:util";
import {
  add,
  conv2d,
  conv2dInputGrad,
  conv2dWeightGrad,
  counterRandom,
  defineOp1,
  matmul,
  type Program,
  type Runtime,
  startRuntime,
  sum,
  type Tensor,
  variable,
} from "../packages/engine/src/index.ts";

const { values } = parseArgs({
  options: {
    shapes: {
      type: "string",
      default:
        "32x64x64x16,32x128x128x16,32x128x128x8,32x256x128x8,32x128x128x4,1x320x320x64,1x640x640x32,2x1280x1280x16,1x1280x1280x8",
    },
    runs: { type: "string", default: "9" },
  },
});
const median = (list: readonly number[]): number => [...list].sort((a, b) => a - b)[list.length >> 1]!;
const random = counterRandom(1, "bench/conv");
let prepared = 0;

interface Case {
  readonly name: string;
  readonly flops: number;
  readonly program: Program;
  readonly ms: number[];
}

/** How much a program does, so that starting it costs little beside it. */
const WORK = 6e9;

/**
 * A program that computes y some times over, each from values of its own; they stay where it runs, and one number comes
 * back.
 */
async function prepare(
  runtime: Runtime,
  name: string,
  flops: number,
  shapes: Readonly<Record<string, readonly number[]>>,
  f: (leaves: Readonly<Record<string, Tensor>>) => Tensor,
): Promise<Case> {
  const times = Math.ceil(WORK / flops);
  const results: Tensor[] = [];
  for (let i = 0; i < times; i++) {
    const prefix = `${++prepared}.`;
    const leaves = Object.fromEntries(
      Object.entries(shapes).map(([key, shape]) => [key, variable(prefix + key, shape)]),
    );
    for (const [key, shape] of Object.entries(shapes))
      await runtime.write(
        { [prefix + key]: random.normal(shape.reduce((a, b) => a * b, 1)) },
        { [prefix + key]: shape },
      );
    results.push(sum(f(leaves)));
  }
  const program = await runtime.compile({ outputs: { y: results.reduce(add) } });
  return { name, flops: times * flops, program, ms: [] };
}

/** ONNX Runtime's Conv as it is. */
const conv = defineOp1<Record<string, never>>({
  name: "conv",
  infer: ([x, w]) => ({ shape: [x!.shape[0]!, w!.shape[0]!, ...x!.shape.slice(2)], dtype: x!.dtype }),
  lower: (g, names) => g.add("Conv", names, { kernel_shape: [3, 3], pads: [1, 1, 1, 1] }),
});

const runtime = await startRuntime();
const side = 2048;
const product = await prepare(runtime, `matmul ${side}`, 2 * side ** 3, { a: [side, side], b: [side, side] }, (t) =>
  matmul(t.a!, t.b!),
);
console.log(
  "shape                        Conv        forward        d input       d weight   (GFLOP/s, share of the peak)",
);
for (const shape of values.shapes.split(",")) {
  const [b, c, o, n] = shape.split("x").map(Number) as [number, number, number, number];
  const flops = 2 * b * c * o * 9 * n * n;
  const shapes = { x: [b, c, n, n], w: [o, c, 3, 3] };
  const dy = [b, o, n, n];
  const same = { stride: 1, padding: 1 };
  const cases = [
    await prepare(runtime, "Conv", flops, shapes, (t) => conv([t.x!, t.w!], {})),
    await prepare(runtime, "forward", flops, shapes, (t) => conv2d(t.x!, t.w!, undefined, same)),
    await prepare(runtime, "d input", flops, { w: shapes.w, dy }, (t) => conv2dInputGrad(t.dy!, t.w!, shapes.x, same)),
    await prepare(runtime, "d weight", flops, { x: shapes.x, dy }, (t) =>
      conv2dWeightGrad(t.x!, t.dy!, shapes.w, same),
    ),
  ];
  product.ms.length = 0;
  for (let run = 0; run <= Number(values.runs); run++)
    for (const each of [...cases, product]) {
      const since = performance.now();
      await each.program.run({});
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

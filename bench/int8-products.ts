/**
 * Products with frozen weights in 8 bits beside whole ones, in turn, with all that turns numbers into bytes and back:
 *
 *     node --import tsx bench/int8-products.ts [ROUNDS]
 *
 * GFLOP/s by the FLOPs of the definition, medians.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  conv2d,
  counterRandom,
  int8Weights,
  leafName,
  linear,
  openWeights,
  size,
  startRuntime,
  sum,
  type Tensor,
  variable,
  type Weights,
  writeSafetensors,
} from "../packages/engine/src/index.ts";

/** Shapes of x and w in the UNet of Stable Diffusion 1.5 at 512 pixels. */
const PRODUCTS: readonly (readonly [x: readonly number[], w: readonly number[]])[] = [
  [
    [4096, 320],
    [320, 320],
  ],
  [
    [4096, 320],
    [2560, 320],
  ],
  [
    [4096, 1280],
    [320, 1280],
  ],
  [
    [1024, 640],
    [5120, 640],
  ],
  [
    [256, 1280],
    [10240, 1280],
  ],
  [
    [1, 320, 64, 64],
    [320, 320, 3, 3],
  ],
  [
    [1, 960, 64, 64],
    [320, 960, 3, 3],
  ],
  [
    [1, 640, 32, 32],
    [640, 640, 3, 3],
  ],
  [
    [1, 1280, 16, 16],
    [1280, 1280, 3, 3],
  ],
];
const rounds = Number(process.argv[2] ?? 9);
const folder = mkdtempSync(join(tmpdir(), "int8-products-"));
process.env.XDG_CACHE_HOME = folder;
const runtime = await startRuntime({});
for (const [xShape, wShape] of PRODUCTS) {
  const path = join(folder, `${wShape.join("x")}.safetensors`);
  const random = counterRandom(1, "int8 products");
  writeSafetensors(path, { w: { dtype: "F32", shape: wShape, data: random.normal(size(wShape)) } });
  const whole = openWeights([path]).weights();
  const x = variable(`x ${xShape}`, xShape);
  const product = (w: Weights): Tensor =>
    wShape.length === 2 ? linear(x, w.get("w", wShape)) : conv2d(x, w.get("w", wShape), undefined, { padding: 1 });
  const y = product(whole);
  const flops = (2 * size(y.shape) * size(wShape)) / wShape[0]!;
  const programs = [];
  for (const w of [whole, int8Weights(whole)])
    programs.push(await runtime.compile({ outputs: { y: sum(product(w)) } }));
  await runtime.write({ [leafName(x)]: random.normal(size(xShape)) }, { [leafName(x)]: xShape });
  const seconds: number[][] = programs.map(() => []);
  for (let i = 0; i <= rounds; i++)
    for (const [k, program] of programs.entries()) {
      const since = performance.now();
      await program.run();
      if (i > 0) seconds[k]!.push((performance.now() - since) / 1000);
    }
  for (const program of programs) await program.release();
  const [w32, w8] = seconds.map((s) => flops / s.sort((a, b) => a - b)[s.length >> 1]! / 1e9) as [number, number];
  console.log(
    `${xShape.join("x")} by ${wShape.join("x")}: ${w32.toFixed(0)} whole, ${w8.toFixed(0)} in 8 bits, ${(w8 / w32).toFixed(2)}`,
  );
}
await runtime.close();
rmSync(folder, { recursive: true });

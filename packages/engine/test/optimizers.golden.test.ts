/** A toy network trained step by step beside PyTorch. */
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  adamW,
  add,
  attention,
  conv2d,
  grad,
  groupNorm,
  input,
  leafName,
  linear,
  mean,
  muon,
  type Optimizer,
  type Runtime,
  resetState,
  reshape,
  sgd,
  silu,
  square,
  startRuntime,
  sub,
  type Tensor,
  transpose,
  variable,
} from "../src/index.ts";
import { readGolden, relativeError } from "../src/testing/index.ts";

const golden = readGolden("train-toy");
const names = golden.keys.filter((k) => k.startsWith("init/")).map((k) => k.slice(5));
const {
  adamw,
  sgd: plain,
  muon: orthogonal,
} = JSON.parse(golden.metadata.options!) as Record<string, { lr: number; momentum: number; weight_decay: number }>;

function toyLoss(x: Tensor, target: Tensor, p: (name: string) => Tensor): Tensor {
  const normed = groupNorm(
    conv2d(x, p("conv1.weight"), p("conv1.bias"), { padding: 1 }),
    p("norm.weight"),
    p("norm.bias"),
    { groups: 4 },
  );
  const h = conv2d(silu(normed), p("conv2.weight"), p("conv2.bias"), { stride: 2, padding: 1 });
  const tokens = transpose(reshape(h, [4, 8, 16]), [0, 2, 1]);
  const heads = (name: string): Tensor => transpose(reshape(linear(tokens, p(name)), [4, 16, 2, 4]), [0, 2, 1, 3]);
  const mixed = attention(heads("to_q.weight"), heads("to_k.weight"), heads("to_v.weight"));
  const out = linear(reshape(transpose(mixed, [0, 2, 1, 3]), [4, 16, 8]), p("to_out.weight"), p("to_out.bias"));
  return mean(square(sub(linear(add(tokens, out), p("head.weight"), p("head.bias")), target)));
}

let runtime: Runtime;
beforeAll(async () => {
  runtime = await startRuntime({ threads: 1 }); // in a child process, as users run it
});
afterAll(() => runtime.close());

const optimizers: [string, number, (params: Tensor[], grads: Tensor[]) => Optimizer][] = [
  ["adamw", adamw!.lr, (p, g) => adamW(p, g, { weightDecay: adamw!.weight_decay })],
  ["sgd", plain!.lr, (p, g) => sgd(p, g, { momentum: plain!.momentum })],
  [
    "muon",
    orthogonal!.lr,
    (p, g) =>
      muon(p, g, {
        weightDecay: orthogonal!.weight_decay,
        momentum: orthogonal!.momentum,
        matrices: (_, shape) => shape.length > 1,
      }),
  ],
];

test.each(optimizers)("%s follows PyTorch for 20 steps, losses and parameters", async (name, lr, make) => {
  const params = new Map(names.map((n) => [n, variable(n, golden.shape(`init/${n}`))]));
  const all = [...params.values()];
  const loss = toyLoss(input("x", golden.shape("x")), input("target", golden.shape("target")), (n) => params.get(n)!);
  const optimizer = make(all, grad(loss, all));
  await runtime.write(
    Object.fromEntries(names.map((n) => [n, golden.floats(`init/${n}`)])),
    Object.fromEntries(names.map((n) => [n, golden.shape(`init/${n}`)])),
  );
  await resetState(runtime, optimizer);
  const program = await runtime.compile({ outputs: { loss }, updates: optimizer.updates });
  const losses: number[] = [];
  for (let step = 1; step <= 20; step++) {
    const r = await program.run({
      x: golden.floats("x"),
      target: golden.floats("target"),
      ...optimizer.feeds(step, lr),
    });
    losses.push(r.loss![0]!);
  }
  const wanted = golden.floats(`${name}/losses`);
  for (const [i, l] of losses.entries()) expect(Math.abs(l / wanted[i]! - 1), `step ${i + 1}`).toBeLessThan(1e-4);
  const values = await runtime.read(all.map(leafName));
  for (const n of names) expect(relativeError(values[n]!, golden.floats(`${name}/final/${n}`)), n).toBeLessThan(1e-3);
  await program.release();
});

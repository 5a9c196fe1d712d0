import { constant, evaluate, grad, leafName, mul, startRuntime, type Tensor, variable } from "@likeness/engine";
import { readGolden, relativeError } from "@likeness/engine/testing";
import { expect, test } from "vitest";
import { anchorL2, codebookLoss, contrastiveLoss, embeddingL2, nearestWord, offsetNorm, offsetsL2 } from "./losses.ts";

const golden = readGolden("losses");
const ablation = readGolden("evaluation");
const { k, tau } = JSON.parse(golden.metadata.settings!) as { k: number; tau: number };

/** Value and gradients of a loss at golden tensors, with the largest relative difference to the golden ones. */
async function worst(loss: Tensor, at: readonly Tensor[], key: string, gradients: readonly string[]): Promise<number> {
  const gs = Object.fromEntries(grad(loss, at).map((g, i) => [`g${i}`, g]));
  const found = await evaluate({ loss, ...gs } as Record<string, Tensor>);
  const errors = [relativeError(found.loss!, golden.floats(key))];
  for (const [i, name] of gradients.entries()) errors.push(relativeError(found[`g${i}`]!, golden.floats(name)));
  return Math.max(...errors);
}

test.each([
  ["eq3", 1e-5],
  ["eq3_large", 1e-4], // dot products of 1e4 lose four digits
])("Eq. 3 and its gradient as torch has them: %s", async (name, tolerance) => {
  const v = golden.tensor(`${name}/v`);
  const loss = contrastiveLoss(v, golden.tensor(`${name}/table`), { k, tau });
  expect(await worst(loss, [v], `${name}/loss`, [`${name}/dv`])).toBeLessThan(tolerance);
});

test("the nearest word is torch's first neighbour", async () => {
  const nearest = nearestWord(golden.tensor("eq3/v"), golden.tensor("eq3/table"));
  const found = await evaluate({ nearest });
  expect([...found.nearest]).toEqual([...golden.ints("eq3/neighbours")].filter((_, i) => i % k === 0));
});

test("the codebook loss and its gradient as torch has them", async () => {
  const v = ablation.tensor("codebook/v");
  const loss = codebookLoss(v, ablation.tensor("codebook/table"));
  const found = await evaluate({ loss, dv: grad(loss, [v])[0]! });
  expect(relativeError(found.loss, ablation.floats("codebook/loss"))).toBeLessThan(1e-6);
  expect(relativeError(found.dv, ablation.floats("codebook/dv"))).toBeLessThan(1e-5);
});

test("Eq. 4 and its gradient as torch has them", async () => {
  const v = golden.tensor("eq4/v");
  expect(await worst(embeddingL2(v), [v], "eq4/loss", ["eq4/dv"])).toBeLessThan(1e-6);
});

test.each(["l2", "anchor"] as const)("offset norms by Gram matrices as of whole products: %s", async (kind) => {
  const pairs = (suffix: string) =>
    [0, 1, 2].map((i) => ({
      a: golden.tensor(`offsets/A${suffix}/${i}`),
      b: golden.tensor(`offsets/B${suffix}/${i}`),
    }));
  const factors = pairs("");
  const loss = kind === "l2" ? offsetsL2(factors) : anchorL2(factors, pairs("0"));
  const names = factors.flatMap((_, i) => [`offsets/${kind}/dA/${i}`, `offsets/${kind}/dB/${i}`]);
  const leaves = factors.flatMap(({ a, b }) => [a, b]);
  expect(await worst(loss, leaves, `offsets/${kind}/mean`, names)).toBeLessThan(1e-5);
});

test("offsets with a batch axis: the mean over it", async () => {
  const [a, b] = [golden.tensor("offsets/A/0"), golden.tensor("offsets/B/0")];
  const twice = (t: Tensor): Tensor => mul(constant([1, 1], [2, 1, 1]), t);
  const found = await evaluate({ one: offsetNorm({ a, b }), two: offsetNorm({ a: twice(a), b: twice(b) }) });
  expect(found.two[0]!).toBeCloseTo(found.one[0]!, 4);
});

const rows = (values: readonly number[][]): Tensor => constant(values.flat(), [values.length, values[0]!.length]);

test("equal logits give ln((k + b − 1)/k)", async () => {
  const same = Array.from({ length: 16 }, () => [0.4, 0]);
  const words = Array.from({ length: 6 }, () => [0.4, 0]);
  for (const k of [4, 5]) {
    const { loss } = await evaluate({ loss: contrastiveLoss(rows(same), rows(words), { k, tau: 0.01 }) });
    expect(loss[0]!).toBeCloseTo(Math.log((k + 15) / k), 5);
  }
});

test("a batch of one gives 0, and no gradient", async () => {
  const v = rows([[0.3, -0.2]]);
  const loss = contrastiveLoss(
    v,
    rows([
      [0.1, 0.4],
      [0.2, -0.1],
      [-0.3, 0.2],
    ]),
    { k: 2, tau: 0.01 },
  ); // prettier-ignore
  const found = await evaluate({ loss, dv: grad(loss, [v])[0]! });
  expect([found.loss[0], ...found.dv]).toEqual([0, 0, 0]);
});

test("adding a constant to all logits changes nothing", async () => {
  // A coordinate that all words and predictions share adds its square over tau to every dot product. Neighbours by
  // cosine stay, because the other coordinates decide among equals.
  const at = (shared: number, xs: number[][]): Tensor => rows(xs.map((x) => [shared, ...x]));
  const v = [
    [0.3, 0],
    [0, 0.3],
    [-0.3, 0],
  ]; // prettier-ignore
  const words = [
    [0.4, 0],
    [0, 0.4],
    [-0.4, 0],
    [0, -0.4],
  ]; // prettier-ignore
  const loss = (shared: number): Tensor => contrastiveLoss(at(shared, v), at(shared, words), { k: 1, tau: 0.1 });
  const found = await evaluate({ none: loss(0), much: loss(3) });
  expect(found.much[0]!).toBeCloseTo(found.none[0]!, 4);
});

test("gradient reaches the other predictions and not the table", async () => {
  const table = variable("table", [4, 2]);
  const v = variable("v", [2, 2]);
  const loss = contrastiveLoss(v, table, { k: 1, tau: 0.1 });
  const [dv, dTable] = grad(loss, [v, table]) as [Tensor, Tensor];
  const runtime = await startRuntime({ inProcess: true });
  const values = { table: Float32Array.of(1, 0, 0, 1, -1, 0, 0, -1), v: Float32Array.of(0.3, 0, 0.2, 0.2) };
  await runtime.write(values, { [leafName(table)]: table.shape, [leafName(v)]: v.shape });
  const program = await runtime.compile({ outputs: { dv, dTable } });
  const found = await program.run();
  await program.release();
  // by hand: with one neighbour, loss_i = softplus(n − p), n = v·v′/τ, p = v·T/τ
  const s = (x: number): number => 1 / (1 + Math.exp(-x));
  const [w0, w1] = [s(0.06 / 0.1 - 0.3 / 0.1) / 2, s(0.06 / 0.1 - 0.2 / 0.1) / 2];
  const first = [(w0 * (0.2 - 1) + w1 * 0.2) / 0.1, (w0 * 0.2 + w1 * 0.2) / 0.1];
  expect(found.dv![0]!).toBeCloseTo(first[0]!, 4);
  expect(found.dv![1]!).toBeCloseTo(first[1]!, 4);
  expect([...found.dTable!].every((x) => x === 0)).toBe(true);
});

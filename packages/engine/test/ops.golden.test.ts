/** Every op against PyTorch: value and gradient as whole tensors. */
import { expect, test } from "vitest";
import { constant, evaluate, grad, type Tensor } from "../src/index.ts";
import { cases } from "../src/ops/cases.ts";
import * as ops from "../src/ops/index.ts";
import { type Golden, readGolden, relativeError } from "../src/testing/index.ts";

// biome-ignore lint/suspicious/noExplicitAny: attributes as the maker wrote them
type Attrs = any;

/** How the attributes of a golden case reach the op; ops that take tensors alone need no entry. */
const calls: Record<string, (xs: Tensor[], attrs: Attrs) => Tensor | Tensor[]> = {
  pow: ([x], { p }) => ops.pow(x!, p),
  clip: ([x], { lo, hi }) => ops.clip(x!, lo, hi),
  where: ([c, a, b]) => ops.where(ops.cast(c!, "bool"), a!, b!),
  equal: ([a, b]) => ops.cast(ops.equal(a!, b!), "float32"),
  greater: ([a, b]) => ops.cast(ops.greater(a!, b!), "float32"),
  greaterEqual: ([a, b]) => ops.cast(ops.greaterEqual(a!, b!), "float32"),
  cast: ([x], { dtype, back }) => (back ? ops.cast(ops.cast(x!, dtype), back) : ops.cast(x!, dtype)),
  stopGradient: ([a, b]) => ops.mul(a!, ops.stopGradient(b!)),
  sum: ([x], { axes, keepdims }) => ops.sum(x!, axes, keepdims),
  mean: ([x], { axes, keepdims }) => ops.mean(x!, axes, keepdims),
  max: ([x], { axes, keepdims }) => ops.max(x!, axes, keepdims),
  logSumExp: ([x], { axes, keepdims }) => ops.logSumExp(x!, axes, keepdims),
  softmax: ([x], { axis }) => ops.softmax(x!, axis),
  argMax: ([x], { axis }) => ops.argMax(x!, axis),
  topK: ([x], { k }) => Object.values(ops.topK(x!, k)),
  reshape: ([x], { shape }) => ops.reshape(x!, shape),
  transpose: ([x], { perm }) => ops.transpose(x!, perm),
  expand: ([x], { shape }) => ops.expand(x!, shape),
  unsqueeze: ([x], { axes }) => ops.unsqueeze(x!, axes),
  squeeze: ([x], { axes }) => ops.squeeze(x!, axes),
  concat: (xs, { axis }) => ops.concat(xs, axis),
  split: ([x], { sizes, axis }) => ops.split(x!, sizes, axis),
  slice: ([x], { starts, ends, axes, steps }) => ops.slice(x!, starts, ends, axes, steps),
  pad: ([x], { pads, value }) => ops.pad(x!, pads, value),
  matmul: ([a, b], attrs) => ops.matmul(a!, b!, attrs),
  conv2d: ([x, w, b], { pads, ...options }) => ops.conv2d(pads ? ops.pad(x!, pads) : x!, w!, b, options),
  groupNorm: ([x, w, b], { groups, eps }) => ops.groupNorm(x!, w!, b!, { groups, eps }),
  layerNorm: ([x, w, b], { eps }) => ops.layerNorm(x!, w!, b!, { eps }),
  normalize: ([x], { eps }) => ops.normalize(x!, { eps }),
  attention: ([q, k, v], { scale, mask }) =>
    ops.attention(q!, k!, v!, {
      ...(scale && { scale }),
      ...(mask && { mask: constant(mask.flat(), [mask.length, mask[0].length]) }),
    }),
  resizeNearest: ([x], { factor }) => ops.resizeNearest(x!, factor),
  resizeBilinear: ([x], { size }) => ops.resizeBilinear(x!, size),
};

function run(op: string, xs: Tensor[], attrs: Attrs): Tensor[] {
  // biome-ignore lint/performance/noDynamicNamespaceImportAccess: the golden file names the op
  const plain = ops[op as keyof typeof ops] as (...xs: Tensor[]) => Tensor;
  const y = calls[op] ? calls[op](xs, attrs) : plain(...xs);
  return Array.isArray(y) ? y : [y];
}

const files = ["ops", "ops-layers", "ops-attention"].map(readGolden);
const every = files.flatMap((golden) =>
  Object.entries(JSON.parse(golden.metadata.cases!) as Record<string, Attrs>).map(([name, attrs]) => ({
    name,
    attrs,
    golden,
  })),
);

/** Keys NAME/x0, NAME/x1…, or the single NAME/y. */
const numbered = (golden: Golden, name: string, kind: string): string[] => {
  const found = golden.keys.filter(
    (k) => k.startsWith(`${name}/${kind}`) && /^\d*$/.test(k.slice(name.length + 1 + kind.length)),
  );
  return found.sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
};

test.each(every)("$name is PyTorch's, value and gradient", async ({ name, attrs, golden }) => {
  const inputs = numbered(golden, name, "x");
  const xs = inputs.map((k) => golden.tensor(k));
  const ys = run(attrs.op, xs, attrs);
  const outputs = Object.fromEntries(ys.map((y, i) => [`y${i}`, y]));
  const dys = numbered(golden, name, "dy").map((k) => golden.tensor(k));
  const wanted = xs.map((_, i) => `${name}/dx${i}`).filter((k) => golden.has(k));
  if (wanted.length) {
    const loss = ys.map((y, i) => ops.sum(ops.mul(y, dys[i]!))).reduce(ops.add);
    const moving = wanted.map((k) => xs[Number(k.slice(name.length + 3))]!);
    for (const [i, g] of grad(loss, moving).entries()) outputs[`g${i}`] = g;
  }
  const r = await evaluate(outputs);
  for (const [i, key] of numbered(golden, name, "y").entries()) {
    expect(ys[i]!.shape, key).toEqual(golden.shape(key));
    // float32 rounding, a different order of summation; float16 casts round alike
    expect(relativeError(r[`y${i}`]!, golden.floats(key)), key).toBeLessThan(5e-6);
  }
  // saturated softmax: the gradient is what is left of a difference of nearly equal numbers
  const tolerance = name === "attention/sharp" ? 2e-3 : 2e-5;
  for (const [i, key] of wanted.entries())
    expect(relativeError(r[`g${i}`]!, golden.floats(key)), key).toBeLessThan(tolerance);
});

test("every op with cases has golden numbers", () => {
  const golden = new Set(every.map(({ attrs }) => attrs.op as string));
  const own = new Set(["conv2dInputGrad", "conv2dWeightGrad", "scatterRows", "dot"]); // gradients of others, or sums of others
  expect(Object.keys(cases).filter((op) => !golden.has(op) && !own.has(op))).toEqual([]);
});

import { expect, test } from "vitest";
import { evaluate } from "../runtime/runtime.ts";
import { vjpError } from "../testing/index.ts";
import { checkpoint, grad } from "../transforms/grad.ts";
import { caseInputs, cases } from "./cases.ts";
import { add, mul, sum } from "./index.ts";

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

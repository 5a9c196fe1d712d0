/** Programs that stay loaded after their release, and which of them a new one may be. */
import { expect, test } from "vitest";
import { add, constant, input, mul, type Runtime, startRuntime, type Tensor, variable } from "../src/index.ts";
import { Host } from "../src/runtime/host.ts";

const counts = { compile: 0, release: 0 };
for (const method of ["compile", "release"] as const) {
  const plain = Host.prototype[method] as (...args: unknown[]) => Promise<never>;
  Host.prototype[method] = function (this: Host, ...args: unknown[]): Promise<never> {
    counts[method]++;
    return plain.apply(this, args);
  };
}
const during = async (work: () => Promise<unknown>): Promise<{ compile: number; release: number }> => {
  const before = { ...counts };
  await work();
  return { compile: counts.compile - before.compile, release: counts.release - before.release };
};
/** y = x·w + c, run once and released. */
async function once(runtime: Runtime, c: number, x: number, name = "w"): Promise<number> {
  const y: Tensor = add(mul(input("x", [1]), variable(name, [1])), constant([c]));
  const program = await runtime.compile({ outputs: { y } });
  const r = await program.run({ x: Float32Array.of(x) });
  await program.release();
  await expect(program.run({ x: Float32Array.of(x) })).rejects.toThrow(/program: it was released.*E_CLOSED/);
  return r.y![0]!;
}
const value = (runtime: Runtime, w: number, name = "w"): Promise<void> =>
  runtime.write({ [name]: Float32Array.of(w) }, { [name]: [1] });

test("an equal graph is the program from before, with the values that variables and inputs have now", async () => {
  const runtime = await startRuntime({ inProcess: true, keepPrograms: 2 });
  await value(runtime, 2);
  expect(await during(() => once(runtime, 1, 3))).toEqual({ compile: 1, release: 0 });
  await value(runtime, 5);
  const again = await during(async () => expect(await once(runtime, 1, 4)).toBe(21));
  expect(again).toEqual({ compile: 0, release: 0 });
});

test("another constant or another variable is another program; the one unused for longest makes room", async () => {
  const runtime = await startRuntime({ inProcess: true, keepPrograms: 2 });
  for (const name of ["w", "v"]) await value(runtime, 2, name);
  const several = await during(async () => {
    expect(await once(runtime, 1, 3)).toBe(7);
    expect(await once(runtime, 2, 3)).toBe(8);
    expect(await once(runtime, 1, 3, "v")).toBe(7);
  });
  expect(several).toEqual({ compile: 3, release: 1 });
  expect(await during(() => once(runtime, 2, 3))).toEqual({ compile: 0, release: 0 });
  expect(await during(() => once(runtime, 1, 3))).toEqual({ compile: 1, release: 1 });
});

test("two that are used at once are two programs, of which one is kept", async () => {
  const runtime = await startRuntime({ inProcess: true, keepPrograms: 2 });
  const y = mul(input("x", [1]), 2);
  const both = await during(async () => {
    const [a, b] = [await runtime.compile({ outputs: { y } }), await runtime.compile({ outputs: { y } })];
    await a.release();
    await a.release();
    await b.release();
  });
  expect(both).toEqual({ compile: 2, release: 1 });
});

test("by default none is kept", async () => {
  const runtime = await startRuntime({ inProcess: true });
  await value(runtime, 2);
  const twice = await during(async () => [await once(runtime, 1, 3), await once(runtime, 1, 3)]);
  expect(twice).toEqual({ compile: 2, release: 2 });
});

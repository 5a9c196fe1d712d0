/** What ONNX Runtime holds during a run is what is live, not also what was. */
import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { add, input, type Runtime, sin, square, startRuntime, sum, type Tensor } from "../src/index.ts";

const LENGTH = 1024;
const MEGABYTE = 1e6;

/** Peak resident memory of the process that computes, in bytes. */
function peakOf(): number {
  const children = readdirSync("/proc/self/task").flatMap((t) =>
    readFileSync(`/proc/self/task/${t}/children`, "utf8").split(" ").filter(Boolean),
  );
  const statuses = children.map((pid) => readFileSync(`/proc/${pid}/status`, "utf8"));
  return Math.max(...statuses.map((s) => 1024 * Number(/VmHWM:\s+(\d+)/.exec(s)?.[1] ?? 0)));
}

/** Sums of tables of 16 MB, each of a shape of its own, all of which come a second time. */
function twice(shapes: number): Tensor {
  const column = input("column", [LENGTH, 1]);
  let total = sum(column);
  for (const round of [0, 1])
    for (let i = 0; i < shapes; i++) {
      const row = input(`row ${i}`, [1, 4096 + i]);
      total = add(total, sum(square(sin(add(add(column, row), round)))));
    }
  return total;
}

async function growth(runtime: Runtime, shapes: number): Promise<number> {
  const program = await runtime.compile({ outputs: { y: twice(shapes) } });
  const feeds: Record<string, Float32Array> = { column: new Float32Array(LENGTH).fill(0.5) };
  for (let i = 0; i < shapes; i++) feeds[`row ${i}`] = new Float32Array(4096 + i).fill(0.1);
  const before = peakOf();
  await program.run(feeds);
  await program.release();
  return peakOf() - before;
}

test.skipIf(process.platform !== "linux")(
  "results of a shape that comes again later hold no memory until then",
  async () => {
    const runtime = await startRuntime();
    try {
      // one table takes 16.8 MB, and two or three are alive at a time
      expect(await growth(runtime, 12)).toBeLessThan(100 * MEGABYTE);
    } finally {
      await runtime.close();
    }
  },
);

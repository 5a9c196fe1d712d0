/** Ctrl-C while something is being done and written. */
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "likeness-interrupt-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const program = `
  import { writeFileSync } from "node:fs";
  import { withAtomicFile } from "@likeness/engine";
  import { listenForInterrupt } from ${JSON.stringify(new URL("../src/console/interrupt.ts", import.meta.url).href)};
  const { signal, exitCode } = listenForInterrupt();
  const [path, listens] = process.argv.slice(1);
  await withAtomicFile(path, async (temp) => {
    writeFileSync(temp, "half");
    process.stdout.write("busy");
    await new Promise((resolve, reject) => {
      setTimeout(resolve, 60_000);
      if (listens === "yes") signal.addEventListener("abort", () => reject(signal.reason));
    });
  }).catch((error) => {
    if (!signal.aborted) throw error;
    process.exit(exitCode());
  });`;

test.each([
  ["a command that listens", "yes", "SIGINT", 130, 600],
  ["a command that doesn't", "no", "SIGINT", 130, 1000],
  ["SIGTERM", "yes", "SIGTERM", 143, 600],
] as const)("%s", async (_name, listens, signal, code, limit) => {
  const args = ["--import", "tsx", "--input-type=module", "-e", program, join(folder, "x.bin"), listens];
  const cwd = new URL("..", import.meta.url);
  const child = spawn(process.execPath, args, { cwd, stdio: ["ignore", "pipe", "inherit"] });
  await new Promise((r) => child.stdout.once("data", r));
  expect(readdirSync(folder)).toHaveLength(1);
  const began = performance.now();
  child.kill(signal);
  expect(await new Promise((r) => child.once("exit", r))).toBe(code);
  expect(performance.now() - began).toBeLessThan(limit);
  expect(readdirSync(folder)).toEqual([]);
});

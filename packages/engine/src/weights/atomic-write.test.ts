import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { atomicWrite, withAtomicFile } from "./atomic-write.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "likeness-atomic-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

test("chunks in order, folders made, the file before replaced", () => {
  const path = join(folder, "a", "b", "x.bin");
  atomicWrite(path, [Buffer.from("old")]);
  atomicWrite(path, [Buffer.from("ne"), Buffer.from("w")]);
  expect(readFileSync(path, "utf8")).toBe("new");
  expect(readdirSync(join(folder, "a", "b"))).toEqual(["x.bin"]);
});

test("an error on the way leaves the file before and no other", async () => {
  const path = join(folder, "x.bin");
  writeFileSync(path, "old");
  const chunks = function* (): Generator<Uint8Array> {
    yield Buffer.from("half");
    throw new Error("disk on fire");
  };
  expect(() => atomicWrite(path, chunks())).toThrow("disk on fire");
  const write = async (temp: string): Promise<void> => {
    writeFileSync(temp, "half");
    throw new Error("no luck");
  };
  await expect(withAtomicFile(path, write)).rejects.toThrow("no luck");
  expect(readFileSync(path, "utf8")).toBe("old");
  expect(readdirSync(folder)).toEqual(["x.bin"]);
});

test("withAtomicFile moves what was written into place and gives the result", async () => {
  const path = join(folder, "x.bin");
  const result = await withAtomicFile(path, async (temp) => {
    writeFileSync(temp, "whole");
    expect(readdirSync(folder)).toEqual([`.x.bin.${process.pid}.tmp`]);
    return 7;
  });
  expect(result).toBe(7);
  expect(readFileSync(path, "utf8")).toBe("whole");
});

test("a process that ends in the middle of a write removes its temporary file", async () => {
  const module = JSON.stringify(new URL("./atomic-write.ts", import.meta.url).href);
  const program = `
    import { writeFileSync } from "node:fs";
    import { withAtomicFile } from ${module};
    process.on("SIGINT", () => process.exit(130));
    await withAtomicFile(process.argv[1], async (temp) => {
      writeFileSync(temp, "half");
      process.stdout.write("writing");
      await new Promise((r) => setTimeout(r, 60000));
    });`;
  const args = ["--import", "tsx", "--input-type=module", "-e", program, join(folder, "x.bin")];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise((r) => child.stdout.once("data", r));
  expect(readdirSync(folder)).toHaveLength(1);
  child.kill("SIGINT");
  expect(await new Promise((r) => child.once("exit", r))).toBe(130);
  expect(readdirSync(folder)).toEqual([]);
});

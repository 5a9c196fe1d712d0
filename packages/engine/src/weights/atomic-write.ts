/** Files that appear whole or not at all. */
import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { basename, dirname, join } from "node:path";

/** Writes chunks to a temporary file beside `path`, flushes it to disk and renames it into place. */
export function atomicWrite(path: string, chunks: Iterable<Uint8Array>): void {
  const folder = dirname(path);
  mkdirSync(folder, { recursive: true });
  const temp = join(folder, `.${basename(path)}.${process.pid}.tmp`);
  const removeTemp = (): void => rmSync(temp, { force: true });
  process.once("exit", removeTemp);
  try {
    const file = openSync(temp, "w");
    try {
      for (const chunk of chunks) for (let at = 0; at < chunk.length; ) at += writeSync(file, chunk, at);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temp, path);
    const dir = openSync(folder, "r");
    try {
      fsyncSync(dir);
    } finally {
      closeSync(dir);
    }
  } catch (error) {
    removeTemp();
    throw error;
  } finally {
    process.off("exit", removeTemp);
  }
}

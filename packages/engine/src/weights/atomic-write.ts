/** Files that appear whole or not at all. */
import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";

const temps = new Set<string>();

/** Removes the temporary files of all writes under way: for a process that ends before they do. */
export function removeTempFiles(): void {
  for (const temp of temps) rmSync(temp, { force: true });
}

/** Writes chunks to a temporary file beside `path`, flushes it to disk and renames it into place. */
export function atomicWrite(path: string, chunks: Iterable<Uint8Array>): void {
  const temp = begin(path);
  try {
    const file = openSync(temp, "w");
    try {
      for (const chunk of chunks) for (let at = 0; at < chunk.length; ) at += writeSync(file, chunk, at);
    } finally {
      closeSync(file);
    }
    commit(temp, path);
  } finally {
    end(temp);
  }
}

/** As `atomicWrite`, for writers that want a path: `write` fills the file at `temp`, `path` appears when it is done. */
export async function withAtomicFile<T>(path: string, write: (temp: string) => Promise<T>): Promise<T> {
  const temp = begin(path);
  try {
    const result = await write(temp);
    commit(temp, path);
    return result;
  } finally {
    end(temp);
  }
}

function begin(path: string): string {
  const folder = dirname(resolve(path));
  mkdirSync(folder, { recursive: true });
  const temp = join(folder, `.${basename(path)}.${process.pid}.tmp`);
  if (temps.size === 0) process.on("exit", removeTempFiles);
  temps.add(temp);
  return temp;
}

function commit(temp: string, path: string): void {
  sync(temp, "r+");
  renameSync(temp, path);
  if (process.platform !== "win32") sync(dirname(temp), "r"); // Windows opens no folders
}

function end(temp: string): void {
  rmSync(temp, { force: true }); // gone already if all went well
  temps.delete(temp);
  if (temps.size === 0) process.off("exit", removeTempFiles);
}

function sync(path: string, flags: string): void {
  const file = openSync(path, flags);
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

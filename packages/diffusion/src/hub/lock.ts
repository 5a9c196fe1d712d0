/**
 * One pull of a model at a time. A lock file with its owner's name, touched while the work goes on; one that has not been
 * touched for a minute, or whose process has gone, is nobody's. Should two processes hold it after all, no damage is done:
 * a file gets its name in the cache only after its bytes on the disk have given their hash.
 */
import { mkdir, readFile, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const STALE = 60_000; // ms
const TOUCH = 10_000;
const LOOK = 250;

export interface LockOptions {
  readonly signal?: AbortSignal | undefined;
  /** Called once if another process holds the lock. */
  readonly onWait?: (() => void) | undefined;
}

/** Does the work while holding the lock file at `path`. */
export async function withLock<T>(path: string, { signal, onWait }: LockOptions, work: () => Promise<T>): Promise<T> {
  await mkdir(dirname(path), { recursive: true });
  for (let waits = 0; !(await take(path)); waits++) {
    if (await abandoned(path)) {
      await setAside(path);
      continue;
    }
    if (waits === 0) onWait?.();
    await sleep(LOOK, undefined, signal ? { signal } : {});
  }
  const touch = setInterval(() => void utimes(path, new Date(), new Date()).catch(() => {}), TOUCH);
  touch.unref();
  try {
    return await work();
  } finally {
    clearInterval(touch);
    await rm(path, { force: true });
  }
}

async function take(path: string): Promise<boolean> {
  try {
    await writeFile(path, JSON.stringify({ pid: process.pid, host: hostname() }), { flag: "wx" });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

async function abandoned(path: string): Promise<boolean> {
  const info = await stat(path).catch(() => undefined);
  if (!info) return false; // released just now
  if (Date.now() - info.mtimeMs > STALE) return true;
  const { pid, host } = await owner(path);
  if (pid === undefined || host !== hostname()) return false;
  try {
    process.kill(pid, 0); // asks whether it is there
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ESRCH";
  }
}

async function owner(path: string): Promise<{ pid?: number; host?: string }> {
  try {
    const { pid, host } = JSON.parse(await readFile(path, "utf8")) as Record<string, unknown>;
    return Number.isInteger(pid) ? { pid: pid as number, host: String(host) } : {};
  } catch {
    return {}; // being written, or another program's
  }
}

/** By renaming, so that of several processes one succeeds. */
async function setAside(path: string): Promise<void> {
  const aside = `${path}.${process.pid}`;
  await rename(path, aside).catch(() => {});
  await rm(aside, { force: true });
}

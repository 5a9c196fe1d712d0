/** The `likeness` command as a process of its own, in a folder that isn't the repository. */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";

export const BIN: string = fileURLToPath(new URL("../bin/likeness.js", import.meta.url));

export interface Place {
  readonly cwd: string;
  /** Added to the environment of the tests. */
  readonly env?: Readonly<Record<string, string>>;
}

export interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

export type LikenessProcess = ChildProcessByStdio<null, Readable, Readable>;

/** Begins a command; for tests that send it signals. */
export function startLikeness(args: readonly string[], { cwd, env }: Place): LikenessProcess {
  return spawn(process.execPath, [BIN, ...args], {
    cwd,
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
}

/** What a command has said, after its end. */
export async function endOf(child: LikenessProcess): Promise<Ended> {
  const code = new Promise<number | null>((resolve) => child.once("close", resolve));
  const [out, err] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { code: await code, out, err };
}

/** Runs a command to its end. */
export const runLikeness = (args: readonly string[], place: Place): Promise<Ended> => endOf(startLikeness(args, place));

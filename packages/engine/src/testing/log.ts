/** What a training run logged. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

/** The lines of a run's log, each the scalars of a step. */
export const readLog = (run: string): Record<string, number>[] =>
  readFileSync(join(run, "log.ndjson"), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, number>);

export const meanOf = (key: string, lines: readonly Readonly<Record<string, number>>[]): number =>
  lines.reduce((sum, line) => sum + line[key]!, 0) / lines.length;

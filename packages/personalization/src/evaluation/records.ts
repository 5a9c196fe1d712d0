/** What a run has measured: JSON lines, each kept under a key of all that decides it. */
import { createHash } from "node:crypto";
import { appendFileSync, existsSync, mkdirSync, readFileSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { atomicWrite, LikenessError } from "@likeness/engine";

/** What the judge says about the picture of one prompt. */
export interface CellRecord {
  readonly prompt: number;
  /** Cosine of picture and photo, and of picture and caption. */
  readonly clip_i: number;
  readonly clip_t: number;
  /** Cosine of picture and photo as instances, and the place of the right one among all, from 1. */
  readonly instance: number;
  readonly rank: number;
  /** 1 where the right caption came first, for each attribute that the prompt names. */
  readonly attributes: Readonly<Record<string, number>>;
}

/** A subject taught by a method. */
export interface ConceptRecord {
  readonly kind: "concept";
  readonly key: string;
  readonly method: string;
  readonly subject: number;
  /** Time to teach, in a running process. */
  readonly seconds: number;
  /** Nearest word of v*, their cosine, ‖v*‖; mean over the matrices of ‖A·B‖²_F. */
  readonly word: string;
  readonly cosine: number;
  readonly norm: number;
  readonly offsets: number;
}

/** The pictures of a taught subject with one seed, judged. */
export interface JudgedRecord {
  readonly kind: "judged";
  readonly key: string;
  readonly method: string;
  readonly subject: number;
  readonly seed: number;
  /** Place of the right instance for the photo itself: how far the judge can be trusted. */
  readonly photo_rank: number;
  readonly cells: readonly CellRecord[];
}

export interface Named {
  readonly clip_t: number;
  /** Place of the right name among all. */
  readonly rank: number;
  readonly attributes: Readonly<Record<string, number>>;
}

export interface BackboneRecord extends Named {
  readonly kind: "backbone";
  readonly key: string;
  readonly prompt: number;
  /** What the judge says about a true picture for the same prompt. */
  readonly truth: Named;
}

export interface TimingRecord {
  readonly kind: "timing";
  readonly key: string;
  /** Wall-clock seconds of whole processes, each time. */
  readonly personalize: readonly number[];
  readonly generate: readonly number[];
  readonly cores: number;
  readonly cpu: string;
}

export type Measured = ConceptRecord | JudgedRecord | BackboneRecord | TimingRecord;
export type RunRecord = Measured & { readonly commit: string; readonly date: string };

/** A short name for all that decides a measurement. */
export const keyOf = (facts: unknown): string =>
  createHash("sha256").update(JSON.stringify(facts)).digest("hex").slice(0, 16);

export interface RecordFile {
  /** By key. Those that aren't of this run's plan stay in the file and count for nothing. */
  readonly known: ReadonlyMap<string, RunRecord>;
  add(record: Measured): void;
}

/**
 * The lines of a run; a line that an interrupted write left unfinished is removed.
 * @param kept the file that keepRecords wrote, if there is one: what a run on another machine measured is known too
 * @throws LikenessError if that isn't such a file
 */
export function openRecords(
  { run, kept }: { readonly run: string; readonly kept: string },
  { commit, date }: { readonly commit: string; readonly date: string },
): RecordFile {
  mkdirSync(run, { recursive: true });
  const path = join(run, "records.ndjson");
  const text = existsSync(path) ? readFileSync(path, "utf8") : "";
  const whole = text.slice(0, text.lastIndexOf("\n") + 1);
  if (whole.length < text.length) truncateSync(path, Buffer.byteLength(whole));
  const known = new Map([...(existsSync(kept) ? readKept(kept) : []), ...linesOf(whole)].map((r) => [r.key, r]));
  return {
    known,
    add: (measured) => {
      const record: RunRecord = { ...measured, commit, date };
      appendFileSync(path, lineOf(record));
      known.set(record.key, record);
    },
  };
}

const lineOf = (record: RunRecord): string =>
  `${JSON.stringify(record, (_, x) => (typeof x === "number" ? short(x) : x))}\n`;
const linesOf = (text: string): RunRecord[] =>
  text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as RunRecord);

function readKept(path: string): RunRecord[] {
  try {
    return linesOf(gunzipSync(readFileSync(path)).toString());
  } catch (error) {
    throw new LikenessError("E_EVALUATION_RECORDS", {
      ...{ what: "measurements", where: path, needed: "lines of JSON, gzipped", found: (error as Error).message },
      next: "Delete the file; what it held is measured anew.",
    });
  }
}

/** Writes the measurements of some keys, those that are there, to a file that goes with the report: the numbers behind it. */
export function keepRecords(path: string, { known }: Pick<RecordFile, "known">, keys: Iterable<string>): void {
  const lines = [...keys].flatMap((key) => (known.has(key) ? [lineOf(known.get(key)!)] : []));
  atomicWrite(path, [gzipSync(lines.join(""), { level: 9 })]);
}

const short = (x: number): number => (Number.isInteger(x) ? x : Number(x.toPrecision(6)));

/** The header of a .safetensors file, checked in every respect. Format: huggingface/safetensors, README. */
import { closeSync, openSync, readSync, realpathSync, type Stats, statSync } from "node:fs";
import { brief, type ErrorDetail, LikenessError } from "../errors.ts";
import { duplicateKey } from "./json-keys.ts";

/** What is wrong in a file; `what` is the key in quotes, "header", or the like. */
export type SafetensorsDetail = Omit<ErrorDetail, "where">;

/** A .safetensors file is missing, damaged, or not what was asked for. */
export class SafetensorsError extends LikenessError {
  override readonly name = "SafetensorsError";
  readonly file: string;
  constructor(file: string, detail: SafetensorsDetail) {
    super("E_SAFETENSORS", { ...detail, where: file });
    this.file = file;
  }
}

export interface TensorEntry {
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Bytes from the start of the file. */
  readonly offset: number;
  readonly length: number;
}

export interface SafetensorsHeader {
  /** Real path of the file. */
  readonly path: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  /** Where the header ends and the data begin, in bytes from the start of the file. */
  readonly dataStart: number;
}

/** Bytes of one entry, in the order in which files hold their tensors: that of the reference implementation. */
export const BYTES: Readonly<Record<string, number>> = {
  U64: 8,
  I64: 8,
  F64: 8,
  F32: 4,
  U32: 4,
  I32: 4,
  BF16: 2,
  F16: 2,
  U16: 2,
  I16: 2,
  F8_E4M3: 1,
  F8_E5M2: 1,
  I8: 1,
  U8: 1,
  BOOL: 1,
};
const MAX_HEADER = 100_000_000;

const AGAIN = "The file is cut off: fetch it again.";
type Fail = (detail: SafetensorsDetail) => never;

/** The header of a file, fully checked: sizes, overlaps, gaps, dtypes, duplicate keys. @throws SafetensorsError */
export function readSafetensorsHeader(path: string): SafetensorsHeader {
  const fail: Fail = (detail) => {
    throw new SafetensorsError(path, detail);
  };
  const { size, file } = openFile(path, fail);
  try {
    const head = Buffer.alloc(8);
    readSync(file, head, 0, 8, 0);
    const length = Number(head.readBigUInt64LE());
    if (length > MAX_HEADER || 8 + length > size) refuseLength(head, length, size, fail);
    const bytes = Buffer.alloc(length);
    for (let at = 0; at < length; ) at += readSync(file, bytes, at, length - at, 8 + at) || fail({ what: "header" });
    return { path: realpathSync(path), dataStart: 8 + length, ...parseHeader(bytes, 8 + length, size, fail) };
  } finally {
    closeSync(file);
  }
}

function openFile(path: string, fail: Fail): { size: number; file: number } {
  const what = "weights";
  let info: Stats;
  try {
    info = statSync(path);
  } catch {
    return fail({ what, needed: "a .safetensors file", found: "no such file", next: "Check the path." });
  }
  if (!info.isFile())
    fail({ what, needed: "a .safetensors file", found: info.isDirectory() ? "a folder" : "a special file" });
  if (info.size < 8) fail({ what, needed: "at least 8 bytes", found: String(info.size), next: AGAIN });
  try {
    return { size: info.size, file: openSync(path, "r") };
  } catch (error) {
    return fail({ what, needed: "a file that may be read", found: (error as NodeJS.ErrnoException).code ?? "none" });
  }
}

function refuseLength(head: Buffer, length: number, size: number, fail: Fail): never {
  const start = head.toString("latin1");
  const next = start.startsWith("version ")
    ? "This is a Git LFS pointer: run `git lfs pull`."
    : start.startsWith("PK")
      ? "This is a zip, perhaps a PyTorch checkpoint: convert it to safetensors."
      : length > size - 8
        ? `${AGAIN.replace(":", ", or no .safetensors file:")}`
        : "This is no .safetensors file.";
  const most = Math.min(MAX_HEADER, size - 8);
  return fail({ what: "header", needed: `at most ${most} bytes`, found: String(length), next });
}

function parseHeader(
  bytes: Buffer,
  start: number,
  size: number,
  fail: Fail,
): Pick<SafetensorsHeader, "metadata" | "tensors"> {
  const damaged = "This is no .safetensors file, or it is damaged.";
  const text = bytes.toString("utf8");
  let json: unknown;
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    json = JSON.parse(text);
  } catch {
    return fail({ what: "header", needed: "JSON in UTF-8", found: "something else", next: damaged });
  }
  if (text[0] !== "{") return fail({ what: "header", needed: "a JSON object", found: brief(json), next: damaged });
  const twice = duplicateKey(text);
  if (twice !== undefined)
    fail({
      what: brief(twice),
      needed: "each key once",
      found: "it twice in the header",
      next: "Don't trust this file.",
    });
  const { __metadata__: metadata = {}, ...entries } = json as Record<string, unknown>;
  if (typeof metadata !== "object" || metadata === null || Array.isArray(metadata))
    return fail({ what: "__metadata__", needed: "an object of strings", found: brief(metadata) });
  for (const [key, value] of Object.entries(metadata))
    if (typeof value !== "string")
      fail({ what: `__metadata__.${brief(key)}`, needed: "a string", found: brief(value) });
  const tensors = new Map(Object.entries(entries).map(([k, entry]) => [k, checkEntry(k, entry, start, size, fail)]));
  checkLayout(tensors, start, size, fail);
  return { metadata: metadata as Record<string, string>, tensors };
}

/** Every byte of the data belongs to one tensor. */
function checkLayout(tensors: ReadonlyMap<string, TensorEntry>, start: number, size: number, fail: Fail): void {
  let end = start;
  let before = "header";
  for (const [key, { offset, length }] of [...tensors].sort(
    ([, a], [, b]) => a.offset - b.offset || a.length - b.length,
  )) {
    const begin = { what: brief(key), needed: `data from byte ${end}, where ${before} ends`, found: String(offset) };
    if (offset < end) fail({ ...begin, next: "The two overlap: don't trust this file." });
    if (offset > end) fail({ ...begin, next: "Bytes between them belong to no tensor: don't trust this file." });
    end = offset + length;
    before = brief(key);
  }
  if (end !== size)
    fail({ what: "data", needed: `an end at byte ${end}`, found: `${size} bytes`, next: "Fetch the file again." });
}

export const isCount = (n: unknown): n is number => Number.isSafeInteger(n) && (n as number) >= 0;

function checkEntry(key: string, entry: unknown, start: number, size: number, fail: Fail): TensorEntry {
  const { dtype, shape, data_offsets: at } = (entry ?? {}) as Record<string, unknown>;
  const what = brief(key);
  if (typeof dtype !== "string" || !Object.hasOwn(BYTES, dtype))
    return fail({ what, needed: `a dtype of ${Object.keys(BYTES).join(", ")}`, found: brief(dtype) });
  if (!Array.isArray(shape) || !shape.every(isCount))
    return fail({ what, needed: "a shape of whole numbers, none below 0", found: brief(shape) });
  if (!Array.isArray(at) || at.length !== 2 || !at.every(isCount) || at[1]! < at[0]!)
    return fail({ what, needed: "data_offsets [begin, end]", found: brief(at) });
  const [begin, end] = at as [number, number];
  const needed = byteLength(dtype, shape);
  if (needed !== end - begin)
    return fail({ what, needed: `${needed} bytes for ${dtype} of shape ${brief(shape)}`, found: String(end - begin) });
  if (start + end > size)
    return fail({ what, needed: `data up to byte ${start + end}`, found: `a file of ${size} bytes`, next: AGAIN });
  return { dtype, shape, offset: start + begin, length: needed };
}

/** Bytes of a tensor; beyond exact numbers it is a size that no file has. */
export function byteLength(dtype: string, shape: readonly number[]): number {
  const zero = shape.includes(0); // 0 · 2^60 · 2^60 is 0, and 2^1100 · 0 isn't
  return zero ? 0 : shape.reduce((n, d) => n * d, BYTES[dtype]!);
}

/** The entry of a key. @throws SafetensorsError if the file has no such tensor */
export function entryOf(header: SafetensorsHeader, key: string): TensorEntry {
  const entry = header.tensors.get(key);
  if (entry) return entry;
  const found = `${header.tensors.size} tensors of other names`;
  throw new SafetensorsError(header.path, { what: brief(key), needed: "this tensor", found });
}

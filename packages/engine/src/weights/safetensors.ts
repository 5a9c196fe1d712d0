/** Reading and writing .safetensors, with strict validation. Format: huggingface/safetensors, README. */
import { closeSync, fstatSync, openSync, readSync, realpathSync } from "node:fs";
import type { WeightRef } from "../core/leaves.ts";
import type { DType } from "../core/tensor.ts";
import { atomicWrite } from "./atomic-write.ts";
import { fromBfloat16, fromFloat16 } from "./float16.ts";
import { duplicateKey } from "./json-keys.ts";

/** A .safetensors file is missing, damaged, or not what was asked for. */
export class SafetensorsError extends Error {
  override readonly name = "SafetensorsError";
  readonly code = "E_SAFETENSORS";
  readonly file: string;
  constructor(file: string, message: string) {
    super(`${file}: ${message} [E_SAFETENSORS]`);
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
}

const BYTES: Record<string, number> = {
  F64: 8,
  I64: 8,
  U64: 8,
  F32: 4,
  I32: 4,
  U32: 4,
  F16: 2,
  BF16: 2,
  I16: 2,
  U16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
};
const MAX_HEADER = 100_000_000;

/** The header of a file, fully checked: sizes, overlaps, gaps, dtypes, duplicate keys. @throws SafetensorsError */
export function readSafetensorsHeader(path: string): SafetensorsHeader {
  let real: string;
  try {
    real = realpathSync(path);
  } catch {
    throw new SafetensorsError(path, "needed a .safetensors file, found no such file. Check the path.");
  }
  const file = openSync(real, "r");
  try {
    const info = fstatSync(file);
    const fail = (message: string): never => {
      throw new SafetensorsError(path, message);
    };
    if (!info.isFile()) fail("needed a .safetensors file, found a folder.");
    if (info.size < 8)
      fail(`needed at least 8 bytes, found ${info.size}. The file is empty or cut off: fetch it again.`);
    const head = Buffer.alloc(8);
    readSync(file, head, 0, 8, 0);
    const length = Number(head.readBigUInt64LE());
    if (length > MAX_HEADER)
      fail(`header: needed at most ${MAX_HEADER} bytes, found ${length}. This is no .safetensors file.`);
    if (8 + length > info.size)
      fail(`header: needed ${length} bytes, found ${info.size - 8}. The file is cut off: fetch it again.`);
    const text = Buffer.alloc(length);
    readSync(file, text, 0, length, 8);
    return { path: real, ...parseHeader(text.toString("utf8"), 8 + length, info.size, fail) };
  } finally {
    closeSync(file);
  }
}

function parseHeader(
  text: string,
  start: number,
  size: number,
  fail: (m: string) => never,
): Omit<SafetensorsHeader, "path"> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return fail("header: needed JSON, found something else. This is no .safetensors file, or it is damaged.");
  }
  if (typeof json !== "object" || json === null || Array.isArray(json) || text[0] !== "{")
    return fail("header: needed a JSON object.");
  const twice = duplicateKey(text);
  if (twice !== undefined) fail(`"${twice}": the header names it twice. The file is damaged or made to deceive.`);
  const { __metadata__: metadata = {}, ...entries } = json as Record<string, unknown>;
  if (typeof metadata !== "object" || metadata === null || Object.values(metadata).some((v) => typeof v !== "string"))
    fail("__metadata__: needed an object of strings.");
  const tensors = new Map<string, TensorEntry>();
  for (const [key, entry] of Object.entries(entries)) tensors.set(key, checkEntry(key, entry, start, size, fail));
  let at = start;
  for (const [key, { offset, length }] of [...tensors].sort(
    (a, b) => a[1].offset - b[1].offset || a[1].length - b[1].length,
  )) {
    if (offset < at) fail(`"${key}": its bytes overlap those of another tensor.`);
    if (offset > at) fail(`"${key}": ${offset - at} bytes before it belong to no tensor.`);
    at = offset + length;
  }
  if (at !== size)
    fail(`needed ${at} bytes by its header, found ${size}. The file is cut off or has bytes to spare: fetch it again.`);
  return { metadata: metadata as Record<string, string>, tensors };
}

function checkEntry(key: string, entry: unknown, start: number, size: number, fail: (m: string) => never): TensorEntry {
  const {
    dtype,
    shape,
    data_offsets: at,
  } = (entry ?? {}) as { dtype?: unknown; shape?: unknown; data_offsets?: unknown };
  const isCount = (n: unknown): n is number => Number.isSafeInteger(n) && (n as number) >= 0;
  if (typeof dtype !== "string" || !(dtype in BYTES))
    return fail(`"${key}": needed a dtype of ${Object.keys(BYTES).join(", ")}, found ${JSON.stringify(dtype)}.`);
  if (!Array.isArray(shape) || !shape.every(isCount))
    return fail(`"${key}": needed a shape of whole numbers ≥ 0, found ${JSON.stringify(shape)}.`);
  if (!Array.isArray(at) || at.length !== 2 || !at.every(isCount))
    return fail(`"${key}": needed data_offsets [begin, end], found ${JSON.stringify(at)}.`);
  const [begin, end] = at as [number, number];
  const needed = shape.reduce((n, d) => n * d, 1) * BYTES[dtype]!;
  if (!Number.isSafeInteger(needed) || end - begin !== needed)
    return fail(
      `"${key}": shape (${shape.join(", ")}) of ${dtype} needs ${needed} bytes, its offsets hold ${end - begin}.`,
    );
  if (start + end > size)
    return fail(
      `"${key}": needed bytes up to ${start + end}, found a file of ${size}. The file is cut off: fetch it again.`,
    );
  return { dtype, shape, offset: start + begin, length: needed };
}

/** The raw bytes of one tensor. @throws SafetensorsError if the key is missing */
export function readTensorBytes(header: SafetensorsHeader, key: string): Buffer {
  const entry = header.tensors.get(key);
  if (!entry) throw new SafetensorsError(header.path, `"${key}": needed this tensor, found none of that name.`);
  const file = openSync(header.path, "r");
  try {
    // a buffer of its own, so that typed arrays over it are aligned
    const bytes = Buffer.from(new ArrayBuffer(entry.length));
    for (let at = 0; at < entry.length; ) {
      const n = readSync(file, bytes, at, Math.min(entry.length - at, 1 << 30), entry.offset + at);
      if (n === 0) throw new SafetensorsError(header.path, `"${key}": the file ended while it was read.`);
      at += n;
    }
    return bytes;
  } finally {
    closeSync(file);
  }
}

/** One tensor as float32, widened from float16 or bfloat16 if need be. @throws SafetensorsError for other dtypes */
export function readFloats(header: SafetensorsHeader, key: string): Float32Array {
  const { buffer } = readTensorBytes(header, key);
  const { dtype } = header.tensors.get(key)!;
  if (dtype === "F32") return new Float32Array(buffer);
  if (dtype === "F16") return fromFloat16(new Uint16Array(buffer));
  if (dtype === "BF16") return fromBfloat16(new Uint16Array(buffer));
  throw new SafetensorsError(header.path, `"${key}": needed F32, F16 or BF16, found ${dtype}.`);
}

const DTYPES: Record<string, DType> = {
  F32: "float32",
  F16: "float16",
  BF16: "bfloat16",
  I32: "int32",
  I64: "int64",
  U8: "uint8",
  BOOL: "bool",
};

/** Where ONNX Runtime finds a tensor. @throws SafetensorsError for a dtype that graphs can't hold */
export function weightRef(header: SafetensorsHeader, key: string): WeightRef {
  const { dtype, shape, offset, length } = header.tensors.get(key)!;
  const known = DTYPES[dtype];
  if (!known)
    throw new SafetensorsError(header.path, `"${key}": needed ${Object.keys(DTYPES).join(", ")}, found ${dtype}.`);
  return { file: header.path, offset, length, dtype: known, shape };
}

export interface TensorToWrite {
  readonly dtype: "F32" | "F16" | "BF16" | "I64" | "I32" | "U8" | "BOOL";
  readonly shape: readonly number[];
  /** As many entries as the shape says; F16 and BF16 as bit patterns. */
  readonly data: Float32Array | Uint16Array | BigInt64Array | Int32Array | Uint8Array;
}

/** Writes a file atomically: keys in order, header padded so that the data are aligned to 8 bytes. */
export function writeSafetensors(
  path: string,
  tensors: Readonly<Record<string, TensorToWrite>>,
  metadata: Readonly<Record<string, string>> = {},
): void {
  // wide dtypes first, so that every tensor is aligned to its own size
  const keys = Object.keys(tensors).sort(
    (a, b) => BYTES[tensors[b]!.dtype]! - BYTES[tensors[a]!.dtype]! || (a < b ? -1 : 1),
  );
  const header: Record<string, unknown> = Object.keys(metadata).length ? { __metadata__: metadata } : {};
  let at = 0;
  for (const key of keys) {
    const { dtype, shape, data } = tensors[key]!;
    const needed = shape.reduce((n, d) => n * d, 1) * BYTES[dtype]!;
    if (data.byteLength !== needed)
      throw new SafetensorsError(
        path,
        `"${key}": shape (${shape.join(", ")}) of ${dtype} needs ${needed} bytes, found ${data.byteLength}.`,
      );
    header[key] = { dtype, shape, data_offsets: [at, (at += needed)] };
  }
  const text = Buffer.from(JSON.stringify(header));
  const padded = Buffer.concat([text, Buffer.alloc((8 - (text.length % 8)) % 8, " ")]);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  const bytes = ({ data }: TensorToWrite): Uint8Array => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  atomicWrite(path, [length, padded, ...keys.map((k) => bytes(tensors[k]!))]);
}

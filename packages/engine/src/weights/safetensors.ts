/** Reading and writing .safetensors. Format: huggingface/safetensors, README. */
import type { WeightRef } from "../core/leaves.ts";
import type { DType } from "../core/tensor.ts";
import { brief } from "../errors.ts";
import { atomicWrite } from "./atomic-write.ts";
import { fromBfloat16, fromFloat16 } from "./float16.ts";
import { readAt } from "./read-at.ts";
import { BYTES, byteLength, entryOf, isCount, SafetensorsError, type SafetensorsHeader } from "./safetensors-header.ts";

export {
  readSafetensorsHeader,
  type SafetensorsDetail,
  SafetensorsError,
  type SafetensorsHeader,
  type TensorEntry,
} from "./safetensors-header.ts";

/** The raw bytes of one tensor. @throws SafetensorsError if the key is missing */
export function readTensorBytes(header: SafetensorsHeader, key: string): Buffer<ArrayBuffer> {
  const entry = entryOf(header, key);
  const bytes = readAt(header.path, entry.offset, entry.length);
  if (bytes.length === entry.length) return bytes;
  const needed = `${entry.length} bytes`;
  throw new SafetensorsError(header.path, { what: brief(key), needed, found: String(bytes.length) });
}

/** One tensor as float32, widened from float16 or bfloat16 if need be. @throws SafetensorsError for other dtypes */
export function readFloats(header: SafetensorsHeader, key: string): Float32Array {
  const data = readTensor(header, key);
  if (data instanceof Float32Array) return data;
  const found = entryOf(header, key).dtype;
  throw new SafetensorsError(header.path, { what: brief(key), needed: "F32, F16 or BF16", found });
}

export type TensorData = Float32Array | Int32Array | BigInt64Array | Uint8Array;

/** One tensor: F32, F16 and BF16 as float32; I32, I64, U8 and BOOL as they are. @throws SafetensorsError for others */
export function readTensor(header: SafetensorsHeader, key: string): TensorData {
  const { dtype } = entryOf(header, key);
  const read = READERS[dtype];
  if (read) return read(readTensorBytes(header, key).buffer);
  const needed = Object.keys(READERS).join(", ");
  throw new SafetensorsError(header.path, { what: brief(key), needed, found: dtype });
}

const READERS: Readonly<Record<string, (buffer: ArrayBuffer) => TensorData>> = {
  F32: (b) => new Float32Array(b),
  F16: (b) => fromFloat16(new Uint16Array(b)),
  BF16: (b) => fromBfloat16(new Uint16Array(b)),
  I32: (b) => new Int32Array(b),
  I64: (b) => new BigInt64Array(b),
  U8: (b) => new Uint8Array(b),
  BOOL: (b) => new Uint8Array(b),
};

const DTYPES: Readonly<Record<string, DType>> = {
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
  const { dtype, shape, offset, length } = entryOf(header, key);
  const known = DTYPES[dtype];
  if (!known) {
    const needed = Object.keys(DTYPES).join(", ");
    throw new SafetensorsError(header.path, { what: brief(key), needed, found: dtype });
  }
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
  const order = Object.keys(BYTES); // wide dtypes first, so that every tensor is aligned to its own size
  const keys = Object.keys(tensors).sort(
    (a, b) => order.indexOf(tensors[a]!.dtype) - order.indexOf(tensors[b]!.dtype) || (a < b ? -1 : 1),
  );
  const header: Record<string, unknown> = Object.create(null); // so that "__proto__" is a key as any other
  if (Object.keys(metadata).length) header.__metadata__ = metadata;
  let at = 0;
  for (const key of keys) {
    const { dtype, shape, data } = tensors[key]!;
    const needed = byteLength(dtype, shape);
    const fail = (what: string, found: string): never => {
      throw new SafetensorsError(path, { what: brief(key), needed: what, found });
    };
    if (key === "__metadata__") fail("a name of its own", "the name of the metadata");
    if (!shape.every(isCount)) fail("a shape of whole numbers, none below 0", brief(shape));
    if (data.byteLength !== needed)
      fail(`${needed} bytes for ${dtype} of shape ${brief(shape)}`, String(data.byteLength));
    header[key] = { dtype, shape, data_offsets: [at, (at += needed)] };
  }
  const text = Buffer.from(JSON.stringify(header));
  const padded = Buffer.concat([text, Buffer.alloc((8 - (text.length % 8)) % 8, " ")]);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  const bytes = ({ data }: TensorToWrite): Uint8Array => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  atomicWrite(path, [length, padded, ...keys.map((k) => bytes(tensors[k]!))]);
}

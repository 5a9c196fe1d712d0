/** Looking for weights that are no numbers: NaN or infinity, as a broken merge or an overflow to float16 leaves them. */
import { closeSync, openSync, readSync } from "node:fs";
import type { SafetensorsHeader, TensorEntry } from "./safetensors-header.ts";

export interface BadValue {
  readonly key: string;
  /** Place in the flat tensor. */
  readonly index: number;
  readonly value: "NaN" | "Infinity" | "-Infinity";
}

/** Where a dtype keeps its exponent: all ones there means NaN or infinity. */
const FLOATS: Readonly<Record<string, { readonly bytes: 2 | 4; readonly exponent: number }>> = {
  F32: { bytes: 4, exponent: 0x7f800000 },
  F16: { bytes: 2, exponent: 0x7c00 },
  BF16: { bytes: 2, exponent: 0x7f80 },
};
const CHUNK = 1 << 24;

/**
 * The first value of each tensor that is not finite. Reads all of the file's floats, so it is for when something is
 * wrong already, or when asked for; loading a model doesn't.
 */
export function* badValues(
  { path, tensors }: SafetensorsHeader,
  owns: (key: string) => boolean = () => true,
): Generator<BadValue> {
  const file = openSync(path, "r");
  try {
    const chunk = new ArrayBuffer(CHUNK);
    for (const [key, entry] of tensors) {
      const found = owns(key) ? firstBad(file, entry, chunk) : undefined;
      if (found) yield { key, ...found };
    }
  } finally {
    closeSync(file);
  }
}

function firstBad(
  file: number,
  { dtype, offset, length }: TensorEntry,
  chunk: ArrayBuffer,
): Omit<BadValue, "key"> | undefined {
  const float = FLOATS[dtype];
  if (!float) return undefined;
  const { bytes, exponent } = float;
  const values = bytes === 4 ? new Uint32Array(chunk) : new Uint16Array(chunk);
  const buffer = new Uint8Array(chunk);
  for (let at = 0; at < length; at += CHUNK) {
    const size = readFully(file, buffer, Math.min(CHUNK, length - at), offset + at);
    const n = size / bytes;
    for (let i = 0; i < n; i++) {
      const bits = values[i]!;
      if ((bits & exponent) !== exponent) continue;
      const sign = 2 ** (8 * bytes - 1);
      const nan = bits % sign !== exponent;
      return { index: at / bytes + i, value: nan ? "NaN" : bits >= sign ? "-Infinity" : "Infinity" };
    }
  }
  return undefined;
}

function readFully(file: number, into: Uint8Array, size: number, position: number): number {
  let at = 0;
  while (at < size) {
    const n = readSync(file, into, at, size - at, position + at);
    if (n === 0) break; // the file was cut off after its header was read
    at += n;
  }
  return at;
}

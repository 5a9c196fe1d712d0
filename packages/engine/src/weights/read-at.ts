/** Parts of files, and weights that a device can't widen itself. */
import { closeSync, openSync, readSync } from "node:fs";
import type { WeightRef } from "../core/leaves.ts";
import { fromBfloat16, fromFloat16 } from "./float16.ts";

/** Bytes of a file; fewer if it ends before. In a buffer of its own, so that typed arrays over it are aligned. */
export function readAt(path: string, offset: number, length: number): Buffer<ArrayBuffer> {
  const file = openSync(path, "r");
  try {
    const bytes = Buffer.from(new ArrayBuffer(length));
    let at = 0;
    for (let n = -1; at < length && n !== 0; at += n)
      n = readSync(file, bytes, at, Math.min(length - at, 1 << 30), offset + at);
    return bytes.subarray(0, at);
  } finally {
    closeSync(file);
  }
}

/** A float16 or bfloat16 weight as float32. */
export function readWidened({ file, offset, length, dtype }: WeightRef): Float32Array {
  const bits = new Uint16Array(readAt(file, offset, length).buffer);
  return dtype === "float16" ? fromFloat16(bits) : fromBfloat16(bits);
}

/** Parts of files, and weights that a device can't widen itself. */
import { closeSync, openSync, readSync } from "node:fs";
import { type WeightRef, weightOp } from "../core/leaves.ts";
import type { Tensor } from "../core/tensor.ts";
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

/** The first n values of a weight that is mapped from a file, or as many as it has. @throws Error for another tensor */
export function firstValues({ node }: Tensor, n: number): Float32Array {
  if (node.op !== (weightOp as unknown)) throw new Error(`needed a weight, found the result of "${node.op.name}"`);
  const ref = node.attrs.ref as WeightRef;
  const bytes = ref.dtype === "float32" ? 4 : 2;
  const part = { ...ref, length: Math.min(ref.length, n * bytes) };
  return bytes === 2 ? readWidened(part) : new Float32Array(readAt(part.file, part.offset, part.length).buffer);
}

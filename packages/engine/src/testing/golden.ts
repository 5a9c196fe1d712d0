/** Golden numbers from fixtures/: made by committed scripts, read only if made by the script as it stands. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { constant } from "../core/op.ts";
import type { Tensor } from "../core/tensor.ts";
import { readFloats, readSafetensorsHeader, readTensorBytes } from "../weights/safetensors.ts";

const ROOT = fileURLToPath(new URL("../../../../", import.meta.url));
export const FIXTURES: string = join(ROOT, "fixtures");

export interface Golden {
  readonly metadata: Readonly<Record<string, string>>;
  readonly keys: readonly string[];
  has(key: string): boolean;
  shape(key: string): readonly number[];
  floats(key: string): Float32Array;
  ints(key: string): Int32Array;
  /** The tensor as a constant of a graph. */
  tensor(key: string): Tensor;
}

/** @throws Error if the maker has changed since the file was made */
export function readGolden(name: string): Golden {
  const header = readSafetensorsHeader(join(FIXTURES, `${name}.safetensors`));
  const { made_by: maker, sha256 } = header.metadata;
  const now = createHash("sha256")
    .update(readFileSync(join(ROOT, maker!)))
    .digest("hex");
  if (now !== sha256) throw new Error(`${name}: made by another version of ${maker}. Run it again.`);
  const entry = (key: string): { dtype: string; shape: readonly number[] } => {
    const found = header.tensors.get(key);
    if (!found) throw new Error(`${name}: no tensor "${key}"`);
    return found;
  };
  const ints = (key: string): Int32Array => {
    const { buffer } = readTensorBytes(header, key);
    return entry(key).dtype === "I64" ? Int32Array.from(new BigInt64Array(buffer), Number) : new Int32Array(buffer);
  };
  return {
    metadata: header.metadata,
    keys: [...header.tensors.keys()],
    has: (key) => header.tensors.has(key),
    shape: (key) => entry(key).shape,
    floats: (key) => (entry(key).dtype.startsWith("I") ? Float32Array.from(ints(key)) : readFloats(header, key)),
    ints,
    tensor: (key) => constant(entry(key).dtype.startsWith("I") ? ints(key) : readFloats(header, key), entry(key).shape),
  };
}

/** Largest absolute difference over the largest absolute value of the reference; NaN counts as infinite. */
export function relativeError(found: ArrayLike<number>, wanted: ArrayLike<number>): number {
  if (found.length !== wanted.length) return Number.POSITIVE_INFINITY;
  let difference = 0;
  let scale = 0;
  for (let i = 0; i < wanted.length; i++) {
    const d = Math.abs(found[i]! - wanted[i]!);
    if (!(d <= difference)) difference = Number.isNaN(d) ? Number.POSITIVE_INFINITY : d;
    scale = Math.max(scale, Math.abs(wanted[i]!));
  }
  return difference === 0 ? 0 : difference / (scale || 1);
}

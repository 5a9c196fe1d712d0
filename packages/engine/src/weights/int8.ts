/**
 * Copies of weights in 8 bits. A CPU that multiplies bytes (VNNI) makes products with them up to three times as fast
 * (docs/decisions/0009-int8.md). They lie in the cache folder, made once and mapped from there as any weight.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, realpathSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { type WeightRef, weight, weightOp } from "../core/leaves.ts";
import { size } from "../core/shape.ts";
import { ancestors, type Shape, type Tensor } from "../core/tensor.ts";
import { LikenessError } from "../errors.ts";
import { atomicWrite } from "./atomic-write.ts";
import { readAt, readWidened } from "./read-at.ts";
import { view, type Weights } from "./weights.ts";

/** A matrix (K, N) of bytes and a factor for each column: what K values of x are multiplied by. */
export interface Int8Matrix {
  readonly values: WeightRef;
  readonly scales: WeightRef;
}

/** Matrices and kernels of fewer rows or columns stay as they are: little work, and the model's first and last layers. */
const LEAST = 32;

/** `base` whose matrices and kernels a CPU multiplies in 8 bits. Values, gradients of other inputs and keys stay the same. */
export function int8Weights(base: Weights): Weights {
  expectBytesMultiplied();
  const folders = new Map<string, string>();
  const folderOf = (file: string): string => {
    if (!folders.has(file)) folders.set(file, copiesFolder(file));
    return folders.get(file)!;
  };
  return view({
    get: (key, shape, init) => {
      const t = base.get(key, shape, init);
      if (t.node.op !== (weightOp as unknown) || !hasCopies(t.shape)) return t;
      const ref = t.node.attrs.ref as WeightRef;
      return weight({ ...ref, int8: folderOf(ref.file) });
    },
    has: (key) => base.has(key),
    lowRank: (key) => base.lowRank(key),
  });
}

const hasCopies = (shape: Shape): boolean =>
  (shape.length === 2 || shape.length === 4) && Math.min(shape[0]!, shape[1]!) >= LEAST;

/** The weight's reference if it has copies in 8 bits. */
export function int8Ref({ node }: Tensor): WeightRef | undefined {
  const ref = node.op === (weightOp as unknown) ? (node.attrs.ref as WeightRef) : undefined;
  return ref?.int8 === undefined ? undefined : ref;
}

/** The copy of a weight (O, C) or (O, C, kh, kw), made if it isn't there: (kh·kw·C, O), with a factor for each of the O. */
export function int8Matrix(ref: WeightRef): Int8Matrix {
  const path = copyPath(ref);
  if (!existsSync(path)) writeCopy(ref, path);
  const n = ref.shape[0]!;
  const k = size(ref.shape) / n;
  return {
    scales: { file: path, offset: 0, length: 4 * n, dtype: "float32", shape: [n] },
    values: { file: path, offset: 4 * n, length: k * n, dtype: "int8", shape: [k, n] },
  };
}

const copyPath = ({ int8, offset, shape }: WeightRef): string => join(int8!, `${offset}-${shape.join("x")}`);

export interface Int8Options {
  onProgress?(done: number, total: number): void;
  readonly signal?: AbortSignal | undefined;
}

/** Makes the copies of all weights that `outputs` depend on, but for those that are there: else the first graph makes them. */
export async function makeInt8Copies(
  outputs: readonly Tensor[],
  { onProgress, signal }: Int8Options = {},
): Promise<void> {
  const missing = ancestors(outputs)
    .map((node) => int8Ref(node.outputs[0]!))
    .filter((ref) => ref !== undefined)
    .filter((ref) => !existsSync(copyPath(ref)));
  for (const [i, ref] of missing.entries()) {
    await new Promise(setImmediate);
    signal?.throwIfAborted();
    int8Matrix(ref);
    onProgress?.(i + 1, missing.length);
  }
}

/** The folder of a file's copies; a file that changes has another. */
function copiesFolder(file: string): string {
  const { size: bytes, mtimeMs } = statSync(file);
  const name = createHash("sha256")
    .update(`${realpathSync(file)} ${bytes} ${mtimeMs}`)
    .digest("hex")
    .slice(0, 16);
  const folder = join(cacheFolder(), "likeness", "int8", name);
  mkdirSync(folder, { recursive: true });
  return realpathSync(folder); // ONNX Runtime maps no file behind a symbolic link
}

const cacheFolder = (): string =>
  process.env.XDG_CACHE_HOME || (process.platform === "win32" && process.env.LOCALAPPDATA) || join(homedir(), ".cache");

/** Rows of the copy are filled this many at a time: they and what they are read from stay in the cache. */
const BLOCK = 64;

function writeCopy(ref: WeightRef, path: string): void {
  const [o, c] = ref.shape as [number, number];
  const taps = size(ref.shape) / (o * c);
  const w =
    ref.dtype === "float32" ? new Float32Array(readAt(ref.file, ref.offset, ref.length).buffer) : readWidened(ref);
  const scales = Float32Array.from({ length: o }, (_, j) => {
    let largest = 0;
    for (let i = j * c * taps; i < (j + 1) * c * taps; i++) largest = Math.max(largest, Math.abs(w[i]!));
    return largest === 0 ? 1 : largest / 127;
  });
  const values = new Int8Array(w.length);
  for (let tap = 0; tap < taps; tap++)
    for (let from = 0; from < c; from += BLOCK)
      for (let j = 0; j < o; j++) {
        const inverse = 1 / scales[j]!;
        for (let i = from; i < Math.min(c, from + BLOCK); i++)
          values[(tap * c + i) * o + j] = Math.round(w[(j * c + i) * taps + tap]! * inverse);
      }
  atomicWrite(path, [new Uint8Array(scales.buffer), new Uint8Array(values.buffer)]);
}

/** Whether this CPU adds products of bytes without overflow; undefined where the system doesn't say. */
export function multipliesBytes(): boolean | undefined {
  if (process.arch === "arm64") return true;
  if (process.platform !== "linux") return undefined;
  const flags = /^flags\s*:.*$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[0];
  return flags === undefined ? undefined : /\b(avx512_vnni|avx_vnni)\b/.test(flags);
}

/** @throws LikenessError on a CPU whose products of bytes could overflow */
function expectBytesMultiplied(): void {
  if (multipliesBytes() !== false) return;
  throw new LikenessError("E_DEVICE", {
    what: "products in 8 bits",
    where: "this CPU",
    needed: "VNNI (Intel since 2019, AMD since Zen 4)",
    found: "a CPU without it, whose sums of bytes overflow",
    next: "Leave out --int8.",
  });
}

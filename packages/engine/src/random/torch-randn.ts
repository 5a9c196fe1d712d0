/** The numbers that torch draws on the CPU: torch.Generator("cpu").manual_seed(seed), bit for bit. */
import { logf, sincosf } from "./cephes.ts";
import { mt19937, type Words } from "./mt19937.ts";

const TWO_PI: number = Math.fround(2 * Math.PI);

/** A generator with the state of torch's: each call goes on where the last one stopped. */
export interface TorchRandom {
  /** torch.randn(n): standard normal. A shape counts only by its number of elements. */
  normal(n: number): Float32Array;
  /** torch.rand(n): in [0, 1), of 24 bits. */
  uniform(n: number): Float32Array;
  /** torch.randint(high, (n,)): in [0, high), high < 2^28. */
  integers(n: number, high: number): Int32Array;
}

/** The seed is none that torch takes. */
export class SeedError extends Error {
  override readonly name = "SeedError";
  readonly code = "E_SEED";
}

/**
 * @param seed a whole number in [−2^63, 2^64); beyond 2^53 as a bigint
 * @throws SeedError
 */
export function torchRandn(seed: number | bigint): TorchRandom {
  const words = mt19937(lowWord(seed));
  /** The second value of the last Box–Muller pair; torch keeps it from one short draw to the next. */
  let spare: number | undefined;
  const one = (): number => {
    if (spare !== undefined) {
      const value = spare;
      spare = undefined;
      return value;
    }
    const angle = 2 * Math.PI * uniform53(words);
    const radius = Math.sqrt(-2 * Math.log1p(-uniform53(words)));
    spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  };
  return {
    normal: (n) => (n < 16 ? Float32Array.from({ length: n }, one) : normalFill(words, n)),
    uniform: (n) => Float32Array.from({ length: n }, () => uniform24(words)),
    integers: (n, high) => {
      if (!Number.isInteger(high) || high < 1 || high >= 2 ** 28)
        throw new RangeError(`torchRandn.integers: needed a whole number in [1, 2^28), found ${high}.`);
      return Int32Array.from({ length: n }, () => words() % high);
    },
  };
}

function lowWord(seed: number | bigint): number {
  if (typeof seed === "number" && !Number.isSafeInteger(seed))
    throw new SeedError(`seed: needed a whole number, found ${seed}. Beyond 2^53 give a bigint. [E_SEED]`);
  const value = BigInt(seed);
  if (value < -(2n ** 63n) || value >= 2n ** 64n)
    throw new SeedError(`seed: needed a number in [-2^63, 2^64), found ${seed}. [E_SEED]`);
  return Number(BigInt.asUintN(32, value));
}

const uniform24 = (words: Words): number => (words() & 0xffffff) / 2 ** 24;

const uniform53 = (words: Words): number => {
  const high = words() & 0x1fffff;
  return (high * 2 ** 32 + words()) / 2 ** 53;
};

/** 16 values or more: all uniforms first, then Box–Muller in blocks of 16; a rest draws its last 16 uniforms anew. */
function normalFill(words: Words, n: number): Float32Array {
  const out = Float32Array.from({ length: n }, () => uniform24(words));
  for (let at = 0; at + 16 <= n; at += 16) boxMuller16(out.subarray(at, at + 16));
  if (n % 16 !== 0) {
    const last = out.subarray(n - 16);
    for (let i = 0; i < 16; i++) last[i] = uniform24(words);
    boxMuller16(last);
  }
  return out;
}

/** 16 uniforms → 16 normals in place: values i and i + 8 make a pair. */
function boxMuller16(values: Float32Array): void {
  for (let i = 0; i < 8; i++) {
    const radius = Math.fround(Math.sqrt(-2 * logf(1 - values[i]!)));
    const [sin, cos] = sincosf(Math.fround(TWO_PI * values[i + 8]!));
    values[i] = radius * cos + 0; // + 0: torch adds the mean, which turns −0 into 0
    values[i + 8] = radius * sin + 0;
  }
}

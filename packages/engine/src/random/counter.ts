/** Randomness by position: Philox4x32-10 (Salmon et al. 2011), the same on every machine, with random access. */
import { logf, sincosf } from "./cephes.ts";

/** 32-bit FNV-1a of a name, to give each purpose a stream of its own. */
function hash(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return h >>> 0;
}

/** High and low words of a 32 × 32 bit product. */
function mulHiLo(a: number, b: number): [number, number] {
  const al = a & 0xffff;
  const ah = a >>> 16;
  const bl = b & 0xffff;
  const bh = b >>> 16;
  const mid = ah * bl + ((al * bl) >>> 16);
  const mid2 = al * bh + (mid & 0xffff);
  return [(ah * bh + Math.floor(mid / 65536) + Math.floor(mid2 / 65536)) >>> 0, Math.imul(a, b) >>> 0];
}

export interface CounterRandom {
  /** The next n values in [0, 1), of 24 bits. */
  uniform(n: number): Float32Array;
  /** The next n standard normal values. */
  normal(n: number): Float32Array;
  /** The next whole number in [0, n). */
  int(n: number): number;
  /** 0 … n − 1 in random order. */
  permutation(n: number): Int32Array;
}

/** The stream `name` of a seed, from position `at` (in blocks of four words). */
export function counterRandom(seed: number, name: string = "", at: number = 0): CounterRandom {
  const key0 = seed >>> 0;
  const key1 = (hash(name) ^ Math.floor(seed / 2 ** 32)) >>> 0;
  let block = at;
  const words = new Uint32Array(4);
  let used = 4;

  const next = (): number => {
    if (used === 4) {
      philox(block++, key0, key1, words);
      used = 0;
    }
    return words[used++]!;
  };
  const uniform = (n: number): Float32Array => Float32Array.from({ length: n }, () => (next() >>> 8) / 2 ** 24);
  const int = (n: number): number => Math.floor((next() / 2 ** 32) * n);
  return {
    uniform,
    int,
    normal: (n) => {
      const out = new Float32Array(n);
      for (let i = 0; i < n; i += 2) {
        // Box–Muller; the first uniform is in (0, 1]
        const r = Math.sqrt(-2 * logf(((next() >>> 8) + 1) / 2 ** 24));
        const [sin, cos] = sincosf(Math.fround(2 * Math.PI * ((next() >>> 8) / 2 ** 24)));
        out[i] = r * cos;
        if (i + 1 < n) out[i + 1] = r * sin;
      }
      return out;
    },
    permutation: (n) => {
      const order = Int32Array.from({ length: n }, (_, i) => i);
      for (let i = n - 1; i > 0; i--) {
        const j = int(i + 1);
        [order[i], order[j]] = [order[j]!, order[i]!];
      }
      return order;
    },
  };
}

function philox(counter: number, key0: number, key1: number, out: Uint32Array): void {
  let [c0, c1, c2, c3] = [counter >>> 0, Math.floor(counter / 2 ** 32) >>> 0, 0, 0];
  let [k0, k1] = [key0, key1];
  for (let round = 0; round < 10; round++) {
    const [hi0, lo0] = mulHiLo(0xd2511f53, c0);
    const [hi1, lo1] = mulHiLo(0xcd9e8d57, c2);
    [c0, c1, c2, c3] = [(hi1 ^ c1 ^ k0) >>> 0, lo1, (hi0 ^ c3 ^ k1) >>> 0, lo0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

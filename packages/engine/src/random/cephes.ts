/**
 * Natural logarithm, sine and cosine in float32 arithmetic: the Cephes polynomials (S. L. Moshier) with the order of
 * operations of torch's AVX2 kernels, fused multiply-adds included, so that the last bit agrees too. (Which of two
 * neighbouring sums its compiler fused was found by comparing a million values.)
 */

const f = Math.fround;
const bits = new Uint32Array(1);
const float = new Float32Array(bits.buffer);

/** a·b + c fused: the product is exact in float64; that the sum is rounded twice shows in about one of 2^29 sums. */
const fma = (a: number, b: number, c: number): number => f(a * b + c);

const horner = (x: number, coefficients: readonly number[]): number => coefficients.reduce((y, c) => fma(y, x, c));

const SQRT_HALF: number = f(Math.SQRT1_2);
const LOG: readonly number[] = [
  7.0376836292e-2, -1.151461031e-1, 1.167699874e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
  2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
].map(f);
/** ln 2 in two parts */
const LN2_LOW: number = f(-2.1219444e-4);
const LN2_HIGH = 0.693359375;

/** ln x of a normal float32 x > 0. */
export function logf(x: number): number {
  float[0] = x;
  let e = (bits[0]! >>> 23) - 126;
  bits[0] = (bits[0]! & 0x007fffff) | 0x3f000000;
  const m = float[0]; // x = m·2^e, m in [½, 1)
  let r = f(m - 1);
  if (m < SQRT_HALF) {
    e -= 1;
    r = f(r + m);
  }
  const z = f(r * r);
  let y = fma(f(horner(r, LOG) * r), z, f(e * LN2_LOW));
  y = fma(-0.5, z, y);
  return fma(e, LN2_HIGH, f(r + y));
}

const FOUR_OVER_PI: number = f(1.27323954473516);
/** −π/4 in three parts */
const PIO4: readonly number[] = [-0.78515625, -2.4187564849853516e-4, -3.774894977445941e-8].map(f);
const SIN: readonly number[] = [-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1].map(f);
const COS: readonly number[] = [2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2].map(f);

/** [sin x, cos x] of a float32 x in [0, 8192). */
export function sincosf(x: number): [number, number] {
  const octant = (Math.trunc(f(x * FOUR_OVER_PI)) + 1) & ~1;
  const r = PIO4.reduce((rest, part) => fma(octant, part, rest), x);
  const z = f(r * r);
  const c = f(fma(f(horner(z, COS) * z), z, -0.5 * z) + 1);
  const s = fma(f(horner(z, SIN) * z), r, r);
  const swap = (octant & 2) !== 0;
  const sin = swap ? c : s;
  const cos = swap ? s : c;
  return [octant & 4 ? -sin : sin, (octant - 2) & 4 ? cos : -cos];
}

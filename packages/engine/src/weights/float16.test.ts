import { expect, test } from "vitest";
import { fromBfloat16, fromFloat16, toFloat16 } from "./float16.ts";

const every = Uint16Array.from({ length: 65536 }, (_, i) => i);
const isNan = (h: number): boolean => (h & 0x7fff) > 0x7c00;
const one = (x: number): number => toFloat16(Float32Array.of(x))[0]!;

test("all 65536 patterns survive float16 → float32 → float16; NaN stays NaN", () => {
  const back = toFloat16(fromFloat16(every));
  for (const h of every) expect(isNan(h) ? isNan(back[h]!) : back[h] === h, `pattern ${h}`).toBe(true);
});

test("known values, by IEEE 754", () => {
  const bits = Uint16Array.of(0x3c00, 0x7bff, 0x0400, 0x03ff, 0x0001, 0x8000, 0x7c00, 0xfc00);
  const values = [1, 65504, 2 ** -14, 2 ** -14 - 2 ** -24, 2 ** -24, -0, Infinity, -Infinity];
  expect([...fromFloat16(bits)]).toEqual(values);
});

test("every midpoint of two neighbours goes to the even one, and a little more or less to the nearer", () => {
  const value = fromFloat16(every);
  const step = (x: number, by: number): number => {
    const f = Float32Array.of(x);
    new Uint32Array(f.buffer)[0]! += by;
    return f[0]!;
  };
  for (let h = 0; h < 0x7bff; h++) {
    const middle = (value[h]! + value[h + 1]!) / 2; // exact in float32
    const even = h % 2 ? h + 1 : h;
    if (one(middle) !== even || one(-middle) !== (even | 0x8000)) throw new Error(`tie above pattern ${h}`);
    if (one(step(middle, -1)) !== h || one(step(middle, 1)) !== h + 1) throw new Error(`near pattern ${h}`);
  }
  expect(one(65519.996)).toBe(0x7bff);
  expect(one(65520)).toBe(0x7c00);
  expect(one(2 ** -26)).toBe(0);
});

test("bfloat16 is the upper half of a float32", () => {
  expect([...fromBfloat16(Uint16Array.of(0x3f80, 0xc040, 0x0001, 0x7f80))]).toEqual([1, -3, 2 ** -133, Infinity]);
});

test("an array that starts inside its buffer", () => {
  expect([...toFloat16(Float32Array.of(9, 1, 2).subarray(1))]).toEqual([0x3c00, 0x4000]);
});

/** float16 and bfloat16 as bit patterns, to and from float32. */

const f32 = new Float32Array(1);
const u32 = new Uint32Array(f32.buffer);

/** Nearest float16 (ties to even) of each value; too large becomes infinity. */
export function toFloat16(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = new Uint16Array(values.length);
  for (let i = 0; i < out.length; i++) {
    const b = bits[i]!;
    const sign = (b >>> 16) & 0x8000;
    const abs = b & 0x7fffffff;
    if (abs > 0x7f800000) out[i] = sign | 0x7e00;
    else if (abs >= 0x477ff000)
      out[i] = sign | 0x7c00; // 65520 and above round to infinity
    else if (abs >= 0x38800000) {
      const odd = (abs >>> 13) & 1;
      out[i] = sign | ((abs - 0x38000000 + 0xfff + odd) >>> 13);
    } else if (abs < 0x33000000) out[i] = sign;
    else {
      // subnormal: shift the mantissa with its implicit bit into place
      const shift = 126 - (abs >>> 23);
      const mantissa = (abs & 0x7fffff) | 0x800000;
      const half = 1 << (shift - 1);
      const q = mantissa >>> shift;
      const rest = mantissa & ((1 << shift) - 1);
      out[i] = sign | (q + (rest > half || (rest === half && q & 1) ? 1 : 0));
    }
  }
  return out;
}

let table: Float32Array | undefined;

/** The float32 value of each float16. */
export function fromFloat16(values: Uint16Array): Float32Array {
  table ??= Float32Array.from({ length: 65536 }, (_, h) => {
    const e = (h >>> 10) & 31;
    const m = h & 1023;
    const magnitude =
      e === 0 ? m * 2 ** -24 : e === 31 ? (m ? Number.NaN : Number.POSITIVE_INFINITY) : (1 + m / 1024) * 2 ** (e - 15);
    return h & 0x8000 ? -magnitude : magnitude;
  });
  const out = new Float32Array(values.length);
  for (let i = 0; i < out.length; i++) out[i] = table[values[i]!]!;
  return out;
}

/** The float32 value of each bfloat16. */
export function fromBfloat16(values: Uint16Array): Float32Array {
  const out = new Float32Array(values.length);
  for (let i = 0; i < out.length; i++) {
    u32[0] = values[i]! << 16;
    out[i] = f32[0]!;
  }
  return out;
}

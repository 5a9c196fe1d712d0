/** 0..255 each. */
export type Rgb = readonly [number, number, number];

/** A square picture to paint on. Coordinates are in units of its side, (0, 0) top left, so that any size shows the same. */
export class Canvas {
  readonly size: number;
  /** (size, size, 3), 0..255 */
  readonly data: Float32Array;
  /** (size, size): how much of a pixel is subject rather than background, 0..1 */
  readonly mask: Float32Array;

  constructor(size: number) {
    this.size = size;
    this.data = new Float32Array(size * size * 3);
    this.mask = new Float32Array(size * size);
  }

  /** Lays `c` over pixel i with opacity a. */
  blend(i: number, c: Rgb, a: number): void {
    const d = this.data;
    const k = i * 3;
    d[k] = d[k]! + (c[0] - d[k]!) * a;
    d[k + 1] = d[k + 1]! + (c[1] - d[k + 1]!) * a;
    d[k + 2] = d[k + 2]! + (c[2] - d[k + 2]!) * a;
  }

  /** Paints the rows from v0 to v1 with a gradient from `top` to `bottom`. */
  gradient(v0: number, v1: number, top: Rgb, bottom: Rgb): void {
    const n = this.size;
    for (let y = 0; y < n; y++) {
      const v = (y + 0.5) / n;
      const cover = clamp01(Math.min(v - v0, v1 - v) * n + 0.5);
      if (cover <= 0) continue;
      const c = mixRgb(top, bottom, clamp01((v - v0) / Math.max(1e-6, v1 - v0)));
      for (let x = 0; x < n; x++) this.blend(y * n + x, c, cover);
    }
  }

  /** Calls paint(i, u, v) for every pixel centre in the box. */
  each(u0: number, v0: number, u1: number, v1: number, paint: (i: number, u: number, v: number) => void): void {
    const n = this.size;
    const [x0, x1] = [Math.max(0, Math.floor(u0 * n)), Math.min(n, Math.ceil(u1 * n))];
    const [y0, y1] = [Math.max(0, Math.floor(v0 * n)), Math.min(n, Math.ceil(v1 * n))];
    for (let y = y0; y < y1; y++) for (let x = x0; x < x1; x++) paint(y * n + x, (x + 0.5) / n, (y + 0.5) / n);
  }

  /** Multiplies pixels by 1 + amount * field(u, v), field in [-1, 1]. */
  shade(v0: number, v1: number, amount: number, field: (u: number, v: number) => number): void {
    const d = this.data;
    this.each(0, v0, 1, v1, (i, u, v) => {
      const k = 1 + amount * field(u, v);
      d[i * 3] = d[i * 3]! * k;
      d[i * 3 + 1] = d[i * 3 + 1]! * k;
      d[i * 3 + 2] = d[i * 3 + 2]! * k;
    });
  }

  /** An ellipse with radii ru, rv; `soft` 0 is a sharp rim, 1 fades from the centre. */
  disc(u: number, v: number, ru: number, rv: number, c: Rgb, alpha: number = 1, soft: number = 0): void {
    const n = this.size;
    const rim = Math.max(soft, 1 / (n * Math.max(ru, rv)));
    const grow = 1 + rim;
    this.each(u - ru * grow, v - rv * grow, u + ru * grow, v + rv * grow, (i, pu, pv) => {
      const r = length((pu - u) / ru, (pv - v) / rv);
      const a = soft > 0 ? smooth(clamp01((1 - r) / rim)) : clamp01((1 - r) / rim + 0.5);
      if (a > 0) this.blend(i, c, a * alpha);
    });
  }

  rect(u0: number, v0: number, u1: number, v1: number, c: Rgb, alpha: number = 1): void {
    const n = this.size;
    this.each(u0, v0, u1, v1, (i, u, v) => {
      const a = clamp01(Math.min(u - u0, u1 - u) * n + 0.5) * clamp01(Math.min(v - v0, v1 - v) * n + 0.5);
      this.blend(i, c, a * alpha);
    });
  }

  line(u0: number, v0: number, u1: number, v1: number, width: number, c: Rgb, alpha: number = 1): void {
    const n = this.size;
    const [du, dv] = [u1 - u0, v1 - v0];
    const len2 = du * du + dv * dv || 1e-9;
    const m = width + 1 / n;
    this.each(Math.min(u0, u1) - m, Math.min(v0, v1) - m, Math.max(u0, u1) + m, Math.max(v0, v1) + m, (i, u, v) => {
      const t = clamp01(((u - u0) * du + (v - v0) * dv) / len2);
      const far = length(u - u0 - t * du, v - v0 - t * dv);
      const a = clamp01((width / 2 - far) * n + 0.5);
      if (a > 0) this.blend(i, c, a * alpha);
    });
  }

  /** A filled triangle. */
  triangle(
    a: readonly [number, number],
    b: readonly [number, number],
    c: readonly [number, number],
    color: Rgb,
    alpha: number = 1,
  ): void {
    const n = this.size;
    const area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1]);
    const s = area < 0 ? -1 : 1;
    const edge = (p: readonly [number, number], q: readonly [number, number], u: number, v: number): number =>
      (s * ((q[0] - p[0]) * (v - p[1]) - (q[1] - p[1]) * (u - p[0]))) / (length(q[0] - p[0], q[1] - p[1]) || 1e-9);
    const m = 1 / n;
    const us = [a[0], b[0], c[0]];
    const vs = [a[1], b[1], c[1]];
    this.each(Math.min(...us) - m, Math.min(...vs) - m, Math.max(...us) + m, Math.max(...vs) + m, (i, u, v) => {
      const d = Math.min(edge(a, b, u, v), edge(b, c, u, v), edge(c, a, u, v));
      const cover = clamp01(d * n + 0.5);
      if (cover > 0) this.blend(i, color, cover * alpha);
    });
  }

  /** Fills everything below the line v = top(u); the colour runs from `near the line` to `at the bottom`. */
  ground(top: (u: number) => number, atLine: Rgb, atBottom: Rgb): void {
    const n = this.size;
    for (let x = 0; x < n; x++) {
      const t = top((x + 0.5) / n);
      for (let y = Math.max(0, Math.floor(t * n - 1)); y < n; y++) {
        const v = (y + 0.5) / n;
        const cover = clamp01((v - t) * n + 0.5);
        if (cover > 0) this.blend(y * n + x, mixRgb(atLine, atBottom, clamp01((v - t) / Math.max(1e-6, 1 - t))), cover);
      }
    }
  }

  /** Rounds to 8 bits, (size, size, 3). */
  bytes(): Uint8Array {
    const out = new Uint8Array(this.data.length);
    for (let i = 0; i < out.length; i++) out[i] = Math.max(0, Math.min(255, Math.round(this.data[i]!)));
    return out;
  }
}

export function clamp01(x: number): number {
  return Math.max(0, Math.min(1, x));
}

/** The length of (x, y). Unlike Math.hypot's, its bits are the same in every engine. */
export function length(x: number, y: number): number {
  return Math.sqrt(x * x + y * y);
}

export function smooth(t: number): number {
  return t * t * (3 - 2 * t);
}

export function mixRgb(a: Rgb, b: Rgb, t: number): Rgb {
  return [a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t];
}

/** Hue in turns, saturation and lightness in 0..1. */
export function hsl(h: number, s: number, l: number): Rgb {
  const f = (n: number): number => {
    const k = (n + h * 12 + 1200) % 12;
    return 255 * (l - s * Math.min(l, 1 - l) * Math.max(-1, Math.min(k - 3, 9 - k, 1)));
  };
  return [f(0), f(8), f(4)];
}

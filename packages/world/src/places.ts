import type { Place } from "./backgrounds.ts";
import { clamp01, hsl, mixRgb, type Rgb } from "./canvas.ts";
import { cloud, type Painter, ridge, roughness, scatter } from "./elements.ts";
import { noiseField } from "./random.ts";

const beach: Painter = (c, rng) => {
  const horizon = rng.range(0.28, 0.42);
  const shore = ridge(rng, horizon + rng.range(0.14, 0.24), 0.03, 3);
  c.gradient(0, horizon, hsl(rng.range(0.54, 0.6), 0.8, 0.62), hsl(0.54, 0.75, 0.86));
  if (rng.chance(0.6)) c.disc(rng.next(), rng.range(0.06, 0.2), 0.07, 0.07, [255, 244, 170], 1, 0.25);
  if (rng.chance(0.6)) cloud(c, rng, rng.next(), rng.range(0.08, 0.2), 0.09, [255, 255, 255], 0.9);
  c.gradient(horizon, 1, hsl(rng.range(0.53, 0.58), 0.75, 0.4), hsl(0.5, 0.7, 0.6));
  for (let i = 0; i < 5; i++)
    c.line(rng.next(), horizon + 0.03 + i * 0.025, rng.next(), horizon + 0.03 + i * 0.025, 0.008, [235, 250, 255], 0.5);
  c.ground((u) => shore(u) - 0.025, [250, 252, 255], [250, 252, 255]);
  c.ground(shore, hsl(0.115, 0.55, rng.range(0.68, 0.74)), hsl(0.115, 0.6, 0.8));
  c.shade(horizon, 1, 0.05, roughness(rng, 14));
  if (rng.chance(0.35)) {
    const u = rng.pick([0.1, 0.88]);
    c.line(u, 0.8, u + 0.05, 0.3, 0.04, [130, 90, 50]);
    for (const a of [-2.8, -2.2, -0.9, -0.3, 0.3])
      c.line(u + 0.05, 0.3, u + 0.05 + Math.cos(a) * 0.2, 0.32 + Math.sin(a) * 0.13, 0.05, [40, 140, 60]);
  }
};

const snow: Painter = (c, rng) => {
  const horizon = rng.range(0.35, 0.5);
  c.gradient(0, horizon + 0.1, hsl(rng.range(0.56, 0.62), 0.35, 0.68), hsl(0.58, 0.3, 0.88));
  scatter(rng, rng.int(5, 10), horizon - 0.02, horizon + 0.08, (u, v) => {
    const h = rng.range(0.12, 0.24);
    for (let k = 0; k < 3; k++)
      c.triangle(
        [u, v - h + k * h * 0.22],
        [u - h * (0.22 + k * 0.09), v - h * 0.45 + k * h * 0.22],
        [u + h * (0.22 + k * 0.09), v - h * 0.45 + k * h * 0.22],
        k % 2 ? [225, 236, 246] : [82, 116, 120],
      );
  });
  c.ground(ridge(rng, horizon, 0.06, 2.5), [250, 252, 255], [205, 220, 240]);
  c.ground(ridge(rng, horizon + 0.25, 0.05, 2), [255, 255, 255], [222, 233, 247]);
  scatter(rng, 36, 0, 1, (u, v) => c.disc(u, v, 0.011, 0.011, [255, 255, 255], 0.95, 0.3));
};

const forest: Painter = (c, rng) => {
  const horizon = rng.range(0.5, 0.62);
  const hue = rng.range(0.27, 0.36);
  c.gradient(0, 1, hsl(hue - 0.06, 0.45, 0.62), hsl(hue, 0.45, 0.32));
  for (let layer = 0; layer < 2; layer++) {
    for (let i = 0; i < 7; i++) {
      const u = (i + rng.range(0, 1)) / 7;
      const w = rng.range(0.025, 0.05) * (1 + layer * 0.6);
      const bark = hsl(0.07, 0.35, layer ? 0.2 : 0.34);
      c.rect(u - w / 2, 0, u + w / 2, horizon + 0.03 + layer * 0.07, bark);
    }
  }
  const leaves = noiseField(rng.uint());
  c.each(0, 0, 1, 0.5, (i, u, v) => {
    const k = leaves(u * 8, v * 8) * 0.6 + leaves(u * 19, v * 19) * 0.4;
    const a = clamp01((k - 0.3 - v * 0.75) * 9);
    if (a > 0) c.blend(i, hsl(hue, 0.55, 0.16 + leaves(u * 23 + 7, v * 23) * 0.24), a);
  });
  c.ground(ridge(rng, horizon + 0.08, 0.04, 4), hsl(hue - 0.05, 0.45, 0.3), hsl(hue - 0.08, 0.45, 0.22));
  c.shade(horizon, 1, 0.18, roughness(rng, 16));
};

const space: Painter = (c, rng) => {
  const cloudField = roughness(rng, 3);
  const hue = rng.range(0.6, 0.85);
  const [dark, nebula] = [[6, 6, 22] as Rgb, hsl(hue, 0.6, 0.32)];
  c.each(0, 0, 1, 1, (i, u, v) => c.blend(i, mixRgb(dark, nebula, clamp01(cloudField(u, v) * 0.9 + 0.1)), 1));
  scatter(rng, 60, 0, 1, (u, v) => c.disc(u, v, 0.009, 0.009, [255, 255, 255], rng.range(0.4, 1)));
  scatter(rng, 5, 0, 1, (u, v) => c.disc(u, v, 0.03, 0.03, [220, 230, 255], 0.8, 1));
  const [u, v, r] = [rng.pick([0.14, 0.86]), rng.range(0.1, 0.3), rng.range(0.07, 0.13)];
  const planet = rng.next();
  c.disc(u, v, r, r, hsl(planet, 0.55, 0.55));
  c.disc(u - r * 0.25, v - r * 0.25, r * 0.6, r * 0.6, hsl(planet, 0.6, 0.72), 0.6, 0.8);
  if (rng.chance(0.5)) c.line(u - r * 1.7, v + r * 0.5, u + r * 1.7, v - r * 0.5, 0.018, [240, 220, 180], 0.9);
};

const desert: Painter = (c, rng) => {
  const horizon = rng.range(0.4, 0.52);
  c.gradient(0, horizon + 0.05, hsl(0.57, 0.65, 0.66), hsl(0.11, 0.8, 0.82));
  c.disc(rng.next(), rng.range(0.08, 0.22), 0.08, 0.08, [255, 246, 196], 1, 0.3);
  for (let k = 0; k < 3; k++) {
    const l = 0.5 + k * 0.06;
    c.ground(ridge(rng, horizon + k * 0.17, 0.07, 1.8), hsl(0.09, 0.72, l + 0.1), hsl(0.075, 0.68, l - 0.04));
  }
  for (let k = rng.int(1, 2); k > 0; k--) {
    const [u, v, h] = [rng.pick([0.08, 0.16, 0.84, 0.93]), rng.range(0.52, 0.66), rng.range(0.18, 0.28)];
    const green: Rgb = [58, 128, 66];
    c.line(u, v, u, v - h, 0.05, green);
    c.line(u - 0.06, v - h * 0.5, u - 0.06, v - h * 0.8, 0.03, green);
    c.line(u - 0.06, v - h * 0.45, u + 0.06, v - h * 0.45, 0.03, green);
    c.line(u + 0.06, v - h * 0.5, u + 0.06, v - h * 0.75, 0.03, green);
  }
};

const underwater: Painter = (c, rng) => {
  const hue = rng.range(0.5, 0.58);
  c.gradient(0, 1, hsl(hue - 0.02, 0.75, 0.6), hsl(hue + 0.06, 0.85, 0.22));
  for (let i = 0; i < 5; i++) {
    const u = rng.next();
    c.triangle([u, -0.1], [u + 0.2, 0.85], [u + 0.36, 0.85], [210, 255, 255], 0.14);
  }
  c.ground(ridge(rng, 0.86, 0.04, 4), hsl(0.12, 0.35, 0.52), hsl(0.12, 0.3, 0.36));
  for (let i = 0; i < 5; i++) {
    const u = rng.pick([rng.range(0, 0.25), rng.range(0.75, 1)]);
    const h = rng.range(0.15, 0.35);
    const weed = hsl(rng.pick([0.36, 0.4, 0.95]), 0.6, 0.34);
    for (let k = 0; k < 4; k++)
      c.line(
        u + (k % 2 ? 0.02 : -0.02),
        0.9 - (k * h) / 4,
        u + (k % 2 ? -0.02 : 0.02),
        0.9 - ((k + 1) * h) / 4,
        0.03,
        weed,
      );
  }
  scatter(rng, 12, 0.05, 0.8, (u, v) => {
    const r = rng.range(0.012, 0.028);
    c.disc(u, v, r, r, [215, 248, 255], 0.75);
    c.disc(u, v, r * 0.6, r * 0.6, hsl(hue, 0.8, 0.5), 0.8);
  });
};

const meadow: Painter = (c, rng) => {
  const horizon = rng.range(0.4, 0.54);
  c.gradient(0, horizon, hsl(0.57, 0.75, 0.64), hsl(0.55, 0.7, 0.86));
  cloud(c, rng, rng.next(), rng.range(0.08, 0.2), 0.1, [255, 255, 255], 0.95);
  cloud(c, rng, rng.next(), rng.range(0.1, 0.28), 0.07, [255, 255, 255], 0.9);
  const hue = rng.range(0.24, 0.31);
  c.ground(ridge(rng, horizon, 0.04, 2), hsl(hue, 0.6, 0.48), hsl(hue, 0.6, 0.42));
  c.ground(ridge(rng, horizon + 0.18, 0.05, 2), hsl(hue, 0.65, 0.42), hsl(hue, 0.6, 0.34));
  c.shade(horizon, 1, 0.1, roughness(rng, 26, 10));
  const petals = rng.pick<Rgb>([
    [255, 255, 255],
    [255, 226, 80],
    [240, 110, 140],
    [190, 130, 230],
  ]);
  scatter(rng, rng.int(8, 22), horizon + 0.1, 1, (u, v) => c.disc(u, v, 0.015, 0.013, petals));
};

const mountains: Painter = (c, rng) => {
  c.gradient(0, 0.75, hsl(rng.range(0.55, 0.62), 0.6, 0.58), hsl(0.56, 0.5, 0.88));
  for (let k = 0; k < 4; k++) {
    const u = (k + rng.range(0.1, 0.9)) / 4;
    const h = rng.range(0.4, 0.62);
    const [peak, base, half] = [0.72 - h, 0.74, h * rng.range(0.5, 0.65)];
    const rock = hsl(rng.range(0.58, 0.66), 0.16, rng.range(0.36, 0.46));
    c.triangle([u, peak], [u - half, base], [u + half, base], rock);
    c.triangle([u, peak], [u, base], [u + half, base], [20, 26, 46], 0.28);
    const s = 0.34;
    c.triangle([u, peak], [u - half * s, peak + h * s], [u + half * s * 0.4, peak + h * s * 0.9], [248, 251, 255]);
    c.triangle([u, peak], [u, peak + h * s * 0.9], [u + half * s, peak + h * s], [214, 224, 240]);
  }
  c.ground(ridge(rng, 0.7, 0.03, 3), hsl(0.36, 0.35, 0.32), hsl(0.33, 0.4, 0.4));
};

const sunset: Painter = (c, rng) => {
  const horizon = rng.range(0.56, 0.68);
  const u = rng.range(0.2, 0.8);
  c.gradient(0, horizon, hsl(rng.range(0.72, 0.8), 0.5, 0.34), hsl(0.06, 0.95, 0.6));
  c.gradient(horizon - 0.22, horizon, hsl(0.98, 0.75, 0.56), hsl(0.1, 1, 0.66));
  c.disc(u, horizon - 0.03, 0.3, 0.3, [255, 210, 120], 0.5, 1);
  c.disc(u, horizon - 0.03, 0.13, 0.13, [255, 240, 170]);
  for (let i = 0; i < 4; i++)
    c.line(rng.next(), rng.range(0.1, 0.45), rng.next(), rng.range(0.1, 0.45), 0.03, [255, 150, 130], 0.35);
  c.gradient(horizon, 1, [168, 70, 84], [44, 26, 66]);
  for (let k = 0; k < 7; k++) {
    const w = 0.14 - k * 0.008;
    c.line(
      u - w * rng.next(),
      horizon + 0.03 + k * 0.05,
      u + w * rng.next(),
      horizon + 0.03 + k * 0.05,
      0.018,
      [255, 200, 120],
      0.75,
    );
  }
};

const volcano: Painter = (c, rng) => {
  c.gradient(0, 0.8, [54, 22, 34], [184, 62, 34]);
  const [u, peak, base] = [rng.range(0.3, 0.7), rng.range(0.2, 0.3), 0.8];
  for (let i = 0; i < 6; i++)
    c.disc(
      u + rng.range(-0.14, 0.14),
      rng.range(0, peak),
      rng.range(0.1, 0.2),
      rng.range(0.06, 0.12),
      [76, 60, 66],
      0.6,
      0.7,
    );
  c.disc(u, peak, 0.24, 0.2, [255, 130, 30], 0.8, 1);
  const rock: Rgb = [58, 44, 48];
  c.triangle([u - 0.1, peak], [u - 0.62, base], [u + 0.1, peak], rock);
  c.triangle([u + 0.1, peak], [u - 0.62, base], [u + 0.62, base], rock);
  c.triangle([u + 0.1, peak], [u + 0.05, base], [u + 0.62, base], [30, 22, 28], 0.5);
  for (const d of [-0.05, 0.02, 0.07]) {
    let [x, y] = [u + d, peak];
    while (y < 0.85) {
      const [nx, ny] = [x + d * rng.range(0.2, 1.6), y + rng.range(0.08, 0.16)];
      c.line(x, y, nx, ny, 0.035, [255, 96, 20]);
      c.line(x, y, nx, ny, 0.014, [255, 214, 80]);
      [x, y] = [nx, ny];
    }
  }
  scatter(rng, 14, 0, peak + 0.1, (x, y) => c.disc(u + (x - 0.5) * 0.6, y, 0.012, 0.012, [255, 190, 60]));
  c.ground(ridge(rng, 0.78, 0.04, 5), [52, 36, 38], [26, 18, 22]);
  for (let i = 0; i < 3; i++)
    c.line(rng.next(), rng.range(0.84, 0.98), rng.next(), rng.range(0.84, 0.98), 0.022, [255, 110, 24], 0.9);
};

const sky: Painter = (c, rng) => {
  c.gradient(0, 1, hsl(rng.range(0.56, 0.6), 0.75, 0.52), hsl(0.55, 0.75, 0.82));
  for (let i = 0; i < 8; i++)
    cloud(c, rng, rng.next(), rng.range(0.05, 1), rng.range(0.09, 0.18), [255, 255, 255], 0.85);
};

const land = (
  name: string,
  phrases: string,
  nouns: string,
  paint: Painter,
  light?: readonly [Rgb, number],
  grounded = true,
): Place => ({
  name,
  plain: false,
  phrases: phrases.split("|"),
  nouns: nouns.split("|"),
  grounded,
  light,
  paint,
});

/** Places out of doors. */
export const PLACES: readonly Place[] = [
  land("beach", "on the beach|at the beach|on a sandy beach|by the sea", "beach|sandy beach", beach),
  land("snow", "in the snow|in a snowy landscape|on a snowy day|in winter", "snow|winter landscape", snow),
  land("forest", "in the forest|in the woods|among the trees|in a dark forest", "forest|woods", forest, [
    [40, 70, 30],
    0.06,
  ]),
  land(
    "space",
    "in space|in outer space|among the stars|floating in space",
    "space|outer space",
    space,
    undefined,
    false,
  ),
  land("desert", "in the desert|on a sand dune|in a hot desert|among the dunes", "desert|sand dunes", desert),
  land(
    "underwater",
    "under water|underwater|at the bottom of the sea|under the sea",
    "underwater scene|sea floor",
    underwater,
    [[20, 110, 170], 0.14],
    false,
  ),
  land("meadow", "in a meadow|on the grass|in a green field|on a grassy hill", "meadow|green field", meadow),
  land(
    "mountains",
    "in the mountains|in front of mountains|in front of snowy mountains",
    "mountains|mountain landscape",
    mountains,
  ),
  land("sunset", "at sunset|in front of a sunset|in the evening sun", "sunset|evening sky", sunset, [
    [150, 60, 60],
    0.12,
  ]),
  land("volcano", "in front of a volcano|near a volcano|beside hot lava", "volcano|lava", volcano, [
    [190, 60, 20],
    0.08,
  ]),
  land("sky", "in the sky|among the clouds|above the clouds|in the air", "sky|clouds", sky, undefined, false),
];

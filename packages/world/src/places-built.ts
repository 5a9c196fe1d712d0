import type { Place } from "./backgrounds.ts";
import { clamp01, hsl, type Rgb } from "./canvas.ts";
import { type Painter, ridge, roughness } from "./elements.ts";
import type { Random } from "./random.ts";

const city: Painter = (c, rng) => {
  c.gradient(0, 1, [12, 14, 44], [62, 46, 96]);
  for (let i = 0; i < 20; i++) c.disc(rng.next(), rng.range(0, 0.4), 0.008, 0.008, [255, 255, 255], 0.7);
  if (rng.chance(0.6)) c.disc(rng.next(), rng.range(0.06, 0.16), 0.06, 0.06, [250, 244, 214]);
  for (let layer = 0; layer < 2; layer++) {
    for (let u = -0.05; u < 1; ) {
      const w = rng.range(0.1, 0.18);
      const top = rng.range(0.15, 0.5) + layer * 0.14;
      c.rect(u, top, u + w, 0.86, layer ? hsl(0.66, 0.35, rng.range(0.1, 0.15)) : hsl(0.67, 0.35, 0.22));
      for (let x = u + 0.02; x < u + w - 0.02; x += 0.034) {
        for (let y = top + 0.03; y < 0.82; y += 0.05) {
          if (rng.chance(0.55))
            c.rect(
              x,
              y,
              x + 0.018,
              y + 0.024,
              rng.pick<Rgb>([
                [255, 222, 120],
                [255, 240, 180],
                [255, 190, 90],
              ]),
              0.95,
            );
        }
      }
      u += w + rng.range(0, 0.03);
    }
  }
  c.gradient(0.86, 1, [44, 42, 60], [28, 26, 40]);
  for (let u = rng.range(0, 0.1); u < 1; u += 0.2) c.rect(u, 0.925, u + 0.1, 0.94, [240, 220, 130]);
};

const rain: Painter = (c, rng) => {
  c.gradient(0, 0.7, [112, 122, 138], [168, 176, 188]);
  for (let u = -0.05; u < 1; ) {
    const w = rng.range(0.14, 0.24);
    const top = rng.range(0.08, 0.34);
    c.rect(u, top, u + w, 0.7, hsl(rng.range(0.5, 0.66), 0.14, rng.range(0.36, 0.48)));
    for (let x = u + 0.03; x < u + w - 0.03; x += 0.06) {
      for (let y = top + 0.05; y < 0.62; y += 0.09)
        c.rect(x, y, x + 0.03, y + 0.045, rng.chance(0.25) ? [236, 214, 150] : [76, 88, 106]);
    }
    u += w;
  }
  c.gradient(0.7, 1, [78, 84, 96], [50, 56, 68]);
  for (let i = 0; i < 6; i++)
    c.disc(rng.next(), rng.range(0.76, 0.98), rng.range(0.08, 0.16), 0.02, [160, 178, 200], 0.6, 0.3);
  for (let i = 0; i < 34; i++) {
    const [u, v] = [rng.next() * 1.1, rng.next()];
    c.line(u, v, u - 0.025, v + 0.09, 0.009, [226, 236, 248], 0.75);
  }
};

const table: Painter = (c, rng) => {
  const edge = rng.range(0.3, 0.44);
  const wall = hsl(rng.next(), rng.range(0.1, 0.3), rng.range(0.72, 0.84));
  c.gradient(0, edge, wall, [wall[0] * 0.88, wall[1] * 0.88, wall[2] * 0.88]);
  const hue = rng.range(0.06, 0.09);
  const l = rng.range(0.38, 0.5);
  c.gradient(edge, 1, hsl(hue, 0.55, l), hsl(hue, 0.5, l - 0.06));
  c.shade(edge, 1, 0.16, roughness(rng, 3, 30));
  for (let k = 1; k < 4; k++) {
    const v = edge + ((1 - edge) * k * k) / 13 + 0.03 * k;
    c.line(-0.1, v, 1.1, v, 0.014, hsl(hue, 0.5, l * 0.5), 0.85);
  }
  c.line(-0.1, edge, 1.1, edge, 0.02, hsl(hue, 0.5, l + 0.16));
};

const brick: Painter = (c, rng) => {
  const [rows, cols] = [rng.int(8, 10), rng.int(4, 5)];
  const hue = rng.range(0.0, 0.035);
  c.gradient(0, 1, [190, 182, 172], [160, 152, 144]);
  for (let r = 0; r < rows; r++) {
    for (let k = -1; k <= cols; k++) {
      const u = (k + (r % 2) * 0.5) / cols;
      c.rect(
        u + 0.012,
        r / rows + 0.012,
        u + 1 / cols - 0.006,
        (r + 1) / rows - 0.006,
        hsl(hue + rng.range(0, 0.02), rng.range(0.45, 0.6), rng.range(0.32, 0.46)),
      );
    }
  }
  c.shade(0, 1, 0.1, roughness(rng, 12));
};

const kitchen: Painter = (c, rng) => {
  const hue = rng.next();
  const counter = rng.range(0.66, 0.76);
  const n = rng.int(6, 8);
  const tint = hsl(hue, 0.5, 0.72);
  c.gradient(0, 1, [236, 238, 238], [214, 218, 220]);
  for (let y = 0; y < n; y++) {
    for (let x = 0; x < n; x++) if ((x + y) % 2) c.rect(x / n, y / n, (x + 1) / n, (y + 1) / n, tint);
  }
  for (let k = 1; k < n; k++) {
    c.line(k / n, 0, k / n, counter, 0.008, [255, 255, 255]);
    c.line(0, k / n, 1, k / n, 0.008, [255, 255, 255]);
  }
  c.gradient(counter, counter + 0.05, [250, 250, 248], [214, 212, 208]);
  c.gradient(counter + 0.05, 1, hsl(0.08, 0.3, 0.5), hsl(0.08, 0.3, 0.42));
  c.line(0.5, counter + 0.05, 0.5, 1, 0.012, [70, 52, 40]);
  for (const u of [0.44, 0.56]) c.line(u, counter + 0.11, u, counter + 0.18, 0.022, [230, 230, 230]);
  if (rng.chance(0.7)) {
    c.line(0.02, 0.09, 0.98, 0.09, 0.014, [110, 114, 120]);
    for (const u of [rng.range(0.08, 0.2), rng.range(0.8, 0.92)]) {
      c.line(u, 0.09, u, 0.2, 0.02, [90, 92, 98]);
      c.disc(u, 0.26, 0.07, 0.07, [70, 72, 78]);
    }
  }
};

const cave: Painter = (c, rng) => {
  c.gradient(0, 1, [44, 38, 44], [30, 26, 32]);
  c.shade(0, 1, 0.4, roughness(rng, 7));
  const [u, v] = [rng.range(0.35, 0.65), rng.range(0.4, 0.5)];
  c.disc(u, v, 0.36, 0.34, [150, 150, 170], 0.85, 0.5);
  c.disc(u, v, 0.24, 0.24, [214, 224, 240], 0.8, 0.7);
  for (let k = 0; k < 8; k++) {
    const x = (k + rng.range(0.1, 0.9)) / 8;
    const w = rng.range(0.04, 0.08);
    const rock = hsl(0.75, 0.08, rng.range(0.24, 0.36));
    c.triangle([x - w, -0.02], [x + w, -0.02], [x, rng.range(0.12, 0.34)], rock);
    if (rng.chance(0.6)) c.triangle([x - w, 1.02], [x + w, 1.02], [x, rng.range(0.74, 0.88)], rock);
  }
  c.ground(ridge(rng, 0.84, 0.04, 5), [58, 50, 56], [34, 28, 34]);
};

const library: Painter = (c, rng) => {
  c.gradient(0, 1, [92, 58, 34], [70, 42, 26]);
  const rows = 4;
  for (let r = 0; r < rows; r++) {
    const bottom = (r + 1) / rows - 0.03;
    c.rect(0, r / rows + 0.01, 1, bottom, [44, 26, 18]);
    for (let u = 0.01; u < 0.98; ) {
      const w = rng.range(0.03, 0.06);
      const top = r / rows + rng.range(0.03, 0.08);
      if (!rng.chance(0.06)) {
        const cover = hsl(rng.next(), rng.range(0.4, 0.7), rng.range(0.3, 0.5));
        c.rect(u, top, u + w - 0.005, bottom, cover);
        c.rect(u, top + 0.03, u + w - 0.005, top + 0.042, [240, 214, 140], 0.9);
      }
      u += w;
    }
  }
};

const stage: Painter = (c, rng) => {
  const folds = rng.range(7, 11);
  const phase = rng.next();
  const dark = rng.range(0.26, 0.32);
  c.each(0, 0, 1, 0.78, (i, u, v) => {
    const fold = Math.sin((u * folds + phase) * 2 * Math.PI);
    c.blend(i, hsl(0.985, 0.8, dark + 0.09 * fold - 0.06 * v), 1);
  });
  for (let k = 0; k < 6; k++) c.disc((k + 0.5) / 6, 0.02, 0.1, 0.1, hsl(0.98, 0.75, 0.24));
  for (let k = 0; k < 6; k++) c.disc((k + 0.5) / 6, 0.1, 0.07, 0.015, [226, 180, 70]);
  c.gradient(0.76, 1, hsl(0.08, 0.5, 0.46), hsl(0.07, 0.5, 0.34));
  for (let k = 0; k < 9; k++) c.line((k - 0.5) / 8, 0.76, (k - 4) * 0.18 + 0.5, 1.02, 0.008, [70, 40, 24], 0.8);
  c.disc(0.5, 0.86, 0.42, 0.1, [255, 240, 190], 0.5, 0.6);
  const u = rng.pick([0.05, 0.95]);
  c.triangle([u, -0.05], [0.2, 0.86], [0.8, 0.86], [255, 246, 200], 0.14);
};

const room: Painter = (c, rng) => {
  const floor = rng.range(0.66, 0.76);
  const wall = hsl(rng.next(), rng.range(0.25, 0.5), rng.range(0.7, 0.82));
  c.gradient(0, floor, wall, [wall[0] * 0.92, wall[1] * 0.92, wall[2] * 0.92]);
  const stripe: Rgb = [wall[0] * 0.88, wall[1] * 0.88, wall[2] * 0.88];
  if (rng.chance(0.5)) for (let k = 0; k < 8; k++) c.rect(k / 8, 0, k / 8 + 0.05, floor, stripe);
  const u = rng.pick([0.04, 0.64]);
  c.rect(u, 0.06, u + 0.32, 0.44, [255, 255, 255]);
  c.rect(u + 0.03, 0.09, u + 0.29, 0.41, hsl(0.55, 0.7, 0.78));
  c.rect(u + 0.15, 0.09, u + 0.17, 0.41, [255, 255, 255]);
  c.rect(u + 0.03, 0.24, u + 0.29, 0.26, [255, 255, 255]);
  const frame = u < 0.3 ? 0.68 : 0.08;
  c.rect(frame, 0.1, frame + 0.22, 0.34, [120, 84, 50]);
  c.rect(frame + 0.03, 0.13, frame + 0.19, 0.31, hsl(rng.next(), 0.5, 0.6));
  c.gradient(floor, 1, hsl(0.08, 0.45, 0.56), hsl(0.08, 0.45, 0.46));
  c.line(-0.1, floor, 1.1, floor, 0.03, [246, 244, 240]);
  c.disc(0.5, floor + 0.16, 0.44, 0.1, hsl(rng.next(), 0.5, 0.5));
  c.disc(0.5, floor + 0.16, 0.36, 0.075, hsl(rng.next(), 0.45, 0.66));
};

const road: Painter = (c, rng) => {
  const horizon = rng.range(0.38, 0.48);
  c.gradient(0, horizon, hsl(0.57, 0.6, 0.66), hsl(0.56, 0.55, 0.88));
  const grass = hsl(rng.range(0.22, 0.3), 0.45, 0.42);
  c.ground(ridge(rng, horizon - 0.03, 0.03, 3), [grass[0] * 0.8, grass[1] * 0.8, grass[2] * 0.8], grass);
  const u = rng.range(0.42, 0.58);
  c.triangle([u, horizon - 0.08], [-0.15, 1.02], [1.15, 1.02], [92, 94, 100]);
  c.gradient(horizon - 0.1, horizon, hsl(0.56, 0.55, 0.85), hsl(0.56, 0.55, 0.88));
  for (let k = 0; k < 4; k++) {
    const t = (k + 0.3) / 4;
    const [a, b] = [t * t, clamp01((t + 0.13) ** 2)];
    const at = (s: number): [number, number] => [u + (0.5 - u) * s, horizon + (1 - horizon) * s];
    c.line(...at(a), ...at(b), 0.012 + 0.035 * t, [250, 240, 200]);
  }
  c.line(u - 0.03, horizon, -0.13, 1, 0.02, [240, 240, 240], 0.9);
  c.line(u + 0.03, horizon, 1.13, 1, 0.02, [240, 240, 240], 0.9);
};

const chess: Painter = (c, rng: Random) => {
  const edge = rng.range(0.36, 0.48);
  const [dark, light] = [hsl(rng.next(), 0.2, 0.16), [240, 236, 226] as Rgb];
  const wall = hsl(rng.next(), 0.4, 0.38);
  c.gradient(0, edge, [wall[0] * 0.6, wall[1] * 0.6, wall[2] * 0.6], wall);
  const shift = rng.next();
  c.each(0, edge, 1, 1, (i, u, v) => {
    const depth = 0.35 / (v - edge + 0.12);
    const tile = (Math.floor((u - 0.5) * depth * 4 + shift * 2) + Math.floor(depth * 3.4)) & 1;
    c.blend(i, tile ? dark : light, 1);
  });
};

const inside = (
  name: string,
  phrases: string,
  nouns: string,
  paint: Painter,
  light?: readonly [Rgb, number],
): Place => ({
  name,
  plain: false,
  phrases: phrases.split("|"),
  nouns: nouns.split("|"),
  grounded: true,
  light,
  paint,
});

/** Places that people built, and caves. */
export const PLACES_BUILT: readonly Place[] = [
  inside(
    "city",
    "in the city at night|in a night city|in front of a city at night|in town at night",
    "night city|city at night",
    city,
    [[30, 24, 80], 0.1],
  ),
  inside("rain", "on a rainy street|in the rain|in a rainy city|on a rainy day", "rainy street|rain", rain, [
    [90, 100, 120],
    0.1,
  ]),
  inside("table", "on a wooden table|on a table|on a brown table", "wooden table|table", table),
  inside("brick", "in front of a brick wall|against a brick wall|by a red brick wall", "brick wall|bricks", brick),
  inside("kitchen", "in the kitchen|in a kitchen|in front of kitchen tiles", "kitchen|kitchen tiles", kitchen),
  inside("cave", "in a cave|inside a dark cave|in a rocky cave", "cave|dark cave", cave, [[20, 18, 30], 0.12]),
  inside("library", "in a library|in front of a bookshelf|among old books", "library|bookshelf", library),
  inside("stage", "on a stage|on a theater stage|in front of a red curtain", "stage|red curtain", stage),
  inside("room", "in a living room|in a cozy room|at home", "living room|room", room),
  inside("road", "on the road|on a country road|in the middle of the road", "road|country road", road),
  inside("chess", "on a checkered floor|on a chessboard|on a tiled floor", "checkered floor|chessboard", chess),
];

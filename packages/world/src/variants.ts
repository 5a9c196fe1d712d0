/** Art as nobody drew it: subjects in other colours and proportions, so that what is learnt of art isn't learnt by heart. */
import { COLOURS } from "./colours.ts";
import { sampleSprite } from "./compose.ts";
import { Random } from "./random.ts";
import type { Sprite } from "./sprites.ts";

export interface Variant {
  /** of COLOURS: what the art's mean colour becomes, more or less; its own if undefined */
  readonly colour: string | undefined;
  /** varies how much, and the proportions */
  readonly seed: number;
}

type Colour = readonly [luma: number, red: number, blue: number];

/** A variant in that share of draws. */
export function randomVariant(rng: Random, share: number): Variant | undefined {
  if (!rng.chance(share)) return undefined;
  const colour = rng.chance(0.75) ? rng.pick(Object.keys(COLOURS)) : undefined;
  return { colour, seed: rng.uint() };
}

/** The art of a variant; the same for the same variant. */
export function variantOf(sprite: Sprite, { colour, seed }: Variant): Sprite {
  const rng = new Random(seed, "variant");
  const bent = bend(sprite, rng);
  return colour === undefined ? bent : recolour(bent, COLOURS[colour]!, rng);
}

/** Luma and how much redder and bluer than it, of 0 to 1. */
const split = (r: number, g: number, b: number): Colour => {
  const y = 0.299 * r + 0.587 * g + 0.114 * b;
  return [y, r - y, b - y];
};

/** Turns and scales what is coloured, and bends how light it is, so that the mean comes near `target` and differences stay. */
function recolour({ width, height, rgba }: Sprite, target: readonly number[], rng: Random): Sprite {
  const mean = meanOf(rgba);
  const [y1, u1, v1] = split(target[0]! / 255, target[1]! / 255, target[2]! / 255);
  const own = Math.hypot(mean[1], mean[2]);
  const wanted = Math.hypot(u1, v1);
  const turn = own < 0.02 || wanted < 0.02 ? 0 : Math.atan2(v1, u1) - Math.atan2(mean[2], mean[1]);
  const scale = Math.min(1.5, Math.max(0.25, wanted / Math.max(own, 0.02))) * rng.range(0.8, 1.1);
  const [cos, sin] = [Math.cos(turn) * scale, Math.sin(turn) * scale];
  const rest = [u1 - (cos * mean[1] - sin * mean[2]), v1 - (sin * mean[1] + cos * mean[2])] as const;
  const luma = mean[0] + (y1 - mean[0]) * rng.range(0.5, 0.9);
  const gamma = Math.log(Math.min(0.95, Math.max(0.06, luma))) / Math.log(Math.min(0.95, Math.max(0.06, mean[0])));
  const strength = rng.range(0.75, 1);
  const out = new Uint8Array(rgba.length);
  for (let i = 0; i < rgba.length; i += 4) {
    const a = rgba[i + 3]!;
    if (a === 0) continue;
    const [y, u, v] = split(rgba[i]! / a, rgba[i + 1]! / a, rgba[i + 2]! / a);
    const light = Math.max(0, y) ** gamma;
    // what is black stays so, and what is white mostly
    const share = strength * Math.min(1, 3 * light, 4 * (1.1 - light));
    const [red, blue] = [cos * u - sin * v + share * rest[0], sin * u + cos * v + share * rest[1]];
    const green = light - (0.299 * red + 0.114 * blue) / 0.587;
    for (const [c, x] of [light + red, green, light + blue].entries())
      out[i + c] = Math.round(a * Math.min(1, Math.max(0, x)));
    out[i + 3] = a;
  }
  return { width, height, rgba: out };
}

function meanOf(rgba: Uint8Array): Colour {
  const sum = [0, 0, 0, 0];
  for (let i = 0; i < rgba.length; i++) sum[i % 4]! += rgba[i]!;
  return split(sum[0]! / sum[3]!, sum[1]! / sum[3]!, sum[2]! / sum[3]!);
}

/** Stretches, slants and waves the art a little. */
function bend(sprite: Sprite, rng: Random): Sprite {
  const { width, height } = sprite;
  const aspect = (width / height) * Math.exp(rng.range(-0.3, 0.3));
  const side = Math.max(width, height);
  const [w, h] = [side * Math.min(1, aspect), side / Math.max(1, aspect)].map((x) => Math.max(4, Math.round(x))) as [
    number,
    number,
  ];
  const slant = rng.range(-0.12, 0.12);
  const waves = [0, 1].map(() => ({ size: rng.range(0, 0.05), often: rng.range(0.4, 1.2), at: rng.range(0, 6.28) }));
  const wave = (k: 0 | 1, x: number): number =>
    waves[k]!.size * Math.sin(2 * Math.PI * waves[k]!.often * x + waves[k]!.at);
  const out = new Uint8Array(w * h * 4);
  const sampled = new Float64Array(4);
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      // a border's width of the source is left free, so that what is bent outwards isn't cut
      const [u, v] = [((x + 0.5) / w - 0.5) * 1.16, ((y + 0.5) / h - 0.5) * 1.12];
      const [px, py] = [(u + slant * v + wave(0, v) + 0.5) * width, (v + wave(1, u) + 0.5) * height];
      sampleSprite(sprite, px - 0.5, py - 0.5, sampled);
      for (let c = 0; c < 4; c++) out[(y * w + x) * 4 + c] = Math.round(sampled[c]!);
    }
  }
  return { width: w, height: h, rgba: out };
}

import { PLACE_NAMES, PLAIN_NAMES, paintPlace, placeBy } from "./backgrounds.ts";
import type { Canvas } from "./canvas.ts";
import { drawSprite, halfExtent, headOf, type Placement } from "./compose.ts";
import { applyLook } from "./looks.ts";
import { Random } from "./random.ts";
import { ITEM_SUBJECTS, type Item, type Scene, type Size } from "./scene.ts";
import type { Sprite, Sprites } from "./sprites.ts";
import { subjectBy } from "./subjects.ts";
import { variantOf } from "./variants.ts";

/** Longer side of the subject, as a part of the picture's side. */
const SIZE_RANGES: Readonly<Record<Size, readonly [number, number]>> = {
  tiny: [0.2, 0.27],
  small: [0.32, 0.42],
  normal: [0.56, 0.78],
  large: [0.84, 0.95],
  huge: [1.05, 1.25],
};
const SHIFT = { center: [0, 0], left: [-1, 0], right: [1, 0], top: [0, -1], bottom: [0, 1] } as const;

/** The art of a scene's subject. */
export function spriteOf(sprites: Sprites, { subject, hand, variant }: Scene): Sprite {
  const sprite = sprites.get(subject, hand);
  return variant ? variantOf(sprite, variant) : sprite;
}

/** Draws a scene: (size, size, 3) uint8. The same spec gives the same bytes. */
export const renderScene = (sprites: Sprites, scene: Scene, size: number = 64): Uint8Array =>
  paintScene(sprites, scene, size).bytes();

/** A scene on its canvas. */
export function paintScene(sprites: Sprites, scene: Scene, size: number): Canvas {
  const rng = new Random(scene.seed, "scene");
  const place = placeBy(scene.place);
  const canvas = paintPlace(scene.place, scene.seed, size);
  const sprite = spriteOf(sprites, scene);
  for (const at of placements(scene, sprite, rng)) {
    const placed: Placement = { ...at, light: place.light };
    if (scene.item !== "none" && scene.manner === "beside") drawBeside(canvas, sprites, scene, sprite, placed, rng);
    if (place.grounded && scene.position !== "top") shadow(canvas, sprite, placed);
    drawSprite(canvas, sprite, placed);
    if (scene.item !== "none" && scene.manner === "worn") drawWorn(canvas, sprites, scene, sprite, placed);
  }
  expose(canvas, rng.range(0.95, 1.05));
  applyLook(canvas, scene.look, scene.seed);
  return canvas;
}

/** Draws what a user would photograph: the subject large and in the middle, before a plain or simple background. */
export const renderPhoto = (sprite: Sprite, seed: number, size: number = 64): Uint8Array =>
  paintPhoto(sprite, seed, size).bytes();

/** The same, still on its canvas, which knows where the subject is. */
export function paintPhoto(sprite: Sprite, seed: number, size: number): Canvas {
  const rng = new Random(seed, "photo");
  const name = rng.chance(0.7) ? rng.pick(PLAIN_NAMES) : rng.pick(PLACE_NAMES);
  const place = placeBy(name);
  const canvas = paintPlace(name, rng.uint(), size);
  const at: Placement = {
    u: 0.5 + rng.range(-0.04, 0.04),
    v: 0.5 + rng.range(-0.03, 0.04),
    size: rng.range(0.7, 0.88),
    angle: rng.range(-0.08, 0.08),
    flip: rng.chance(0.25),
    light: place.light,
  };
  if (place.grounded) shadow(canvas, sprite, at);
  drawSprite(canvas, sprite, at);
  expose(canvas, rng.range(0.96, 1.04));
  return canvas;
}

function placements(scene: Scene, sprite: Sprite, rng: Random): Placement[] {
  const [lo, hi] = SIZE_RANGES[scene.size];
  const crowd = scene.count === 1 ? 1 : scene.count === 2 ? 0.72 : 0.56;
  const room = scene.item !== "none" ? 0.86 : scene.position !== "center" && scene.size === "normal" ? 0.72 : 1;
  const [su, sv] = SHIFT[scene.position];
  const flip = rng.chance(0.3);
  const out: Placement[] = [];
  for (let k = 0; k < scene.count; k++) {
    const size = rng.range(lo, hi) * crowd * room;
    const [w, h] = halfExtent(sprite).map((x) => x * 2 * size) as [number, number];
    const slack = (extent: number): number => Math.max(0, 0.5 - extent / 2 - 0.02);
    const [side, low] = rowOf(scene.count, k);
    const free = scene.position === "center" ? Math.min(0.06, slack(size)) : 0.02;
    const spread = Math.min(0.3, size * 0.62);
    const u =
      0.5 + su * slack(w) * 0.92 + (scene.count > 1 ? side * spread * (su === 0 ? 1 : 0.7) : rng.range(-free, free));
    const v = 0.52 + sv * slack(h) * 0.92 + (scene.count > 1 ? low * spread * 0.7 : rng.range(-free, free));
    const place = placeBy(scene.place);
    const sink = place.grounded && !place.plain && sv === 0 ? Math.max(0, 1 - size) * 0.2 : 0;
    const lift = scene.item === "hat" || scene.item === "crown" ? (scene.manner === "worn" ? size * 0.13 : 0) : 0;
    out.push({
      u: keepIn(u, w),
      v: keepIn(v + lift + sink, h),
      size,
      angle: rng.range(-0.13, 0.13),
      flip: rng.chance(0.1) ? !flip : flip,
    });
  }
  return out;
}

/** Offsets of the k-th of several subjects, in steps: a row, or a triangle for three. */
function rowOf(count: number, k: number): readonly [number, number] {
  if (count === 2) return k === 0 ? [-0.85, -0.05] : [0.85, 0.1];
  return (
    (
      [
        [0, -0.85],
        [-0.9, 0.65],
        [0.9, 0.65],
      ] as const
    )[k] ?? [0, 0]
  );
}

function keepIn(centre: number, extent: number): number {
  return extent >= 1 ? 0.5 + (centre - 0.5) * 0.3 : Math.max(extent / 2, Math.min(1 - extent / 2, centre));
}

function shadow(canvas: Canvas, sprite: Sprite, at: Placement): void {
  const [w, h] = halfExtent(sprite);
  canvas.disc(at.u, at.v + h * at.size * 0.97, w * at.size * 0.95, 0.07 * at.size, [0, 0, 0], 0.34, 0.8);
}

function itemSprite(sprites: Sprites, item: Exclude<Item, "none">, scene: Scene): Sprite {
  const subject = subjectBy(ITEM_SUBJECTS[item]);
  return sprites.get(subject.hexcode, subject.hands.includes(scene.hand) ? scene.hand : "noto");
}

function drawBeside(canvas: Canvas, sprites: Sprites, scene: Scene, sprite: Sprite, at: Placement, rng: Random): void {
  if (scene.item === "none") return;
  const item = itemSprite(sprites, scene.item, scene);
  const size = scene.item === "balloon" ? Math.max(0.34, at.size * 0.55) : Math.max(0.28, at.size * 0.45);
  const [w, h] = halfExtent(sprite);
  const side = at.u > 0.58 ? -1 : at.u < 0.42 ? 1 : rng.chance(0.5) ? 1 : -1;
  const u = at.u + side * (w * at.size + halfExtent(item)[0] * size * 0.55);
  const v = scene.item === "balloon" ? at.v - h * at.size * 0.45 : at.v + h * at.size - halfExtent(item)[1] * size;
  drawSprite(canvas, item, {
    u: keepIn(u, size * 0.9),
    v: keepIn(v, size * 0.9),
    size,
    angle: rng.range(-0.1, 0.1),
    light: at.light,
  });
}

function drawWorn(canvas: Canvas, sprites: Sprites, scene: Scene, sprite: Sprite, at: Placement): void {
  if (scene.item === "none") return;
  const item = itemSprite(sprites, scene.item, scene);
  const [w, h] = halfExtent(sprite);
  const head = headOf(sprite);
  const [iw, ih] = halfExtent(item);
  const angle = at.angle ?? 0;
  let [du, dv, size] = [0, 0, 0];
  if (scene.item === "hat" || scene.item === "crown") {
    size = Math.max(0.17 / at.size, Math.min(0.62, head.width * 1.1, w * 1.1) * 0.55 + 0.28) / (2 * iw);
    [du, dv] = [head.u, head.v - ih * size * 0.55];
  } else if (scene.item === "glasses") {
    [du, dv, size] = [0, -h * 0.22, w * 1.5];
  } else {
    [du, dv, size] = [0, h * 0.92, w * 1.3];
  }
  if (at.flip) du = -du;
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  const u = at.u + (cos * du - sin * dv) * at.size;
  const v = at.v + (sin * du + cos * dv) * at.size;
  drawSprite(canvas, item, { u, v, size: size * at.size, angle, light: at.light });
}

function expose(canvas: Canvas, gain: number): void {
  const d = canvas.data;
  for (let i = 0; i < d.length; i++) d[i] = Math.min(255, d[i]! * gain);
}

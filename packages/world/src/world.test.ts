import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readSafetensorsHeader, readTensorBytes } from "@likeness/engine";
import { beforeAll, expect, test } from "vitest";
import { PLACE_NAMES, PLAIN_NAMES, paintPlace } from "./backgrounds.ts";
import { COLOURS } from "./colours.ts";
import { drawScenes, renderReference, sceneAt, templateOf, writeDataset } from "./dataset.ts";
import { LOOKS } from "./looks.ts";
import { Random } from "./random.ts";
import { paintScene, renderPhoto, renderScene, spriteOf } from "./render.ts";
import { ITEMS, type Scene } from "./scene.ts";
import { drawSprites, type Sprites } from "./sprites.ts";
import { HANDS, subjectBy } from "./subjects.ts";
import { variantOf } from "./variants.ts";

let sprites: Sprites;
const scene: Scene = {
  subject: subjectBy("wolf").hexcode,
  hand: "noto",
  place: "beach",
  look: "none",
  count: 1,
  size: "normal",
  position: "center",
  item: "none",
  manner: "worn",
  seed: 5,
  caption: "a wolf on the beach",
};

beforeAll(async () => {
  sprites = await drawSprites(["wolf", "top hat", "sunflower", "balloon"].map(subjectBy));
});

const sha = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** Mean absolute difference of two pictures, 0..255. */
function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += Math.abs(a[i]! - b[i]!);
  return sum / a.length;
}

/** Of premultiplied RGBA, 0..255. */
function meanColour(rgba: Uint8Array): number[] {
  const sum = [0, 0, 0, 0];
  for (const [i, x] of rgba.entries()) sum[i % 4]! += x;
  return sum.slice(0, 3).map((x) => (x / sum[3]!) * 255);
}

/** Standard deviation of the green of what is opaque. */
function spreadOf(rgba: Uint8Array): number {
  const greens = Array.from({ length: rgba.length / 4 }, (_, i) => i * 4).filter((i) => rgba[i + 3]! > 250);
  const mean = greens.reduce((sum, i) => sum + rgba[i + 1]!, 0) / greens.length;
  return Math.sqrt(greens.reduce((sum, i) => sum + (rgba[i + 1]! - mean) ** 2, 0) / greens.length);
}

test("the same spec gives the same bytes, another seed others", () => {
  for (const look of LOOKS) {
    const spec: Scene = { ...scene, look, item: "hat" };
    expect(sha(renderScene(sprites, spec))).toBe(sha(renderScene(sprites, spec)));
    expect(sha(renderScene(sprites, { ...spec, seed: 6 }))).not.toBe(sha(renderScene(sprites, spec)));
  }
});

test("backgrounds are painted the same on every machine", () => {
  const hash = createHash("sha256");
  for (const name of [...PLACE_NAMES, ...PLAIN_NAMES]) hash.update(paintPlace(name, 1, 32).bytes());
  expect(hash.digest("hex")).toBe("4950a3123f4613c6bc1c5d4859d2452d45f9372b489bcc7947edd75bc6949593");
});

test("there are at least 15 drawn places and 10 colours, and each differs from all others", () => {
  expect(PLACE_NAMES.length).toBeGreaterThanOrEqual(15);
  expect(PLAIN_NAMES.length).toBeGreaterThanOrEqual(10);
  const means = [...PLACE_NAMES, ...PLAIN_NAMES].map((name) => {
    const sum = new Float64Array(16 * 16 * 3);
    for (let seed = 0; seed < 6; seed++) {
      for (const [i, x] of paintPlace(name, seed, 16).data.entries()) sum[i]! += x / 6;
    }
    return { name, sum };
  });
  for (const a of means) {
    for (const b of means) if (a !== b) expect(distance(a.sum, b.sum), `${a.name} and ${b.name}`).toBeGreaterThan(9);
  }
});

test("a place varies with its seed", () => {
  for (const name of PLACE_NAMES) {
    expect(distance(paintPlace(name, 1).data, paintPlace(name, 2).data), name).toBeGreaterThan(3);
  }
});

test("each look changes the picture in its own way", () => {
  const pictures = LOOKS.map((look) => renderScene(sprites, { ...scene, look }));
  for (const [i, a] of pictures.entries()) {
    for (const [j, b] of pictures.entries()) {
      if (i < j) expect(distance(a, b), `${LOOKS[i]} and ${LOOKS[j]}`).toBeGreaterThan(8);
    }
  }
});

test("pixel art is made of 16 x 16 blocks, each the cell of a latent", () => {
  for (const size of [64, 128]) {
    const picture = renderScene(sprites, { ...scene, look: "pixel-art" }, size);
    const block = size / 16;
    const colours = new Set<string>();
    for (let i = 0; i < size * size; i++) {
      const [y, x] = [Math.floor(i / size), i % size];
      const corner = (y - (y % block)) * size + x - (x % block);
      const at = (pixel: number): number[] => [...picture.subarray(pixel * 3, pixel * 3 + 3)];
      expect(at(i)).toEqual(at(corner));
      colours.add(at(i).join());
    }
    expect(colours.size).toBeGreaterThan(10);
  }
});

test("each hand draws the subject in its own way", () => {
  const photos = HANDS.map((hand) => renderPhoto(sprites.get(scene.subject, hand), 3));
  for (const [i, a] of photos.entries()) {
    for (const b of photos.slice(i + 1)) expect(distance(a, b)).toBeGreaterThan(4);
  }
});

test("size, place in the picture and count show", () => {
  const ink = (spec: Partial<Scene>, inside: (x: number, y: number) => boolean): number => {
    const plain = paintPlace("white", scene.seed).bytes();
    const picture = renderScene(sprites, { ...scene, place: "white", ...spec });
    let count = 0;
    for (let i = 0; i < 64 * 64; i++) {
      if (Math.abs(picture[i * 3]! - plain[i * 3]!) > 40 && inside(i % 64, Math.floor(i / 64))) count++;
    }
    return count;
  };
  const all = (): boolean => true;
  const areas = (["tiny", "small", "normal", "large"] as const).map((size) => ink({ size }, all));
  expect(areas).toEqual([...areas].sort((a, b) => a - b));
  expect(areas[3]).toBeGreaterThan(6 * areas[0]!);
  const half = { left: (x: number) => x < 32, right: (x: number) => x >= 32 };
  expect(ink({ position: "left", size: "small" }, half.left)).toBeGreaterThan(
    9 * ink({ position: "left", size: "small" }, half.right),
  );
  expect(ink({ position: "top", size: "small" }, (_, y) => y < 32)).toBeGreaterThan(
    9 * ink({ position: "top", size: "small" }, (_, y) => y >= 32),
  );
  expect(ink({ count: 2, size: "small" }, half.left)).toBeGreaterThan(20);
  expect(ink({ count: 2, size: "small" }, half.right)).toBeGreaterThan(20);
});

test("an item is drawn", () => {
  const bare = renderScene(sprites, scene);
  for (const item of ITEMS.filter((i) => i === "hat" || i === "flower" || i === "balloon")) {
    const manner = item === "hat" ? "worn" : "beside";
    expect(distance(bare, renderScene(sprites, { ...scene, item, manner })), item).toBeGreaterThan(4);
  }
});

test("a data set's scenes do not depend on its size", () => {
  const options = { split: "train", count: 10, seed: 1 } as const;
  expect(sceneAt(options, 3)).toEqual(sceneAt({ ...options, count: 99 }, 3));
  expect(new Random(1, "a").uint()).toBe(new Random(1, "a").uint());
  expect(new Random(1, "a").uint()).not.toBe(new Random(1, "b").uint());
});

test("portraits show one large subject in the middle; a share of them leaves the other scenes as they are", () => {
  const options = { split: "train", count: 200, seed: 1 } as const;
  const scenes = (portraits: number): Scene[] =>
    Array.from({ length: 200 }, (_, i) => sceneAt({ ...options, portraits }, i));
  const all = scenes(1);
  expect(all.filter((s) => s.position !== "center" || s.size === "tiny" || s.size === "small")).toEqual([]);
  expect(all.filter((s) => s.count > 1).length).toBeLessThan(30);
  const [none, half] = [scenes(0), scenes(0.5)];
  expect(none).toEqual(Array.from({ length: 200 }, (_, i) => sceneAt(options, i)));
  const kept = half.filter((s, i) => s.caption === none[i]!.caption).length;
  expect(kept).toBeGreaterThan(70);
  expect(kept).toBeLessThan(140);
});

test("a share of looks is had by portraits and scenes alike; subjects, places and counts stay", () => {
  const scenes = (looks?: number): Scene[] =>
    Array.from({ length: 300 }, (_, i) => sceneAt({ split: "train", count: 300, seed: 1, portraits: 0.5, looks }, i));
  const [usual, none, most, all] = [scenes(), scenes(0), scenes(0.8), scenes(1)];
  const shareOf = (some: Scene[]): number => some.filter((s) => s.look !== "none").length / some.length;
  expect(shareOf(none)).toBe(0);
  expect(shareOf(most)).toBeCloseTo(0.8, 1);
  expect(shareOf(all)).toBe(1);
  expect(shareOf(usual)).toBeCloseTo((0.35 + 0.1) / 2, 1);
  const place = (s: Scene): string => [s.subject, s.hand, s.place, s.count].join();
  expect(most.map(place)).toEqual(usual.map(place));
});

test("a share of variants shows the same scenes with other art, in the colour that the caption tells", () => {
  const scenes = (variants: number): Scene[] =>
    Array.from({ length: 300 }, (_, i) => sceneAt({ split: "train", count: 300, seed: 1, variants }, i));
  const [none, some, all] = [scenes(0), scenes(0.4), scenes(1)];
  expect(none).toEqual(Array.from({ length: 300 }, (_, i) => sceneAt({ split: "train", count: 300, seed: 1 }, i)));
  expect(some.filter((s) => s.variant).length / 300).toBeCloseTo(0.4, 1);
  const kept = ({ subject, hand, place, look, count }: Scene): string => [subject, hand, place, look, count].join();
  expect(all.map(kept)).toEqual(none.map(kept));
  const coloured = all.filter((s) => s.variant!.colour !== undefined);
  const told = coloured.filter((s) => s.caption.split(/[ ,]/).includes(s.variant!.colour!));
  expect(coloured.length).toBeGreaterThan(150);
  expect(told.length / coloured.length).toBeGreaterThan(0.85);
  // a red apple is never told, nor drawn, as a blue one
  const ofColour = coloured.filter((s) =>
    subjectBy(s.subject)
      .name.split(" ")
      .some((word) => word in COLOURS),
  );
  expect(ofColour).toEqual([]);
  expect(coloured.filter((s) => templateOf(s).includes(`${s.variant!.colour} <S*>`))).toEqual([]);
});

test("a variant's mean colour is near the one it has, its art's detail and outline stay", () => {
  for (const hand of HANDS) {
    const sprite = sprites.get(scene.subject, hand);
    const own = meanColour(sprite.rgba);
    for (const [colour, target] of Object.entries(COLOURS)) {
      const variant = variantOf(sprite, { colour, seed: 3 });
      expect(variantOf(sprite, { colour, seed: 3 })).toEqual(variant);
      const far = distance(meanColour(variant.rgba), target);
      expect(far, `${hand} ${colour}`).toBeLessThan(Math.max(45, 0.75 * distance(own, target)));
      expect(spreadOf(variant.rgba), `${hand} ${colour}`).toBeGreaterThan(0.25 * spreadOf(sprite.rgba));
    }
    const bent = variantOf(sprite, { colour: undefined, seed: 4 });
    expect(distance(meanColour(bent.rgba), own)).toBeLessThan(6);
    const ratio = (s: { width: number; height: number }): number => s.width / s.height;
    expect(Math.abs(Math.log(ratio(bent) / ratio(sprite)))).toBeLessThan(0.35);
    expect(Math.max(bent.width, bent.height)).toBe(Math.max(sprite.width, sprite.height));
  }
});

test("a photo and the scenes of a variant show the same art", () => {
  const variant = { colour: "purple", seed: 8 };
  const plain = { ...scene, place: "white", size: "large" } as const;
  const varied = { ...plain, variant };
  const own = spriteOf(sprites, varied);
  expect(own).toEqual(variantOf(sprites.get(scene.subject, scene.hand), variant));
  expect(distance(renderScene(sprites, varied), renderScene(sprites, plain))).toBeGreaterThan(8);
  for (let seed = 0; seed < 8; seed++) {
    const [photo, usual] = [varied, plain].map((s) => renderReference(sprites, { ...s, seed }, 1));
    expect(distance(photo!, usual!)).toBeGreaterThan(5);
  }
});

test("a data set drawn in parts has the bytes of one drawn whole, and a failure leaves no file", async () => {
  const folder = mkdtempSync(join(tmpdir(), "world-"));
  const [whole, parts, failed] = ["whole", "parts", "failed"].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  const all = { get: () => sprites.get(scene.subject, "noto") } as unknown as Sprites;
  const options = { split: "train", count: 5, seed: 1, pairs: true, masks: true } as const;
  await writeDataset(whole, options, (to) => drawScenes(to, all, options));
  await writeDataset(parts, options, (to) => {
    drawScenes(to, all, options, { from: 3 });
    drawScenes(to, all, options, { to: 3 });
  });
  expect(readFileSync(parts).equals(readFileSync(whole))).toBe(true);
  const stop = writeDataset(failed, options, () => Promise.reject(new Error("stop")));
  await expect(stop).rejects.toThrow("stop");
  expect(readdirSync(folder).sort()).toEqual(["parts", "whole"]);
  rmSync(folder, { recursive: true });
});

test("masks say where the subject is, of each block of 4x4 pixels how much", async () => {
  const folder = mkdtempSync(join(tmpdir(), "world-"));
  const file = join(folder, "masked.safetensors");
  const wolf = sprites.get(scene.subject, "noto");
  const options = { split: "train", count: 4, seed: 1, masks: true } as const;
  await writeDataset(file, options, (to) => drawScenes(to, { get: () => wolf } as unknown as Sprites, options));
  const header = readSafetensorsHeader(file);
  expect(header.tensors.get("masks")!.shape).toEqual([4, 16, 16]);
  const masks = readTensorBytes(header, "masks");
  const canvas = paintScene(
    { get: () => wolf } as unknown as Sprites,
    sceneAt({ split: "train", count: 4, seed: 1 }, 2),
    64,
  );
  for (const [y, x] of [
    [8, 8],
    [0, 0],
    [10, 6],
  ] as const) {
    let sum = 0;
    for (let i = 0; i < 16; i++) sum += canvas.mask[(4 * y + (i >> 2)) * 64 + 4 * x + (i & 3)]!;
    expect(masks[2 * 256 + 16 * y + x]).toBeCloseTo((255 * sum) / 16, 0);
  }
  expect(Math.max(...masks)).toBe(255);
  expect(Math.min(...masks)).toBe(0);
  // and of each pixel
  const fine = { ...options, masks: false, fineMasks: true };
  await writeDataset(file, fine, (to) => drawScenes(to, { get: () => wolf } as unknown as Sprites, fine));
  expect(readSafetensorsHeader(file).tensors.get("masks")!.shape).toEqual([4, 64, 64]);
  const each = readTensorBytes(readSafetensorsHeader(file), "masks").subarray(2 * 4096, 3 * 4096);
  expect([...each]).toEqual(Array.from(canvas.mask, (x) => Math.round(255 * x)));
  rmSync(folder, { recursive: true });
});

test("a sprite that was not rasterised is an error that names it", () => {
  expect(() => sprites.get("1F98A", "noto")).toThrow("no sprite 1F98A/noto");
});

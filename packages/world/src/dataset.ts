import {
  closeSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { PLACE_NAMES } from "./backgrounds.ts";
import { caption, randomScene } from "./grammar.ts";
import { Random } from "./random.ts";
import { paintScene, renderPhoto, renderScene, spriteOf } from "./render.ts";
import type { Scene } from "./scene.ts";
import type { Sprites } from "./sprites.ts";
import { type Split, type Subject, subjectBy, subjectsOf } from "./subjects.ts";
import { randomVariant } from "./variants.ts";

export interface DatasetOptions {
  readonly split: Split;
  readonly count: number;
  readonly seed: number;
  /** also a picture of the same subject in the same hand elsewhere, as tensor `references` */
  readonly pairs?: boolean;
  /** share of scenes that are portraits; 0 */
  readonly portraits?: number;
  /** share of scenes with a look; by default 35%, and 10% of portraits */
  readonly looks?: number | undefined;
  /** share of scenes whose art is varied; 0 */
  readonly variants?: number;
  /** also how much of each 4x4 block of pixels is subject, as tensor `masks` (count, size / 4, size / 4) */
  readonly masks?: boolean;
  /** as `masks`, of each pixel (count, size, size), in place of them */
  readonly fineMasks?: boolean;
  /** pixels a side; 64 */
  readonly size?: number;
}

/** The i-th scene of a data set, whatever its count. */
export function sceneAt({ split, seed, portraits = 0, looks, variants = 0 }: DatasetOptions, i: number): Scene {
  const portrait = portraits > 0 && new Random(seed, split, i, "portrait").chance(portraits);
  const variant = variants > 0 ? randomVariant(new Random(seed, split, i, "variant"), variants) : undefined;
  return randomScene(subjectsOf(split), new Random(seed, split, i), { portrait, looks, variant });
}

/** A caption of the scene with the placeholder <S*> where the subject's name would stand. */
export function templateOf(scene: Scene): string {
  const subject = subjectBy(scene.subject);
  return caption(
    { ...scene, variant: undefined },
    { ...subject, name: "<S*>", kind: "<S*>" as Subject["kind"] },
    new Random(scene.seed, "template"),
  );
}

/** What the tuning-encoder gets to see for scene i: mostly a user's photo, sometimes another plain scene. */
export function renderReference(sprites: Sprites, scene: Scene, seed: number, size: number = 64): Uint8Array {
  const rng = new Random(scene.seed, seed, "reference");
  if (rng.chance(0.8)) return renderPhoto(spriteOf(sprites, scene), rng.uint(), size);
  const simple: Scene = {
    ...scene,
    place: rng.pick(PLACE_NAMES),
    look: "none",
    count: 1,
    size: "normal",
    position: "center",
    item: "none",
    seed: rng.uint(),
  };
  return renderScene(sprites, simple, size);
}

/** How much of each of side x side blocks is subject, of 255. */
function covered(mask: Float32Array, size: number, side: number): Uint8Array {
  const block = size / side;
  const sums = new Float32Array(side * side);
  for (let y = 0; y < size; y++)
    for (let x = 0; x < size; x++)
      sums[Math.floor(y / block) * side + Math.floor(x / block)]! += mask[y * size + x]! / block ** 2;
  return Uint8Array.from(sums, (sum) => Math.round(255 * sum));
}

/** Where each tensor of a data set begins behind the file's header, and bytes per scene. */
function layout({ count, size = 64, pairs = false, masks = false, fineMasks = false }: DatasetOptions) {
  const picture = size * size * 3;
  const maskSide = fineMasks ? size : masks ? size / 4 : 0;
  const references = count * picture;
  const maskFrom = references * (pairs ? 2 : 1);
  return { size, pairs, picture, maskSide, references, maskFrom, bytes: maskFrom + count * maskSide ** 2 };
}

function headerOf(options: DatasetOptions): Buffer {
  const { count, split, seed } = options;
  const { size, pairs, maskSide, references, maskFrom, bytes } = layout(options);
  const scenes = Array.from({ length: count }, (_, i) => sceneAt(options, i));
  const shape = [count, size, size, 3];
  const tensor = (shape: readonly number[], from: number, to: number): object => ({
    dtype: "U8",
    shape,
    data_offsets: [from, to],
  });
  const header = JSON.stringify({
    __metadata__: {
      made_by: "packages/world",
      split,
      seed: String(seed),
      captions: JSON.stringify(scenes.map((s) => s.caption)),
      ...(pairs && {
        templates: JSON.stringify(scenes.map(templateOf)),
        words: JSON.stringify(scenes.map((s) => subjectBy(s.subject).name)),
      }),
      subjects: JSON.stringify(scenes.map((s) => `${s.subject}/${s.hand}`)),
      specs: JSON.stringify(scenes.map(({ caption: _, ...spec }) => spec)),
    },
    images: tensor(shape, 0, references),
    ...(pairs && { references: tensor(shape, references, maskFrom) }),
    ...(maskSide > 0 && { masks: tensor([count, maskSide, maskSide], maskFrom, bytes) }),
  });
  const head = Buffer.from(header + " ".repeat((8 - (Buffer.byteLength(header) % 8)) % 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(head.length));
  return Buffer.concat([length, head]);
}

/**
 * Writes a .safetensors file: `images` (count, size, size, 3) uint8, with `references` of the same shape if asked for.
 * Its metadata has, as JSON, `captions`, with references `templates` (captions with <S*> for the subject) and `words` (the subjects' names), `subjects` ("hexcode/hand") and `specs` (the scenes without their captions).
 * @param draw fills the file, under the name it has until it is whole, by drawScenes from here or from other processes
 */
export async function writeDataset(
  file: string,
  options: DatasetOptions,
  draw: (unfinished: string) => void | Promise<void>,
): Promise<void> {
  const unfinished = `${file}.tmp`;
  mkdirSync(dirname(file), { recursive: true });
  try {
    const header = headerOf(options);
    writeFileSync(unfinished, header);
    truncateSync(unfinished, header.length + layout(options).bytes);
    await draw(unfinished);
  } catch (error) {
    rmSync(unfinished, { force: true });
    throw error;
  }
  renameSync(unfinished, file);
}

/** Draws scenes `from` to `to` (not included) of a data set into its unfinished file. */
export function drawScenes(
  unfinished: string,
  sprites: Sprites,
  options: DatasetOptions,
  { from = 0, to = options.count, onScene }: { from?: number; to?: number; onScene?: (done: number) => void } = {},
): void {
  const { size, pairs, picture, maskSide, references, maskFrom } = layout(options);
  const out = openSync(unfinished, "r+");
  try {
    const length = Buffer.alloc(8);
    readSync(out, length, 0, 8, 0);
    const body = 8 + Number(length.readBigUInt64LE());
    for (let i = from; i < to; i++) {
      const scene = sceneAt(options, i);
      const canvas = paintScene(sprites, scene, size);
      writeAll(out, canvas.bytes(), body + i * picture);
      if (pairs) writeAll(out, renderReference(sprites, scene, options.seed, size), body + references + i * picture);
      if (maskSide > 0) writeAll(out, covered(canvas.mask, size, maskSide), body + maskFrom + i * maskSide ** 2);
      onScene?.(i + 1 - from);
    }
  } finally {
    closeSync(out);
  }
}

function writeAll(fd: number, bytes: Uint8Array, position: number): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at, position + at);
}

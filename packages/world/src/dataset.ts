import { closeSync, mkdirSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { PLACE_NAMES } from "./backgrounds.ts";
import { caption, randomScene } from "./grammar.ts";
import { Random } from "./random.ts";
import { renderPhoto, renderScene } from "./render.ts";
import type { Scene } from "./scene.ts";
import type { Sprites } from "./sprites.ts";
import { type Split, type Subject, subjectBy, subjectsOf } from "./subjects.ts";

export interface DatasetOptions {
  readonly split: Split;
  readonly count: number;
  readonly seed: number;
  /** also a picture of the same subject in the same hand elsewhere, as tensor `references` */
  readonly pairs?: boolean;
  /** pixels a side; 64 */
  readonly size?: number;
}

/** The i-th scene of a data set, whatever its count. */
export function sceneAt({ split, seed }: DatasetOptions, i: number): Scene {
  return randomScene(subjectsOf(split), new Random(seed, split, i));
}

/** A caption of the scene with the placeholder <S*> where the subject's name would stand. */
export function templateOf(scene: Scene): string {
  const subject = subjectBy(scene.subject);
  return caption(
    scene,
    { ...subject, name: "<S*>", kind: "<S*>" as Subject["kind"] },
    new Random(scene.seed, "template"),
  );
}

/** What the tuning-encoder gets to see for scene i: mostly a user's photo, sometimes another plain scene. */
export function renderReference(sprites: Sprites, scene: Scene, seed: number, size: number = 64): Uint8Array {
  const rng = new Random(scene.seed, seed, "reference");
  if (rng.chance(0.8)) return renderPhoto(sprites.get(scene.subject, scene.hand), rng.uint(), size);
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

/**
 * Writes a .safetensors file: `images` (count, size, size, 3) uint8, with `references` of the same shape if asked for.
 * Its metadata has, as JSON, `captions`, with references `templates` (captions with <S*> for the subject) and `words` (the subjects' names), `subjects` ("hexcode/hand") and `specs` (the scenes without their captions).
 */
export function writeDataset(
  file: string,
  sprites: Sprites,
  options: DatasetOptions,
  onScene?: (done: number) => void,
): void {
  const { count, size = 64, pairs = false } = options;
  const scenes = Array.from({ length: count }, (_, i) => sceneAt(options, i));
  const bytes = count * size * size * 3;
  const shape = [count, size, size, 3];
  const tensor = (from: number): object => ({ dtype: "U8", shape, data_offsets: [from, from + bytes] });
  const header = JSON.stringify({
    __metadata__: {
      made_by: "packages/world",
      split: options.split,
      seed: String(options.seed),
      captions: JSON.stringify(scenes.map((s) => s.caption)),
      ...(pairs
        ? {
            templates: JSON.stringify(scenes.map(templateOf)),
            words: JSON.stringify(scenes.map((s) => subjectBy(s.subject).name)),
          }
        : {}),
      subjects: JSON.stringify(scenes.map((s) => `${s.subject}/${s.hand}`)),
      specs: JSON.stringify(scenes.map(({ caption: _, ...spec }) => spec)),
    },
    images: tensor(0),
    ...(pairs ? { references: tensor(bytes) } : {}),
  });
  const head = Buffer.from(header + " ".repeat((8 - (Buffer.byteLength(header) % 8)) % 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(head.length));

  mkdirSync(dirname(file), { recursive: true });
  const out = openSync(`${file}.tmp`, "w");
  try {
    writeAll(out, length);
    writeAll(out, head);
    let done = 0;
    for (const scene of scenes) {
      writeAll(out, renderScene(sprites, scene, size));
      onScene?.(++done);
    }
    if (pairs) for (const scene of scenes) writeAll(out, renderReference(sprites, scene, options.seed, size));
  } catch (error) {
    rmSync(`${file}.tmp`, { force: true });
    throw error;
  } finally {
    closeSync(out);
  }
  renameSync(`${file}.tmp`, file);
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
}

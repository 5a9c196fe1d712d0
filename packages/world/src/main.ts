/**
 * Writes data sets and contact sheets.
 *
 *   node --import tsx packages/world/src/main.ts --split train --count 60000 --seed 1 --out data/world/train.safetensors
 *   … --pairs      also a reference picture per scene
 *   … --portraits 0.6   so many of the scenes have one large subject, mostly as it is
 *   … --masks      also where the subject is
 *   … --sheet      --out is a PNG with the scenes and their captions
 *   … --evaluation the set that personalization is judged with: --count photos of the split, prompts, all sprites
 *   … --list       --out is a JSON file: the names of the subjects of each split
 *   … --photos     --out is a folder; writes the photo of each --subject NAME/HAND, 256 pixels a side
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import sharp from "sharp";
import { sceneAt, writeDataset } from "./dataset.ts";
import { writeEvaluationSet } from "./evaluation.ts";
import { renderPhoto, renderScene } from "./render.ts";
import { writeSheet } from "./sheet.ts";
import { openSprites, rasterize } from "./sprites.ts";
import { type Hand, type Split, splitNames, subjectBy } from "./subjects.ts";

const { values } = parseArgs({
  options: {
    split: { type: "string", default: "train" },
    count: { type: "string", default: "64" },
    seed: { type: "string", default: "1" },
    out: { type: "string" },
    pairs: { type: "boolean", default: false },
    portraits: { type: "string", default: "0" },
    masks: { type: "boolean", default: false },
    sheet: { type: "boolean", default: false },
    evaluation: { type: "boolean", default: false },
    list: { type: "boolean", default: false },
    photos: { type: "boolean", default: false },
    subject: { type: "string", multiple: true, default: [] },
    cache: { type: "string", default: "data/world/sprites.bin" },
  },
});

/** The pocket model's data sets, as models/pocket/world/README.md writes them. */
const TRAINED = [
  { seed: 1, count: 60_000 },
  { seed: 2, count: 20_000 },
  { seed: 7, count: 60_000, portraits: 0.6 },
  { seed: 8, count: 60_000, portraits: 0.6 },
  { seed: 10, count: 100_000, portraits: 0.6 },
  { seed: 11, count: 20_000 },
];

const progress = (what: string, total: number) => (done: number) => {
  if (done % 500 === 0 || done === total)
    process.stderr.write(`\r${what} ${done}/${total}${done === total ? "\n" : ""}`);
};

async function main(): Promise<void> {
  const { split, out } = values;
  const [count, seed] = [Number(values.count), Number(values.seed)];
  if (out === undefined)
    throw new Error("--out is missing: a .safetensors file, a .png with --sheet, a folder with --photos");
  if (!["train", "validation", "held-out"].includes(split))
    throw new Error(`--split ${split}: needed train, validation or held-out`);
  if (!Number.isInteger(count) || count < 1 || !Number.isInteger(seed))
    throw new Error("--count and --seed are whole numbers");
  if (values.list) return writeFileSync(out, `${JSON.stringify(splitNames(), null, 1)}\n`);
  if (values.photos) return writePhotos(out, seed);
  const sprites = await openSprites(values.cache, (done, total) => progress("sprites", total)(done));
  const portraits = Number(values.portraits);
  if (!(portraits >= 0 && portraits <= 1)) throw new Error("--portraits is a share from 0 to 1");
  const options = { split: split as Split, count, seed, pairs: values.pairs, portraits, masks: values.masks };
  if (values.sheet) {
    const scenes = Array.from({ length: count }, (_, i) => sceneAt(options, i));
    return writeSheet(
      out,
      scenes.map((s) => ({ pixels: renderScene(sprites, s), title: s.caption })),
      10,
    );
  }
  if (values.evaluation) {
    writeEvaluationSet(out, sprites, { split: split as Split, seed, subjects: count, trained: TRAINED });
    return console.log(out);
  }
  const start = performance.now();
  writeDataset(out, sprites, options, progress("scenes", count));
  console.log(`${out}: ${count} scenes, ${((performance.now() - start) / count).toFixed(2)} ms each`);
}

async function writePhotos(folder: string, seed: number): Promise<void> {
  mkdirSync(folder, { recursive: true });
  for (const [i, key] of values.subject.entries()) {
    const [name, hand] = key.split("/") as [string, Hand];
    const pixels = renderPhoto(await rasterize(subjectBy(name), hand, 240), seed + i, 256);
    const file = join(folder, `${name.replaceAll(" ", "-")}.png`);
    await sharp(pixels, { raw: { width: 256, height: 256, channels: 3 } })
      .png()
      .toFile(file);
    console.log(`${file}: ${name} by ${hand}`);
  }
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 2;
});

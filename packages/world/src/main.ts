/**
 * Writes data sets and contact sheets.
 *
 *   node --import tsx packages/world/src/main.ts --split train --count 60000 --seed 1 --out data/world/train.safetensors
 *   … --pairs      also a reference picture per scene
 *   … --portraits 0.6   so many of the scenes have one large subject, mostly as it is
 *   … --looks 0.45   so many have a look (by default 35%, and 10% of portraits)
 *   … --variants 0.4   so many show their subject in other colours and proportions, the colour told
 *   … --masks      also where the subject is, of blocks of 4x4 pixels; --fine-masks: of each pixel
 *   … --sheet      --out is a PNG with the scenes and their captions
 *   … --evaluation the set that personalization is judged with: --count photos of the split, prompts, all sprites
 *   … --list       --out is a JSON file: the names of the subjects of each split
 *   … --jobs 4     processes that draw; by default one a core
 *   … --photos     --out is a folder; writes the photo of each --subject NAME/HAND, 256 pixels a side, and NAME.mask.png: where it is
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import sharp from "sharp";
import { type DatasetOptions, drawScenes, sceneAt, writeDataset } from "./dataset.ts";
import { writeEvaluationSet } from "./evaluation.ts";
import { paintPhoto, renderScene } from "./render.ts";
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
    looks: { type: "string" },
    variants: { type: "string", default: "0" },
    masks: { type: "boolean", default: false },
    "fine-masks": { type: "boolean", default: false },
    sheet: { type: "boolean", default: false },
    evaluation: { type: "boolean", default: false },
    list: { type: "boolean", default: false },
    photos: { type: "boolean", default: false },
    jobs: { type: "string", default: String(availableParallelism()) },
    part: { type: "string" },
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
  { seed: 12, count: 200_000, portraits: 0.6 },
  { seed: 13, count: 60_000, portraits: 0.6 },
  { seed: 14, count: 60_000, portraits: 0.6 },
  { seed: 15, count: 120_000, portraits: 0.5, looks: 0.45 },
  { seed: 16, count: 160_000, portraits: 0.5, looks: 0.45 },
  { seed: 20, count: 160_000, portraits: 0.4, looks: 0.6 },
  { seed: 22, count: 160_000, portraits: 0.4, looks: 0.6 },
];

/** Fewer aren't worth a process, which reads all sprites. */
const SCENES_A_JOB = 1000;

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
  const { pairs, masks, "fine-masks": fineMasks } = values;
  const looks = values.looks === undefined ? undefined : share("looks", values.looks);
  const portraits = share("portraits", values.portraits);
  const variants = share("variants", values.variants);
  const options = { split: split as Split, count, seed, pairs, portraits, looks, variants, masks, fineMasks };
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
  if (values.part !== undefined) {
    const [from, to] = values.part.split(":").map(Number);
    return drawScenes(out, sprites, options, { from: from!, to: to!, onScene: (done) => process.send?.(done) });
  }
  const jobs = Math.min(Number(values.jobs), Math.ceil(count / SCENES_A_JOB));
  if (!Number.isInteger(jobs) || jobs < 1) throw new Error("--jobs is a whole number from 1");
  const start = performance.now();
  await writeDataset(out, options, (unfinished) => {
    if (jobs > 1) return drawInParts(unfinished, options, jobs);
    drawScenes(unfinished, sprites, options, { onScene: progress("scenes", count) });
  });
  console.log(`${out}: ${count} scenes, ${((performance.now() - start) / count).toFixed(2)} ms each`);
}

function share(flag: string, value: string): number {
  const x = Number(value);
  if (!(x >= 0 && x <= 1)) throw new Error(`--${flag} ${value}: needed a share from 0 to 1`);
  return x;
}

/** Draws with that many processes of this program, each its own scenes. */
async function drawInParts(unfinished: string, { count }: DatasetOptions, jobs: number): Promise<void> {
  const show = progress("scenes", count);
  const done = Array<number>(jobs).fill(0);
  let shown = 0;
  const ends = Array.from({ length: jobs }, (_, j) => {
    const [from, to] = [j, j + 1].map((n) => Math.round((count * n) / jobs));
    const args = [...process.argv.slice(2), "--out", unfinished, "--part", `${from}:${to}`];
    const child = fork(fileURLToPath(import.meta.url), args);
    child.on("message", (n: number) => {
      done[j] = n;
      const sum = done.reduce((a, b) => a + b);
      while (shown < sum) show(++shown);
    });
    return once(child, "exit").then(([code]) => {
      if (code !== 0) throw new Error(`a process that draws scenes ${from} to ${to} failed`);
    });
  });
  await Promise.all(ends);
}

async function writePhotos(folder: string, seed: number): Promise<void> {
  mkdirSync(folder, { recursive: true });
  for (const [i, key] of values.subject.entries()) {
    const [name, hand] = key.split("/") as [string, Hand];
    const canvas = paintPhoto(await rasterize(subjectBy(name), hand, 240), seed + i, 256);
    const file = join(folder, `${name.replaceAll(" ", "-")}.png`);
    await sharp(canvas.bytes(), { raw: { width: 256, height: 256, channels: 3 } })
      .png()
      .toFile(file);
    const mask = Uint8Array.from(canvas.mask, (covered) => Math.round(255 * covered));
    await sharp(mask, { raw: { width: 256, height: 256, channels: 1 } })
      .png()
      .toFile(file.replace(/\.png$/, ".mask.png"));
    console.log(`${file}: ${name} by ${hand}`);
  }
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 2;
});

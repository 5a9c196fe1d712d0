/**
 * How well subjects are found (docs/decisions/0016-subject-mask.md): overlap with the true masks of evaluation sets, and a sheet of the
 * last set's photos before other than plain backgrounds.
 *
 *     node --import tsx scripts/pocket-subject-mask.ts [SET...]
 */
import { loadModel } from "@likeness/diffusion";
import { startRuntime } from "@likeness/engine";
import { findSubject, type Photo, seenSubject } from "@likeness/personalization";
import { contactSheet, type Tile } from "../apps/cli/src/images/contact-sheet.ts";
import { writePng } from "../apps/cli/src/images/write-png.ts";
import { openEvaluationSet } from "../packages/personalization/src/evaluation/set.ts";

const SETS = ["data/world/validation-24.safetensors", "data/world/evaluation.safetensors"];
const BEHIND = [255, 0, 255];

const sets = process.argv.length > 2 ? process.argv.slice(2) : SETS;
const model = loadModel("models/pocket");
const runtime = await startRuntime({ inProcess: true });
let tiles: Tile[] = [];
for (const file of sets) {
  const set = openEvaluationSet(file);
  const plain = { found: [] as number[], seen: [] as number[] };
  const others: number[] = [];
  tiles = [];
  for (const [i, { name }] of set.subjects.entries()) {
    const { mask: right, ...photo } = set.photo(i);
    const found = await findSubject(runtime, model, photo);
    const seen = await seenSubject(runtime, model, photo);
    if (found?.by === "plain background") {
      plain.found.push(overlap(found.mask, right!));
      plain.seen.push(overlap(seen, right!));
    } else {
      others.push(overlap(found?.mask, right!));
      tiles.push({ picture: pictureOf(photo.pixels), caption: name });
      tiles.push({ picture: pictureOf(cut(photo, found?.mask)), caption: others.at(-1)!.toFixed(2) });
    }
  }
  const show = (all: readonly number[]): string =>
    `${(all.reduce((a, b) => a + b, 0) / all.length).toFixed(3)} (${all.length})`;
  console.log(
    `${file}: plain backgrounds ${show(plain.found)}, by the subject mask ${show(plain.seen)}; others, by the subject mask ${show(others)}`,
  );
}
await runtime.close();
await writePng("docs/pocket-subject-mask.png", await contactSheet(tiles, { columns: 12, cell: 80 }));

/** Intersection over union. */
function overlap(mask: Uint8Array | undefined, right: Uint8Array): number {
  const [a, b] = [right, mask ?? new Uint8Array(right.length)].map((m) => Array.from(m, (x) => x > 127)) as boolean[][];
  const count = (f: (x: boolean, y: boolean) => boolean): number => a!.filter((x, i) => f(x, b![i]!)).length;
  return count((x, y) => x && y) / count((x, y) => x || y);
}

function pictureOf(data: Uint8Array) {
  return { data, width: model.resolution, height: model.resolution };
}

function cut({ pixels }: Photo, mask: Uint8Array | undefined): Uint8Array {
  return pixels.map((x, i) => {
    const share = (mask?.[Math.floor(i / 3)] ?? 255) / 255;
    return share * x + (1 - share) * BEHIND[i % 3]!;
  });
}

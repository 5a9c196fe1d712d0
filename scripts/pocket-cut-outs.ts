/**
 * A contact sheet of what cut-outs change (docs/decisions/0008-masks.md): held-out subjects, each taught in twelve steps in several ways.
 *
 *     node --import tsx packages/world/src/main.ts --evaluation --split held-out --count 16 --seed 5 --out data/world/evaluation-16.safetensors
 *     node --import tsx scripts/pocket-cut-outs.ts [SUBJECTS]
 */
import { loadModel } from "@likeness/diffusion";
import { startRuntime } from "@likeness/engine";
import { findEncoder, generateConcept, PLACEHOLDER, personalize } from "@likeness/personalization";
import { contactSheet, type Tile } from "../apps/cli/src/images/contact-sheet.ts";
import { writePng } from "../apps/cli/src/images/write-png.ts";
import { openEvaluationSet } from "../packages/personalization/src/evaluation/set.ts";
import { pocketSampling } from "./pocket-sampling.ts";

const SUBJECTS = Number(process.argv[2] ?? 12);
const WAYS = {
  "no cut-outs": { learningRate: 2e-3, cutOuts: 0 },
  "cut-outs, AdamW": { learningRate: 1e-2 },
  "cut-outs, Muon": {},
};
const SCENES = ["a photo of a <S*> on the beach", "a <S*> in the forest"];

const model = loadModel("models/pocket");
const encoder = findEncoder(model)!;
const side = model.resolution;
const set = openEvaluationSet("data/world/evaluation-16.safetensors");
const runtime = await startRuntime({ keepPrograms: 8 });
const tiles: Tile[] = [];
const add = (data: Uint8Array, caption: string): number =>
  tiles.push({ picture: { data, width: side, height: side }, caption });
for (let i = 0; i < SUBJECTS; i++) {
  const photo = set.photo(i);
  add(photo.pixels, set.subjects[i]!.name);
  for (const [name, way] of Object.entries(WAYS)) {
    const options = { encoder, steps: 12, batchSize: 16, token: PLACEHOLDER, convRank: 0, seed: 1, ...way };
    const concept = await personalize(runtime, model, photo, options);
    for (const [k, prompt] of SCENES.entries()) {
      const ask = { prompt, seed: 1 + k, ...pocketSampling(model) };
      const { images } = await generateConcept(runtime, model, concept, ask);
      add(images[0]!, name);
    }
  }
}
await runtime.close();
const columns = 2 * (1 + Object.keys(WAYS).length * SCENES.length);
await writePng(
  "docs/pocket-cut-outs.png",
  await contactSheet(tiles, { columns, cell: 72, title: "Held-out subjects, 12 steps with a mask" }),
);

/**
 * Sheets for someone who is to name subjects and scenes without having seen a photo or a prompt: what the evaluation drew with its
 * reference method and its first seed, one row a subject, in an order that says nothing. docs/results/pocket-blind.md has answers.
 *
 *     npm run likeness -- evaluate models/pocket/training/6-evaluation.json
 *     node --import tsx scripts/pocket-blind.ts
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { counterRandom, startRuntime } from "@likeness/engine";
import { firstPictures, openEvaluation, readEvaluationConfig } from "@likeness/personalization";
import { contactSheet } from "../apps/cli/src/images/contact-sheet.ts";
import { writePng } from "../apps/cli/src/images/write-png.ts";

const OUT = "out/blind";
const ROWS = 8;

const runtime = await startRuntime({ inProcess: true });
const config = readEvaluationConfig("models/pocket/training/6-evaluation.json");
const evaluation = openEvaluation(runtime, config, { commit: "", date: "" });
const { plan, set, model } = evaluation;
const side = model.resolution;
const order = [...counterRandom(7, "blind").permutation(plan.subjects)];
mkdirSync(OUT, { recursive: true });
for (let from = 0; from < order.length; from += ROWS) {
  const tiles = order.slice(from, from + ROWS).flatMap((subject, i) => {
    const pictures = firstPictures(evaluation, { name: config.reference! }, subject);
    if (!pictures) throw new Error(`no pictures of ${set.subjects[subject]!.name}: run the evaluation first`);
    return pictures.map((data, prompt) => ({
      picture: { data, width: side, height: side },
      caption: `${from + i + 1}${String.fromCharCode(97 + prompt)}`,
    }));
  });
  await writePng(`${OUT}/${from / ROWS + 1}.png`, await contactSheet(tiles, { columns: plan.prompts, cell: 128 }));
}
const names = order.map((subject) => set.subjects[subject]!.name);
writeFileSync(`${OUT}/key.json`, JSON.stringify({ names, prompts: set.prompts.map((p) => p.prompt) }, null, 2));
await runtime.close();

/**
 * Sheets for someone who is to name subjects and scenes without having seen a photo or a prompt: what the evaluation drew with its
 * reference method and its first seed, one row a subject, in an order that says nothing. docs/results/pocket-blind.md has answers.
 * `--true-scenes` draws the same prompts by the world itself instead: what can be named at all.
 *
 *     npm run likeness -- evaluate models/pocket/training/6-evaluation.json
 *     node --import tsx scripts/pocket-blind.ts [--true-scenes]
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { counterRandom, startRuntime } from "@likeness/engine";
import { firstPictures, openEvaluation, readEvaluationConfig } from "@likeness/personalization";
import { openSprites, renderScene, type Scene, subjects } from "@likeness/world";
import { contactSheet } from "../apps/cli/src/images/contact-sheet.ts";
import { writePng } from "../apps/cli/src/images/write-png.ts";

const ROWS = 8;
const control = process.argv.includes("--true-scenes");
const out = control ? "out/ceiling" : "out/blind";

const runtime = await startRuntime({ inProcess: true });
const config = readEvaluationConfig("models/pocket/training/6-evaluation.json");
const evaluation = openEvaluation(runtime, config, { commit: "", date: "" });
const { plan, set, model } = evaluation;
const side = model.resolution;
const shuffle = control ? counterRandom(11, "ceiling") : counterRandom(7, "blind");
const order = [...shuffle.permutation(plan.subjects)];
const pictures = control ? await trueScenes() : drawn;
mkdirSync(out, { recursive: true });
for (let from = 0; from < order.length; from += ROWS) {
  const tiles = order.slice(from, from + ROWS).flatMap((subject, i) =>
    pictures(subject).map((data, prompt) => ({
      picture: { data, width: side, height: side },
      caption: `${from + i + 1}${String.fromCharCode(97 + prompt)}`,
    })),
  );
  await writePng(`${out}/${from / ROWS + 1}.png`, await contactSheet(tiles, { columns: plan.prompts, cell: 128 }));
}
const names = order.map((subject) => set.subjects[subject]!.name);
writeFileSync(`${out}/key.json`, JSON.stringify({ names, prompts: set.prompts.map((p) => p.prompt) }, null, 2));
await runtime.close();

function drawn(subject: number): readonly Uint8Array[] {
  const found = firstPictures(evaluation, { name: config.reference! }, subject);
  if (!found) throw new Error(`no pictures of ${set.subjects[subject]!.name}: run the evaluation first`);
  return found;
}

/** What the prompts ask for, of the taught instance itself. */
async function trueScenes(): Promise<(subject: number) => readonly Uint8Array[]> {
  const sprites = await openSprites("data/world/sprites.bin");
  const instances = subjects().flatMap((s) => s.hands.map((hand) => ({ subject: s.hexcode, hand })));
  const asked = set.prompts.map(({ prompt, choices }): Partial<Scene> => {
    const right = (attribute: string) => choices.find((c) => c.attribute === attribute);
    const [place, look, count] = [right("place"), right("look"), right("count")];
    const item = (["hat", "crown"] as const).find((name) => prompt.includes(`wearing a ${name}`));
    return {
      ...(place && { place: place.names![place.right]! }),
      ...(look && { look: look.names![look.right] as Scene["look"] }),
      ...(count && { count: (count.right + 1) as Scene["count"] }),
      ...(item && { item, manner: "worn" }),
    };
  });
  const plain = { place: "beach", look: "none", count: 1, size: "normal", position: "center" } as const;
  const bare = { item: "none", manner: "beside", caption: "" } as const;
  return (subject) =>
    asked.map((scene, i) => {
      const of = instances[set.subjects[subject]!.instance]!;
      return renderScene(sprites, { ...plain, ...bare, ...of, ...scene, seed: 100 * subject + i }, side);
    });
}

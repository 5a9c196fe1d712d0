/** `npm run demo`: teaches the pocket model a subject that it has never seen, and draws it in six scenes. */
import { existsSync, mkdirSync } from "node:fs";
import { basename } from "node:path";
import { loadModel } from "@likeness/diffusion";
import { startRuntime } from "@likeness/engine";
import { findEncoder, findSubject, generateConcept, personalize, writeConcept } from "@likeness/personalization";
import { contactSheet, type Tile } from "../apps/cli/src/images/contact-sheet.ts";
import { readImage, readMask, squarePhoto } from "../apps/cli/src/images/read-image.ts";
import { writePng } from "../apps/cli/src/images/write-png.ts";
import { pocketSampling } from "./pocket-sampling.ts";

const PROMPTS = [
  "a photo of a <S*> on the beach",
  "a photo of a <S*> in the forest",
  "a photo of a <S*> in outer space",
  "a <S*> wearing a crown on a red background",
  "a pixel art picture of a <S*> in the snow",
  "two <S*> under water",
];
const photo = process.argv[2] ?? "models/pocket/examples/hut.png";
const out = "out/demo";

const started = performance.now();
const seconds = (since: number): string => ((performance.now() - since) / 1000).toFixed(1);
const say = (text: string): boolean => process.stderr.write(`${text}\n`);

const model = loadModel("models/pocket");
const side = model.resolution;
const picture = await readImage(photo);
const maskFile = photo.replace(/\.\w+$/, ".mask.png"); // where its subject is; without one, the model looks for it
const mask = await readMask(existsSync(maskFile) ? maskFile : undefined, picture);
const square = await squarePhoto(picture, side, mask);
const runtime = await startRuntime({ keepPrograms: 8 });
say(`Teaching the model the subject of ${photo}`);
const learning = performance.now();
const options = { encoder: findEncoder(model), steps: 12, batchSize: 16, token: "<S*>", seed: 0 };
const concept = await personalize(
  runtime,
  model,
  { ...square, mask: square.mask ?? (await findSubject(runtime, model, square))?.mask },
  {
    ...options,
    onStep: ({ step, steps, loss }) => say(`  step ${step}/${steps}  loss ${loss.toFixed(4)}`),
  },
);
const learned = seconds(learning);
mkdirSync(out, { recursive: true });
writeConcept(`${out}/concept.safetensors`, concept, model);
say(`Learned in ${learned} s; the nearest real word is "${concept.hardToken}". Drawing…`);

const tiles: Tile[] = [{ picture, caption: "the photo" }];
const drawing = performance.now();
const sampling = pocketSampling(model);
for (const prompt of PROMPTS) {
  const { images } = await generateConcept(runtime, model, concept, { prompt, seed: 1, ...sampling });
  tiles.push({ picture: { width: side, height: side, data: images[0]! }, caption: prompt });
  say(`  ${prompt}`);
}
const drawn = seconds(drawing);
await runtime.close();
const title = `${basename(photo)}: learned in ${learned} s, six pictures in ${drawn} s`;
await writePng(`${out}/sheet.png`, await contactSheet(tiles, { title }));
say(`Learned in ${learned} s, drew six pictures in ${drawn} s, ${seconds(started)} s in all.`);
process.stdout.write(`${out}/sheet.png\n`);

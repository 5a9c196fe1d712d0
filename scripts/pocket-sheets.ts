/** Contact sheets of the pocket model for docs/: what it draws from prompts, and held-out subjects taught from one photo. */
import { generate, loadModel, plainDenoiser } from "@likeness/diffusion";
import { startRuntime } from "@likeness/engine";
import { findEncoder, generateConcept, personalize } from "@likeness/personalization";
import { contactSheet, type Tile } from "../apps/cli/src/images/contact-sheet.ts";
import { type Picture, readImage, readMask, squarePhoto } from "../apps/cli/src/images/read-image.ts";
import { writePng } from "../apps/cli/src/images/write-png.ts";
import { pocketSampling } from "./pocket-sampling.ts";

const PROMPTS = [
  "a photo of a dog on the beach",
  "a cat in the forest",
  "a red apple on a blue background",
  "a car in a night city",
  "a rabbit in outer space",
  "a cake on a wooden table",
  "a bear under water",
  "a pixel art picture of a frog in the snow",
  "a house in the desert",
  "two chickens in front of a volcano",
  "a smiling face on a green background",
  "a wolf in the mountains",
];
const SUBJECTS = ["hut", "running-shoe", "butterfly", "robot", "fox", "teddy-bear", "castle", "owl"];
const SCENES = [
  "a photo of a <S*> on the beach",
  "a <S*> in the forest",
  "a <S*> in outer space",
  "a <S*> on a red background",
  "a pixel art picture of a <S*> in the snow",
];

const model = loadModel("models/pocket");
const side = model.resolution;
const sampling = pocketSampling(model);
const runtime = await startRuntime({ keepPrograms: 8 });
const pictureOf = (data: Uint8Array): Picture => ({ width: side, height: side, data });

const drawn: Tile[] = [];
for (const prompt of PROMPTS) {
  const { images } = await generate(runtime, model, plainDenoiser(runtime, model), { prompt, seed: 1, ...sampling });
  drawn.push({ picture: pictureOf(images[0]!), caption: prompt });
}
await writePng(
  "docs/pocket-prompts.png",
  await contactSheet(drawn, { columns: 6, cell: 128, title: "Prompts, seed 1" }),
);

const taught: Tile[] = [];
const encoder = findEncoder(model);
for (const subject of SUBJECTS) {
  const photo = await readImage(`models/pocket/examples/${subject}.png`);
  const mask = await readMask(`models/pocket/examples/${subject}.mask.png`, photo);
  const options = { encoder, steps: 12, batchSize: 16, token: "<S*>", seed: 0 };
  const concept = await personalize(runtime, model, await squarePhoto(photo, side, mask), options);
  taught.push({ picture: photo, caption: `${subject}, held out; nearest word "${concept.hardToken}"` });
  for (const prompt of SCENES) {
    const { images } = await generateConcept(runtime, model, concept, { prompt, seed: 1, ...sampling });
    taught.push({ picture: pictureOf(images[0]!), caption: prompt });
  }
}
await runtime.close();
const columns = SCENES.length + 1;
await writePng(
  "docs/pocket-subjects.png",
  await contactSheet(taught, { columns, cell: 128, title: "Held-out subjects from one photo, 12 steps" }),
);

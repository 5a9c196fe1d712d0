/**
 * What tuning on one photo does to the error in *other* pictures of its subject: on the subject, and beside it. Held-out subjects;
 * prints a line of JSON for each way.
 *
 *     node --import tsx packages/world/src/main.ts --split held-out --count 24 --seed 77 --pairs --masks --portraits 1 --out data/world/held-out-portraits.safetensors
 *     node --import tsx scripts/pocket-tuning.ts [SUBJECTS]
 */
import { encodeAll, loadModel, noised, noiseLevels, PictureFile } from "@likeness/diffusion";
import {
  counterRandom,
  div,
  expand,
  input,
  mean,
  mul,
  type Program,
  readTensorBytes,
  square,
  startRuntime,
  sub,
  sum,
  type Tensor,
} from "@likeness/engine";
import {
  conceptVariables,
  findEncoder,
  hardEmbedding,
  loadConcept,
  PLACEHOLDER,
  personalize,
  personalText,
  personalUNet,
  placeholderFeeds,
} from "@likeness/personalization";

const SUBJECTS = Number(process.argv[2] ?? 8);
const TIMES = [300, 500, 700, 900, 300, 500, 700, 900];
const WAYS = [
  { name: "nearest real word, no concept", steps: 0, mask: false, alphaBlend: 0 },
  { name: "the encoder alone", steps: 0, mask: false },
  { name: "12 steps", steps: 12, mask: false },
  { name: "12 steps, a mask, AdamW, no cut-outs", steps: 12, mask: true, learningRate: 2e-3, cutOuts: 0 },
  { name: "12 steps, a mask, AdamW", steps: 12, mask: true, learningRate: 2e-3 },
  { name: "12 steps, a mask, AdamW, lr 0.01", steps: 12, mask: true, learningRate: 1e-2 },
  { name: "12 steps, a mask", steps: 12, mask: true },
  { name: "40 steps, a mask", steps: 40, mask: true },
];

const model = loadModel("models/pocket");
const encoder = findEncoder(model)!;
const data = new PictureFile("data/world/held-out-portraits.safetensors");
const [masks, photos] = ["masks", "references"].map((key) => readTensorBytes(data.header, key)) as [Buffer, Buffer];
const templates = data.list("templates");
const runtime = await startRuntime({ keepPrograms: 8 });
const latents = await encodeAll(runtime, model.vae.weights, model.vae.config, data);
const side = model.resolution / model.scaleFactor;
const size = model.unet.config.in_channels * side * side;
const { v, factors, all } = conceptVariables(model, encoder.config.rank);

/** Mean squared error where the mask is, and where it isn't. */
function errors(alpha: number): Promise<Program> {
  const shape = [TIMES.length, model.unet.config.in_channels, side, side];
  const [timestep, signal, sigma] = ["t", "signal", "sigma"].map((n) => input(n, [TIMES.length])) as [
    Tensor,
    Tensor,
    Tensor,
  ];
  const z = expand(input("z", [1, ...shape.slice(1)]), shape);
  const { sample, target } = noised(z, input("noise", shape), signal, sigma, "v_prediction");
  const { weights, config } = model.textEncoder;
  const length = model.tokenizer.modelMaxLength;
  const prompt = { ids: input("ids", [TIMES.length, length], "int32"), mask: input("mask", [TIMES.length, length]) };
  const y = personalUNet(model, {
    ...{ sample, timestep, factors, scale: encoder.config.lora_alpha / encoder.config.rank, alpha },
    softContext: personalText(weights, config, prompt, v),
    hardContext: personalText(weights, config, prompt, hardEmbedding(model, input("hard", [1], "int32"))),
  });
  const error = mean(square(sub(y, target)), [1]);
  const subject = expand(input("where", [1, side, side]), error.shape);
  const over = (m: Tensor): Tensor => div(sum(mul(error, m)), sum(m));
  return runtime.compile({ outputs: { subject: over(subject), beside: over(sub(1, subject)) } });
}

for (const { name, steps, mask, alphaBlend, learningRate, cutOuts } of WAYS) {
  const found = { subject: 0, beside: 0 };
  for (let i = 0; i < SUBJECTS; i++) {
    const pixels = photos.subarray(i * 3 * model.resolution ** 2, (i + 1) * 3 * model.resolution ** 2);
    const photo = { pixels, width: model.resolution, height: model.resolution, ...(mask && { mask: maskOf(pixels) }) };
    const { rank } = encoder.config; // as in the table of docs/decisions/0008: what is predicted, on attention alone
    const given = { encoder, steps, learningRate, cutOuts, rank, convRank: 0, alphaBlend };
    const concept = await personalize(runtime, model, photo, { ...given, batchSize: 16, token: PLACEHOLDER, seed: 0 });
    await loadConcept(runtime, all, concept);
    const program = await errors(concept.alphaBlend);
    const { weight: _, ...levels } = noiseLevels(TIMES, model.scheduler("ddim").alphasCumprod, null, "v_prediction");
    const text = placeholderFeeds(
      model.tokenizer,
      TIMES.map(() => templates[i]!),
      PLACEHOLDER,
      concept.hardTokenId,
    );
    const result = await program.run({
      ...levels,
      ids: text.ids,
      mask: text.mask,
      z: latents.subarray(i * size, (i + 1) * size),
      noise: counterRandom(5, `n${i}`).normal(TIMES.length * size),
      hard: Int32Array.of(concept.hardTokenId),
      where: Float32Array.from(masks.subarray(i * side * side, (i + 1) * side * side), (x) => x / 255),
    });
    await program.release();
    for (const key of ["subject", "beside"] as const) found[key] += result[key]![0]! / SUBJECTS;
  }
  console.log(JSON.stringify({ way: name, subjects: SUBJECTS, ...found }));
}
await runtime.close();

/** The subject of a photo by its difference from a background that goes evenly from left to right, pixel by pixel. */
function maskOf(pixels: Uint8Array): Uint8Array {
  const w = model.resolution;
  const at = (x: number, y: number, k: number): number => pixels[(y * w + x) * 3 + k]!;
  return Uint8Array.from({ length: w * w }, (_, i) => {
    const [x, y] = [i % w, Math.floor(i / w)];
    const share = x / (w - 1);
    const far = [0, 1, 2].map((k) => Math.abs(at(x, y, k) - at(0, y, k) * (1 - share) - at(w - 1, y, k) * share));
    return far.reduce((a, b) => a + b) > 40 ? 255 : 0;
  });
}

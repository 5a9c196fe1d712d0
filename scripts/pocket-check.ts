/**
 * Measures the pocket model on scenes that it was not trained on, in some minutes; prints a line of JSON for each:
 * how well the UNet denoises new scenes of trained subjects, by timestep, and how often the judge names subject (of 200),
 * place and look of true scenes, each look, and finds the instances of the photos: as they are, and as the autoencoder gives
 * them back, with its mean squared error in [−1, 1].
 *
 *     node --import tsx packages/world/src/main.ts --split train    --count 1024 --seed 6 --out data/world/fresh.safetensors
 *     node --import tsx packages/world/src/main.ts --split held-out --count 64   --seed 5 --evaluation --out data/world/evaluation.safetensors
 *     node --import tsx scripts/pocket-check.ts [MODEL [JUDGE]]
 */
import {
  clipTextModel,
  decode,
  embedTokens,
  encode,
  encodeAll,
  loadJudge,
  loadModel,
  noised,
  noiseLevels,
  PictureFile,
  type StableDiffusionModel,
  tokenFeeds,
  toPixels,
  toPlanes,
  unet2DConditionModel,
} from "@likeness/diffusion";
import { counterRandom, input, mean, type Runtime, square, startRuntime, sub, type Tensor } from "@likeness/engine";
import {
  instanceRank,
  judgeBackbone,
  type OpenJudge,
  openJudge,
} from "../packages/personalization/src/evaluation/judges.ts";
import { type EvaluationSet, openEvaluationSet } from "../packages/personalization/src/evaluation/set.ts";
import { lookOf } from "../packages/personalization/src/evaluation/summary.ts";

const BATCH = 32;
const SCENES = 512;
/** Middles of ten equal parts of the schedule. */
const TIMESTEPS = Array.from({ length: 10 }, (_, i) => 50 + 100 * i);

/** Mean squared error of the prediction at each of TIMESTEPS, the same scenes and noise at all. */
async function denoising(runtime: Runtime, model: StableDiffusionModel, data: PictureFile): Promise<number[]> {
  const { unet, textEncoder, vae, scheduler, tokenizer } = model;
  const latents = await encodeAll(runtime, vae.weights, vae.config, data, { limit: SCENES });
  const captions = data.list("captions");
  const size = latents.length / SCENES;
  const side = Math.sqrt(size / unet.config.in_channels);
  const shape = [BATCH, unet.config.in_channels, side, side];
  const ids = input("input_ids", [BATCH, tokenizer.modelMaxLength], "int32");
  const inputsEmbeds = embedTokens(textEncoder.weights, textEncoder.config, ids);
  const context = clipTextModel(textEncoder.weights, textEncoder.config, { inputsEmbeds }).lastHiddenState;
  const [t, signal, sigma] = ["t", "signal", "sigma"].map((n) => input(n, [BATCH])) as [Tensor, Tensor, Tensor];
  const { sample, target } = noised(input("latents", shape), input("noise", shape), signal, sigma, "v_prediction");
  const y = unet2DConditionModel(unet.weights, unet.config, { sample, timestep: t, encoderHiddenStates: context });
  const program = await runtime.compile({ outputs: { error: mean(square(sub(y, target))) } });
  const errors = TIMESTEPS.map(() => 0);
  for (let at = 0; at < SCENES; at += BATCH) {
    const { input_ids } = tokenFeeds(tokenizer, captions.slice(at, at + BATCH));
    const scene = { latents: latents.subarray(at * size, (at + BATCH) * size), input_ids };
    const noise = counterRandom(1, `scene ${at}`).normal(BATCH * size);
    for (const [i, step] of TIMESTEPS.entries()) {
      const levels = noiseLevels(Array<number>(BATCH).fill(step), scheduler().alphasCumprod, null, "v_prediction");
      const { weight: _, ...fed } = levels;
      errors[i]! += (await program.run({ ...scene, noise, ...fed })).error![0]! * (BATCH / SCENES);
    }
  }
  await program.release();
  return errors;
}

/** What the autoencoder makes of pictures, (64, 64, 3) bytes each, and its mean squared error. */
async function rebuilt(runtime: Runtime, { vae, resolution: side }: StableDiffusionModel, pictures: Uint8Array[]) {
  const size = side * side * 3;
  const x = input("x", [BATCH, 3, side, side]);
  const y = decode(vae.weights, vae.config, encode(vae.weights, vae.config, x).mean);
  const program = await runtime.compile({ outputs: { y } });
  const made: Uint8Array[] = [];
  let squares = 0;
  for (let at = 0; at < pictures.length; at += BATCH) {
    const some = pictures.slice(at, at + BATCH);
    const planes = new Float32Array(BATCH * size);
    for (const [i, p] of some.entries()) toPlanes(p, planes.subarray(i * size, (i + 1) * size), side, side);
    const back = (await program.run({ x: planes })).y as Float32Array;
    for (let i = 0; i < some.length * size; i++) squares += (back[i]! - planes[i]!) ** 2;
    made.push(...some.map((_, i) => toPixels(back.subarray(i * size, (i + 1) * size), side, side)));
  }
  await program.release();
  return { made, mse: squares / (pictures.length * size) };
}

/** Shares of scenes of which the judge finds the right name first, among the first five, and the attributes; of photos, the instance. */
async function naming(judge: OpenJudge, set: EvaluationSet, scenes: Uint8Array[], photos: Uint8Array[]) {
  const told: Record<string, number[]> = {};
  const tell = (right: Readonly<Record<string, number>>): void => {
    for (const [name, value] of Object.entries(right)) (told[name] ??= []).push(value);
  };
  for (const [i, scene] of scenes.entries()) {
    const prompt = set.backbone.prompts[i]!;
    const { rank, attributes } = await judgeBackbone(judge, scene, prompt, set.backbone.names);
    tell({ subject: Number(rank === 1), subject_top5: Number(rank <= 5), ...attributes });
    if (attributes.look !== undefined) tell({ [lookOf(prompt)]: attributes.look });
  }
  const seen = await judge.picture.embed(photos);
  for (const [i, { instance }] of set.subjects.entries()) {
    const rank = instanceRank(judge, seen[i]!, instance);
    tell({ photo: Number(rank === 1), photo_top5: Number(rank <= 5) });
  }
  return Object.fromEntries(
    Object.entries(told).map(([name, of]) => [name, round(of.reduce((a, b) => a + b, 0) / of.length)]),
  );
}

const round = (x: number): number => Number(x.toPrecision(4));
const folder = process.argv[2] ?? "models/pocket";
const model = loadModel(folder);
const runtime = await startRuntime();
const errors = await denoising(runtime, model, new PictureFile("data/world/fresh.safetensors"));
const overall = errors.reduce((a, b) => a + b, 0) / errors.length;
console.log(JSON.stringify({ denoising: round(overall), timesteps: TIMESTEPS, errors: errors.map(round) }));
const set = openEvaluationSet("data/world/evaluation.safetensors");
const judge = await openJudge(runtime, loadJudge(process.argv[3] ?? "models/pocket-judge"), set, {
  run: "runs/pocket-check",
});
const scenes = set.backbone.prompts.map((_, i) => set.scene(i));
const photos = set.subjects.map((_, i) => set.photo(i).pixels);
console.log(JSON.stringify({ pictures: "as they are", ...(await naming(judge, set, scenes, photos)) }));
const { made, mse } = await rebuilt(runtime, model, scenes);
const names = await naming(judge, set, made, (await rebuilt(runtime, model, photos)).made);
console.log(JSON.stringify({ pictures: "through the autoencoder", mse: round(mse), ...names }));
await runtime.close();

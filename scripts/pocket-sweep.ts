/**
 * The sweep of the method's settings: trains a small tuning-encoder from nothing with each setting, everything else alike, and
 * judges all of them on validation subjects, together with settings of the twelve steps on the model's own encoder. Writes
 * docs/results/pocket-sweep.md. What is done is kept in runs/pocket-sweep, so it can be stopped and started again; it is of one state
 * of the model, so delete it when the model changes.
 *
 *     node --import tsx packages/world/src/main.ts --split train --count 48000 --seed 21 --portraits 0.6 --masks --pairs --out data/world/pairs-21.safetensors
 *     node --import tsx packages/world/src/main.ts --evaluation --split validation --count 24 --seed 6 --out data/world/validation-24.safetensors
 *     node --import tsx scripts/pocket-sweep.ts
 */
import { spawnSync } from "node:child_process";
import { existsSync, linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { SAMPLING } from "./pocket-sampling.ts";

const RUN = "runs/pocket-sweep";
const product = JSON.parse(readFileSync("models/pocket/training/4l-tuning-encoder.json", "utf8"));
const { tuning_rank: _, ...own } = product.encoder;

/** What all share: the product's settings, in a run of minutes. Their steps have the rank that they predict. */
const BASE = {
  ...product,
  encoder: own,
  ...{ seed: 83, from_weights: false, steps: 480, batch_size: 32 },
  ...{ learning_rate: 0.003, hypernetwork_learning_rate: 0.003, warmup_steps: 30, decay_steps: 300, ema_decay: 0.98 },
};

/** Names as the report has them. */
const SETTINGS: Readonly<Record<string, { readonly encoder?: object; readonly [key: string]: unknown }>> = {
  "as the product": {},
  "no contrast": { contrastive_weight: 0 },
  "contrast 0.1": { contrastive_weight: 0.1 },
  "k 1": { k: 1 },
  "k 16": { k: 16 },
  "tau 0.02": { tau: 0.02 },
  "tau 0.2": { tau: 0.2 },
  "embedding loss 0.01": { embedding_weight: 0.01 },
  "offset loss 0.001": { offset_weight: 0.001 },
  "no words": { word_weight: 0 },
  "words 0.3": { word_weight: 0.3 },
  "rank 1": { encoder: { rank: 1, lora_alpha: 1 } },
  "rank 8": { encoder: { rank: 8, lora_alpha: 8 } },
  "t 50": { encoder: { encoder_timestep: 50 } },
  "t 600": { encoder: { encoder_timestep: 600 } },
  "alpha 0.25": { encoder: { alpha_blend: 0.25 } },
  "alpha 1": { encoder: { alpha_blend: 1 } },
};

const TUNING = [
  { method: "encoder", name: "the product's encoder, 0 steps" },
  { name: "the product, 12 steps" },
  ...[4, 8, 32, 64].map((rank) => ({ name: `the product, rank ${rank} while tuning`, rank })),
  ...[
    ...[0.25, 0.75, 1].map((alpha_blend) => ({ name: `alpha ${alpha_blend}`, alpha_blend })),
    { name: "no anchors", embedding_anchor: 0, offset_anchor: 0 },
    { name: "anchors tenfold", embedding_anchor: 1, offset_anchor: 0.01 },
    { name: "batches of 32", batch_size: 32 },
  ].map(({ name, ...spec }) => ({ ...spec, name: `the product, rank 4, ${name} while tuning`, rank: 4 })),
].map((spec) => ({ method: "date", mask: "plain", conv_rank: 0, ...spec }));

const slug = (name: string): string => name.replaceAll(/\W+/g, "-");

const likeness = (...args: string[]): void => {
  const { status } = spawnSync("node", ["apps/cli/bin/likeness.js", ...args], { stdio: "inherit" });
  if (status !== 0) process.exit(status ?? 1);
};

/** All settings see the same pictures: their latents, minutes of work, are cached by the product's run, if it is here, or by the first. */
function shareLatents(run: string): void {
  for (const from of [product.run, join(RUN, slug(Object.keys(SETTINGS)[0]!))])
    for (const name of ["images", "references"].map((tensor) => `${tensor}.latents.safetensors`))
      if (existsSync(join(from, name)) && !existsSync(join(run, name))) linkSync(join(from, name), join(run, name));
}

const trained = Object.entries(SETTINGS).map(([name, { encoder, ...rest }]) => {
  const run = join(RUN, slug(name));
  const out = join(run, "tuning_encoder");
  const config = JSON.stringify({ ...BASE, ...rest, encoder: { ...BASE.encoder, ...encoder }, run, out }, null, 2);
  const [path, done] = [join(run, "config.json"), join(run, "done")];
  if (!existsSync(path) || readFileSync(path, "utf8") !== config) {
    rmSync(run, { recursive: true, force: true }); // a checkpoint of another setting isn't to be gone on from
    mkdirSync(run, { recursive: true });
    writeFileSync(path, config);
    shareLatents(run);
  }
  if (!existsSync(done)) {
    console.log(`${name}: ${path}`);
    likeness("pretrain", path, "--resume", "latest");
    writeFileSync(done, "");
  }
  return { name, encoder: out };
});
const evaluation = {
  ...{ model: "models/pocket", set: "data/world/validation-24.safetensors", judge: "models/pocket-judge" },
  ...{ run: join(RUN, "evaluation"), out: "docs/results/pocket-sweep.md", seed: 1, images: 1 },
  ...{ subjects: 24, backbone: 0, sheet_subjects: 0 },
  sampling: { ...SAMPLING, guidance_alpha: 1 }, // as when it was measured
  reference: `${Object.keys(SETTINGS)[0]}, 12 steps`,
  methods: [
    { method: "class-word" },
    ...trained.flatMap(({ name, encoder }) => [
      { method: "encoder", name: `${name}, 0 steps`, encoder },
      { method: "date", mask: "plain", conv_rank: 0, name: `${name}, 12 steps`, encoder },
    ]),
    ...TUNING,
  ],
};
writeFileSync(join(RUN, "evaluation.json"), JSON.stringify(evaluation, null, 2));
likeness("evaluate", join(RUN, "evaluation.json"));

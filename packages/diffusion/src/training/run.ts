/** `likeness train`: builds the task of a config, trains it and writes the weights into the model folder. */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { leafName, openWeights, type Runtime, toFloat16, writeSafetensors } from "@likeness/engine";
import { CLIPTextConfig, CLIPVisionConfig } from "../config/clip.ts";
import { JudgeConfig } from "../config/judge.ts";
import { ConfigError, parseConfig, readConfig, readJson } from "../config/parse.ts";
import { SubjectMaskConfig } from "../config/subject-mask.ts";
import { UNet2DConditionConfig } from "../config/unet.ts";
import { AutoencoderKLConfig } from "../config/vae.ts";
import { loadCLIPVision } from "../loading/clip.ts";
import { fingerprint } from "../loading.ts";
import { createScheduler } from "../schedulers/index.ts";
import { deviation } from "../statistics.ts";
import { loadCLIPTokenizer } from "../tokenizers/index.ts";
import { autoencoderTask, type CLIPVision } from "./autoencoder.ts";
import { cachedFloats } from "./cached-floats.ts";
import { clipTask } from "./clip.ts";
import { TrainingConfig } from "./config.ts";
import { PictureFile } from "./data.ts";
import { type DenoiserParts, denoiserTask, encodeAll } from "./denoiser.ts";
import { judgeTask } from "./judge.ts";
import {
  average,
  resumeFrom,
  startFrom,
  type TrainingHooks,
  type TrainingOptions,
  type TrainingTask,
  train,
} from "./loop.ts";
import { subjectMaskTask } from "./subject-mask.ts";

/** A part of the model folder that a run writes: which weights, under which keys. */
interface TrainedPart {
  readonly folder: string;
  readonly file: string;
  /** Variables of this part; their names begin with `prefix`, which the file leaves out. */
  readonly prefix: string;
}

const PARTS: Readonly<Record<TrainingConfig["task"], readonly TrainedPart[]>> = {
  autoencoder: [{ folder: "vae", file: "diffusion_pytorch_model", prefix: "" }],
  clip: [
    { folder: "text_encoder", file: "model", prefix: "text_encoder/" },
    { folder: "image_encoder", file: "model", prefix: "image_encoder/" },
    { folder: "image_encoder", file: "text_projection", prefix: "clip/" },
  ],
  unet: [{ folder: "unet", file: "diffusion_pytorch_model", prefix: "" }],
  judge: [{ folder: ".", file: "model", prefix: "judge/" }],
  "subject-mask": [{ folder: "subject_mask", file: "model", prefix: "" }],
};

const partsOf = (config: TrainingConfig): readonly TrainedPart[] =>
  config.task === "clip" && config.train === "image"
    ? PARTS.clip.filter((part) => part.folder !== "text_encoder")
    : PARTS[config.task];

export interface RunHooks extends TrainingHooks {
  readonly resume?: boolean;
  /** Pictures turned into latents so far, before the first step. */
  onCached?(done: number, total: number): void;
}

type ConfigOf<T extends TrainingConfig["task"]> = Extract<TrainingConfig, { task: T }>;

interface PreparedRun {
  readonly task: TrainingTask;
  /** After training, with the averaged weights in the runtime. */
  finish?(runtime: Runtime): Promise<void>;
}

/** @throws ConfigError if the config, or one of the model, isn't as needed */
export function readTrainingConfig(path: string): TrainingConfig {
  return parseConfig(TrainingConfig, readJson(path), path);
}

/** Trains to the end; the folder gets weights only at checkpoints, whole files at a time. */
export async function runTraining(
  runtime: Runtime,
  config: TrainingConfig,
  { resume = false, ...hooks }: RunHooks = {},
): Promise<number> {
  const parts = partsOf(config);
  const { step, start: resumed } = resumeFrom(config.run, resume);
  const start = step === 0 && config.from_weights ? weightsOf(parts, config.model) : resumed;
  const { task, finish } = await prepare(runtime, config, start, hooks.onCached ?? (() => {}));
  const options: TrainingOptions = {
    run: config.run,
    steps: config.steps,
    learningRate: config.learning_rate,
    warmupSteps: config.warmup_steps,
    decaySteps: config.decay_steps,
    checkpointingSteps: config.checkpointing_steps,
    loggingSteps: config.logging_steps,
    optimizer: {
      // as usual: Muon is for what lies inside, not for tables and the convolutions at both ends
      matrices: (name, shape) =>
        config.optimizer === "muon" && shape.length > 1 && !/(embedding|projection|conv_in|conv_out)/.test(name),
      maxGradNorm: config.max_grad_norm,
      emaDecay: config.ema_decay,
      // as usual: matrices and kernels decay, vectors don't
      weightDecay: (name) => (/(norm|bias|embedding|logit_scale)/.test(name) ? 0 : config.weight_decay),
    },
    resume,
  };
  return train(runtime, task, options, {
    ...hooks,
    onCheckpoint: async (step) => {
      for (const part of parts) await savePart(runtime, task, part, config.model);
      if (step === config.steps) await finish?.(runtime);
      await hooks.onCheckpoint?.(step);
    },
  });
}

/** Start values from the weights that the model folder has. @throws SafetensorsError if a file isn't there */
function weightsOf(parts: readonly TrainedPart[], model: string): Start {
  const files = parts.map(({ folder, file, prefix }) => ({
    prefix,
    start: startFrom(join(model, folder, `${file}.safetensors`)),
  }));
  return (key) => {
    for (const { prefix, start } of files) {
      const found = key.startsWith(prefix) ? start(key.slice(prefix.length)) : undefined;
      if (found) return found;
    }
    return undefined;
  };
}

type Start = (key: string) => Float32Array | undefined;

async function prepare(
  runtime: Runtime,
  config: TrainingConfig,
  start: Start,
  onCached: (done: number, total: number) => void,
): Promise<PreparedRun> {
  if (!existsSync(config.model))
    throw new ConfigError(`${config.model}: needed a model folder with config.json files, found none.`);
  const data = new PictureFile(config.data);
  if (config.task === "autoencoder") return prepareAutoencoder(config, data, start);
  if (config.task === "clip") return prepareClip(config, data, start);
  if (config.task === "judge") return prepareJudge(config, data, start);
  if (config.task === "subject-mask") return prepareSubjectMask(config, data, start);
  return prepareDenoiser(runtime, config, data, start, onCached);
}

function prepareAutoencoder(config: ConfigOf<"autoencoder">, data: PictureFile, start: Start): PreparedRun {
  const file = join(config.model, "vae", "config.json");
  const vae = readConfig(AutoencoderKLConfig, file);
  const resolution = config.resolution ?? data.height;
  const { batch_size: batchSize, seed, kl_weight: klWeight, train } = config;
  const perceptual =
    config.perceptual_weight > 0
      ? {
          weight: config.perceptual_weight,
          tower: towerFor(config.model, resolution, "the pictures that perceptual_weight asks it about"),
        }
      : null;
  const options = { batchSize, seed, klWeight, train, resolution, perceptual };
  return {
    task: autoencoderTask(vae, data, options, start),
    // the denoiser wants latents of deviation 1
    finish: async (runtime) => {
      if (config.train === "decoder") return;
      const w = openWeights([join(config.model, "vae", "diffusion_pytorch_model.safetensors")]).weights();
      const latents = await encodeAll(runtime, w, { ...vae, scaling_factor: 1 }, data, { limit: 1024 });
      writeConfig(file, {
        ...(readJson(file) as object),
        scaling_factor: Number((1 / deviation(latents)).toPrecision(5)),
      });
    },
  };
}

/** The model's picture encoder. @throws ConfigError if it doesn't read pictures of that side */
function towerFor(model: string, side: number, asked: string): CLIPVision {
  const folder = join(model, "image_encoder");
  const tower = loadCLIPVision(folder);
  const { image_size: reads } = tower.config;
  if (reads !== side)
    throw new ConfigError(
      `${folder}: needed a picture tower for ${side} x ${side}, ${asked}, found ${reads} x ${reads}.`,
    );
  return tower;
}

function prepareClip(config: ConfigOf<"clip">, data: PictureFile, start: Start): PreparedRun {
  const text = readConfig(CLIPTextConfig, join(config.model, "text_encoder", "config.json"));
  const vision = readConfig(CLIPVisionConfig, join(config.model, "image_encoder", "config.json"));
  const tokenizer = loadCLIPTokenizer(join(config.model, "tokenizer"));
  const { batch_size: batchSize, seed, groups, labels, instances, train } = config;
  const frozenText =
    train === "image" ? openWeights([join(config.model, "text_encoder", "model.safetensors")]).weights() : undefined;
  return {
    task: clipTask(text, vision, tokenizer, data, { batchSize, seed, groups, labels, instances, frozenText }, start),
  };
}

function prepareJudge(config: ConfigOf<"judge">, data: PictureFile, start: Start): PreparedRun {
  const judge = readConfig(JudgeConfig, join(config.model, "config.json"));
  const { image_size: side } = judge.vision_config;
  const { width, height } = data;
  if (width !== side || height !== side)
    throw new ConfigError(
      `${config.data}: needed pictures of ${side} x ${side}, which the judge reads, found ${width} x ${height}.`,
    );
  const { batch_size: batchSize, seed, siblings, blur, labels } = config;
  const tokenizer = loadCLIPTokenizer(join(config.model, "tokenizer"));
  return { task: judgeTask(judge, tokenizer, data, { batchSize, seed, siblings, blur, labels }, start) };
}

function prepareSubjectMask(config: ConfigOf<"subject-mask">, data: PictureFile, start: Start): PreparedRun {
  const mask = readConfig(SubjectMaskConfig, join(config.model, "subject_mask", "config.json"));
  const tower = towerFor(config.model, data.height, "the pictures of the data");
  const { batch_size: batchSize, seed } = config;
  return { task: subjectMaskTask(mask, tower, data, { batchSize, seed }, start) };
}

async function prepareDenoiser(
  runtime: Runtime,
  config: ConfigOf<"unet">,
  data: PictureFile,
  start: Start,
  onCached: (done: number, total: number) => void,
): Promise<PreparedRun> {
  const at = (...names: string[]): string => join(config.model, ...names);
  const vae = readConfig(AutoencoderKLConfig, at("vae", "config.json"));
  const scheduler = createScheduler(readJson(at("scheduler", "scheduler_config.json")));
  const { prediction_type } = scheduler.config;
  if (prediction_type === "sample")
    throw new ConfigError(
      `${at("scheduler")}: "prediction_type": "sample" isn't trained here; needed epsilon or v_prediction.`,
    );
  const parts: DenoiserParts = {
    unet: readConfig(UNet2DConditionConfig, at("unet", "config.json")),
    text: readConfig(CLIPTextConfig, at("text_encoder", "config.json")),
    textWeights: openWeights([at("text_encoder", "model.safetensors")]).weights(),
    tokenizer: loadCLIPTokenizer(at("tokenizer")),
    predictionType: prediction_type,
    alphasCumprod: scheduler.alphasCumprod,
  };
  const vaeWeights = openWeights([at("vae", "diffusion_pytorch_model.safetensors")]).weights();
  const latents = await cachedFloats(
    join(config.run, "latents.safetensors"),
    fingerprint([at("vae", "diffusion_pytorch_model.safetensors"), config.data]),
    () => encodeAll(runtime, vaeWeights, vae, data, { onProgress: (n) => onCached(n, data.count) }),
  );
  const options = {
    batchSize: config.batch_size,
    seed: config.seed,
    captionDropout: config.caption_dropout,
    snrGamma: config.snr_gamma,
    timestepSpread: config.timestep_spread,
    subjectWeight: config.subject_weight,
    captionWeights: config.caption_weights,
  };
  return { task: denoiserTask(parts, data, latents, options, start) };
}

/** Writes the moving averages of one part as float16, in diffusers' layout. */
async function savePart(
  runtime: Runtime,
  task: TrainingTask,
  { folder, file, prefix }: TrainedPart,
  model: string,
): Promise<void> {
  const mine = task.variables.all().filter((p) => leafName(p).startsWith(prefix));
  const names = mine.map((p) => leafName(average(p)));
  const values = await runtime.read(names);
  const tensors = mine.map((p, i) => {
    const key = leafName(p).slice(prefix.length);
    return [key, { dtype: "F16", shape: p.shape, data: toFloat16(values[names[i]!]!) }] as const;
  });
  mkdirSync(join(model, folder), { recursive: true });
  writeSafetensors(join(model, folder, `${file}.safetensors`), Object.fromEntries(tensors), { format: "pt" });
}

/** Writes a changed config.json beside its weights. */
const writeConfig = (path: string, json: unknown): void => writeFileSync(path, `${JSON.stringify(json, null, 2)}\n`);

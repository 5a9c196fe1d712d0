/** `likeness train`: builds the task of a config, trains it and writes the weights into the model folder. */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { leafName, type Runtime, toFloat16, writeSafetensors } from "@likeness/engine";
import { ConfigError, parseConfig, readConfig, readJson } from "../config/parse.ts";
import { AutoencoderKLConfig } from "../config/vae.ts";
import { autoencoderTask } from "./autoencoder.ts";
import { TrainingConfig } from "./config.ts";
import { PictureFile } from "./data.ts";
import { average, resumeFrom, type TrainingHooks, type TrainingOptions, type TrainingTask, train } from "./loop.ts";

/** A part of the model folder that a run writes: which weights, under which keys. */
export interface TrainedPart {
  readonly folder: string;
  readonly file: string;
  /** Variables of this part; their names begin with `prefix`, which the file leaves out. */
  readonly prefix: string;
}

export interface PreparedRun {
  readonly task: TrainingTask;
  readonly parts: readonly TrainedPart[];
  /** After training, with the averaged weights in the runtime. */
  finish?(runtime: Runtime): Promise<void>;
}

/** @throws ConfigError if the config, or one of the model, isn't as needed */
export function readTrainingConfig(path: string): TrainingConfig {
  return parseConfig(TrainingConfig, readJson(path), path);
}

/** Trains to the end or until the signal; the folder gets weights only at checkpoints, whole files at a time. */
export async function runTraining(
  runtime: Runtime,
  config: TrainingConfig,
  { resume = false, ...hooks }: TrainingHooks & { resume?: boolean } = {},
): Promise<number> {
  const { start } = resumeFrom(config.run, resume);
  const { task, parts, finish } = prepare(config, start);
  const options: TrainingOptions = {
    run: config.run,
    steps: config.steps,
    learningRate: config.learning_rate,
    warmupSteps: config.warmup_steps,
    decaySteps: config.decay_steps,
    checkpointingSteps: config.checkpointing_steps,
    loggingSteps: config.logging_steps,
    optimizer: {
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

function prepare(config: TrainingConfig, start: (key: string) => Float32Array | undefined): PreparedRun {
  if (!existsSync(config.model))
    throw new ConfigError(`${config.model}: needed a model folder with config.json files, found none.`);
  const data = new PictureFile(config.data);
  if (config.task === "autoencoder") {
    const file = join(config.model, "vae", "config.json");
    const vae = readConfig(AutoencoderKLConfig, file);
    const task = autoencoderTask(
      vae,
      data,
      { batchSize: config.batch_size, seed: config.seed, klWeight: config.kl_weight },
      start,
    );
    return { task, parts: [{ folder: "vae", file: "diffusion_pytorch_model", prefix: "" }] };
  }
  throw new ConfigError(`task "${config.task}" isn't there yet.`);
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
export const writeConfig = (path: string, json: unknown): void =>
  writeFileSync(path, `${JSON.stringify(json, null, 2)}\n`);

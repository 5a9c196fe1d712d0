/** Pre-training of the tuning-encoder (paper, section 4.2; method.md 1.9). */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import {
  average,
  cachedFloats,
  drawTimesteps,
  encodeAll,
  fingerprint,
  loadModel,
  noised,
  noiseLevels,
  PictureFile,
  parseConfig,
  pathsOf,
  type RunHooks,
  readJson,
  resumeFrom,
  type StableDiffusionModel,
  startFrom,
  subjectWeights,
  type TrainingTask,
  tokenTable,
  train,
  weighted,
} from "@likeness/diffusion";
import {
  cast,
  constant,
  counterRandom,
  div,
  equal,
  evaluate,
  type Feeds,
  gather,
  input,
  leafName,
  log,
  mean,
  mul,
  type Runtime,
  reshape,
  sqrt,
  square,
  sum,
  type Tensor,
  Variables,
} from "@likeness/engine";
import { ENCODER_FILE, ENCODER_FOLDER, writeEncoder } from "./encoder-file.ts";
import {
  codebookLoss,
  contrastiveLoss,
  diffusionLoss,
  embeddingL2,
  nearestWord,
  offsetsL2,
  wordLoss,
} from "./method/losses.ts";
import { personalText } from "./method/personal-text.ts";
import { noisy, personalUNet, predictConcept, wordTable } from "./method/personal-unet.ts";
import { PretrainConfig } from "./pretrain-config.ts";
import { OBJECT_TEMPLATES, PLACEHOLDER, placeholderFeeds, wordId } from "./prompts.ts";

/** @throws ConfigError */
export const readPretrainConfig = (path: string): PretrainConfig => parseConfig(PretrainConfig, readJson(path), path);

/** Trains to the end, and returns the last step. @throws the signal's reason if aborted */
export async function pretrain(
  runtime: Runtime,
  config: PretrainConfig,
  { resume = false, ...hooks }: RunHooks = {},
): Promise<number> {
  const model = loadModel(config.model);
  const data = new PictureFile(config.data);
  const { step, start: resumed } = resumeFrom(config.run, resume);
  const start = step === 0 && config.from_weights ? startFrom(join(encoderFolder(config), ENCODER_FILE)) : resumed;
  const paired = data.header.tensors.has("references");
  const { vae } = model;
  const source = fingerprint([...pathsOf(vae), config.data]);
  mkdirSync(config.run, { recursive: true });
  const encoded = (tensor: "images" | "references", before: number): Promise<Float32Array> =>
    cachedFloats(join(config.run, `${tensor}.latents.safetensors`), source, () =>
      encodeAll(runtime, vae.weights, vae.config, data, {
        tensor,
        onProgress: (n) => {
          hooks.signal?.throwIfAborted();
          hooks.onCached?.(before + n, data.count * (paired ? 2 : 1));
        },
      }),
    );
  const latents = await encoded("images", 0);
  const references = paired ? await encoded("references", data.count) : latents;
  const row = await wordRow(model, config.start_word);
  const task = pretrainTask(
    model,
    config,
    { data, latents, references, paired },
    (key) => start(key) ?? (key === "token_embedder.fc2.bias" ? row : undefined),
  );
  const hyper = config.hypernetwork_learning_rate / config.learning_rate;
  return train(
    runtime,
    task,
    {
      run: config.run,
      steps: config.steps,
      learningRate: config.learning_rate,
      warmupSteps: config.warmup_steps,
      decaySteps: config.decay_steps,
      checkpointingSteps: config.checkpointing_steps,
      loggingSteps: config.logging_steps,
      optimizer: {
        matrices: (name, shape) => config.optimizer === "muon" && shape.length > 1 && !name.endsWith("queries"),
        maxGradNorm: config.max_grad_norm,
        emaDecay: config.ema_decay,
        lrScale: (name) => (name.startsWith("hypernetwork.") ? hyper : 1),
      },
      resume,
    },
    {
      ...hooks,
      onCheckpoint: async (step) => {
        await saveEncoder(runtime, task, model, config);
        await hooks.onCheckpoint?.(step);
      },
    },
  );
}

interface PretrainData {
  readonly data: PictureFile;
  readonly latents: Float32Array;
  readonly references: Float32Array;
  readonly paired: boolean;
}

function pretrainTask(
  model: StableDiffusionModel,
  config: PretrainConfig,
  { data, latents, references, paired }: PretrainData,
  start: (key: string) => Float32Array | undefined,
): TrainingTask {
  const { batch_size: b, seed, encoder } = config;
  const variables = new Variables({ seed, start });
  const c = model.unet.config.in_channels;
  const side = Math.sqrt(latents.length / data.count / c);
  const shape = [b, c, side, side];
  const levels = (name: string): Tensor => input(name, [b]);
  const scheduler = model.scheduler("ddim");
  const prediction = scheduler.config.prediction_type === "epsilon" ? "epsilon" : "v_prediction";

  const seen = noisy(
    input("reference_latents", shape),
    input("encoder_noise", shape),
    levels("encoder_signal"),
    levels("encoder_sigma"),
  );
  const photo = {
    pixels: input("pixels", [b, 3, data.height, data.width]),
    sample: seen,
    timestep: levels("encoder_t"),
  };
  const { v, factors } = predictConcept(model, variables.weights(), encoder, photo);

  const words = wordTable(model);
  const nearest = nearestWord(v, words.table);
  const prompt = {
    ids: input("ids", [b, model.tokenizer.modelMaxLength], "int32"),
    mask: input("mask", [b, model.tokenizer.modelMaxLength]),
  };
  const text = model.textEncoder;
  const { sample, target } = noised(
    input("latents", shape),
    input("noise", shape),
    levels("signal"),
    levels("sigma"),
    prediction,
  );
  const y = personalUNet(model, {
    sample,
    timestep: levels("t"),
    softContext: personalText(text.weights, text.config, prompt, v),
    hardContext: personalText(text.weights, text.config, prompt, gather(words.table, nearest)),
    factors,
    scale: encoder.lora_alpha / encoder.rank,
    alpha: encoder.alpha_blend,
  });
  const subject = subjectWeights(data, side, b, config.subject_weight);
  const diffusion = diffusionLoss(target, y, subject.weigh);
  const contrastive = contrastiveLoss(v, words.table, { k: config.k, tau: config.tau, normalize: config.normalize });
  const l2 = embeddingL2(v);
  const offsets = offsetsL2(factors);
  const named = config.word_weight > 0 ? data.list("words").map((word) => wordId(model, word)) : undefined;
  const word = named && wordLoss(v, gather(tokenTable(text.weights, text.config), input("word_ids", [b], "int32")));
  const loss = weighted([
    [1, diffusion],
    [config.contrastive_weight, contrastive],
    [config.embedding_weight, l2],
    [config.offset_weight, offsets],
    ...(word ? [[config.word_weight, word] as const] : []),
    ...(config.codebook_weight > 0 ? [[config.codebook_weight, codebookLoss(v, words.table)] as const] : []),
  ]);
  const prompts = data.header.metadata.templates ? data.list("templates") : undefined;
  const neutral = encoder.templates ?? OBJECT_TEMPLATES;
  const alphas = scheduler.alphasCumprod;
  const pictureSize = c * side * side;
  return {
    variables,
    batchSize: b,
    scalars: {
      loss,
      diffusion,
      contrastive,
      norm: mean(sqrt(sum(square(v), [1]))),
      cosine: nearestCosine(v, words.table, nearest),
      entropy: wordEntropy(nearest),
      offsets,
      ...(word && { word }),
    },
    feeds: (step): Feeds => {
      const random = counterRandom(seed, `pretrain step ${step}`);
      const indices = Array.from({ length: b }, () => random.int(data.count));
      const rows = (all: Float32Array): Float32Array => {
        const out = new Float32Array(b * pictureSize);
        for (const [n, i] of indices.entries())
          out.set(all.subarray(i * pictureSize, (i + 1) * pictureSize), n * pictureSize);
        return out;
      };
      const times = drawTimesteps(random, b, alphas.length, config.timestep_spread);
      // method.md 3.2: half of the batch shares the denoiser's time, unless encoder and denoiser see different pictures
      const encoderTimes = times.map((t, n) => (!paired && n % 2 ? t : encoder.encoder_timestep));
      const { t, signal, sigma } = noiseLevels(times, alphas, null, prediction);
      const e = noiseLevels(encoderTimes, alphas, null, prediction);
      const chosen = indices.map((i) => prompts?.[i] ?? neutral[random.int(neutral.length)]!);
      return {
        pixels: data.batch(indices, paired ? { tensor: "references" } : {}),
        reference_latents: rows(references),
        encoder_noise: random.normal(b * pictureSize),
        encoder_t: e.t,
        encoder_signal: e.signal,
        encoder_sigma: e.sigma,
        latents: rows(latents),
        noise: random.normal(b * pictureSize),
        t,
        signal,
        sigma,
        ...subject.feeds(indices),
        ...placeholderFeeds(model.tokenizer, chosen, PLACEHOLDER, 0),
        ...(named && { word_ids: Int32Array.from(indices, (i) => named[i]!) }),
      };
    },
  };
}

/** Mean cosine of each v with its nearest word: how real the predicted words are. */
function nearestCosine(v: Tensor, table: Tensor, nearest: Tensor): Tensor {
  const rows = gather(table, nearest);
  const dot = sum(mul(v, rows), [1]);
  const norms = mul(sqrt(sum(square(v), [1])), sqrt(sum(square(rows), [1])));
  return mean(div(dot, norms));
}

/** Entropy in nats of the batch's nearest words: ln(B) if all differ, 0 if the encoder says one word for everything. */
export function wordEntropy(nearest: Tensor): Tensor {
  const b = nearest.shape[0]!;
  const same = cast(equal(reshape(nearest, [b, 1]), reshape(nearest, [1, b])), "float32");
  return mul(mean(log(mean(same, [1]))), -1);
}

async function wordRow(model: StableDiffusionModel, word: string): Promise<Float32Array> {
  const id = wordId(model, word);
  const { weights, config } = model.textEncoder;
  return (await evaluate({ row: reshape(gather(tokenTable(weights, config), constant(Int32Array.of(id))), [-1]) })).row;
}

const encoderFolder = ({ model, out = join(model, ENCODER_FOLDER) }: PretrainConfig): string => out;

async function saveEncoder(
  runtime: Runtime,
  task: TrainingTask,
  model: StableDiffusionModel,
  config: PretrainConfig,
): Promise<void> {
  const params = task.variables.all();
  const names = params.map((p) => leafName(average(p)));
  const values = await runtime.read(names);
  writeEncoder(
    encoderFolder(config),
    config.encoder,
    model,
    params,
    names.map((name) => values[name]!),
  );
}

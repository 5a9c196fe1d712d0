/** One picture in, a concept out. */

import { attentionMatrices, encode, expectFinite, type StableDiffusionModel, tokenTable } from "@likeness/diffusion";
import {
  constant,
  costOf,
  counterRandom,
  type FileWeights,
  gather,
  input,
  LikenessError,
  mul,
  type Runtime,
  reshape,
  size,
  type Tensor,
} from "@likeness/engine";
import type { Concept } from "./concept.ts";
import { cutOuts, MOST_CUT_OUTS } from "./cut-outs.ts";
import type { TuningEncoder } from "./encoder-file.ts";
import { nearestWord } from "./method/losses.ts";
import { noisy, predictConcept, wordTable } from "./method/personal-unet.ts";
import { latentWeights, type Photo, photoPlanes } from "./photo.ts";
import { type PersonalizePlan, planPersonalization } from "./plan.ts";
import { OBJECT_TEMPLATES, placeholderId, wordId } from "./prompts.ts";
import { type ConceptState, type TuningOptions, type TuningPicture, tune } from "./tuning.ts";

export interface PersonalizeOptions
  extends Pick<
    TuningOptions,
    "microBatchSize" | "train" | "weightDecay" | "embeddingAnchor" | "offsetAnchor" | "recompute"
  > {
  /** Without one, v starts at the class word and the offsets at zero. */
  readonly encoder?: TuningEncoder | undefined;
  readonly steps: number;
  /** AdamW's; by default 0.002 as in the paper or, with a mask, the steps that the encoder's config tells. */
  readonly learningRate?: number | undefined;
  readonly batchSize: number;
  readonly token: string;
  readonly classWord?: string | undefined;
  readonly alphaBlend?: number | undefined;
  readonly rank?: number | undefined;
  /** On how many plain backgrounds tuning also sees the subject of a photo with a mask; 8 by default, 0 for none. */
  readonly cutOuts?: number | undefined;
  /** Neutral prompts of the tuning; the encoder's, or Textual Inversion's, if not given. */
  readonly templates?: readonly string[] | undefined;
  readonly seed: number;
  /** Bytes that the job may take; all that the system has left if not given. */
  readonly availableMemory?: number | undefined;
  /** What the job will take, before anything is computed; not called for a small model if memory isn't limited. */
  onPlan?(plan: PersonalizePlan): void;
  onStage?(stage: "encode" | "tune"): void;
  readonly onStep?: NonNullable<TuningOptions["onStep"]>;
  readonly signal?: AbortSignal | undefined;
}

interface Start extends ConceptState {
  readonly hardTokenId: number;
  readonly rank: number;
  readonly loraAlpha: number;
}

/** A UNet file up to this size is tuned in seconds, in little memory: not worth the time that planning takes. */
const SMALL_BYTES = 100e6;
const bytesOf = ({ files }: FileWeights): number =>
  files.flatMap(({ tensors }) => [...tensors.values()]).reduce((n, { length }) => n + length, 0);

/**
 * Personalizes a model to the subject of one photo.
 * @throws LikenessError for a photo or an encoder that doesn't fit, TokenizerError for a token that is a word already
 */
export async function personalize(
  runtime: Runtime,
  model: StableDiffusionModel,
  photo: Photo,
  options: PersonalizeOptions,
): Promise<Concept> {
  const { encoder, signal } = options;
  const pixels = photoPlanes(photo, model);
  latentWeights(photo, model.scaleFactor); // a mask that isn't one is an error now
  placeholderId(model.tokenizer, options.token); // a token that can't be one is an error now, not after the tuning
  const pace = paceOf(photo, options);
  const alphaBlend = options.alphaBlend ?? encoder?.config.alpha_blend ?? 0.25;
  const large = bytesOf(model.unet.files) > SMALL_BYTES;
  const plan =
    large || options.availableMemory !== undefined
      ? await planOf(runtime, model, photo, { ...options, ...pace, alphaBlend })
      : undefined;
  if (plan) options.onPlan?.(plan);
  options.onStage?.("encode");
  const latents = await encodePhoto(runtime, model, pixels, signal);
  const start = encoder
    ? await predict(runtime, model, encoder, pixels, latents, options)
    : await fromWord(runtime, model, options);
  options.onStage?.("tune");
  const tuned =
    options.steps === 0
      ? start
      : await tune(runtime, model, await picturesOf(runtime, model, photo, latents, options), start, {
          ...options,
          ...pace,
          recompute: plan ? plan.recompute : options.recompute,
          rank: start.rank,
          loraAlpha: start.loraAlpha,
          alphaBlend,
          hardTokenId: start.hardTokenId,
        });
  return {
    ...tuned,
    token: options.token,
    rank: start.rank,
    loraAlpha: start.loraAlpha,
    hardTokenId: start.hardTokenId,
    hardToken: model.tokenizer.decode([start.hardTokenId]),
    alphaBlend,
    base: model.fingerprint,
    baseName: model.name,
    settings: {
      steps: options.steps,
      learning_rate: pace.learningRate,
      ...(pace.optimizer === "muon" && { optimizer: pace.optimizer }),
      batch_size: options.batchSize,
      seed: options.seed,
      class_word: options.classWord ?? null,
      encoder: encoder ? "tuning_encoder" : null,
      mask: photo.mask !== undefined,
      ...(photo.mask && { cut_outs: cutOutsOf(options) }),
      ...(model.int8 && { int8: true }),
    },
  };
}

/** The paper's (section 4.3). */
const LEARNING_RATE = 2e-3;

type Pace = Pick<TuningOptions, "learningRate" | "embeddingLearningRate" | "optimizer">;

function paceOf({ mask }: Photo, { learningRate, encoder }: PersonalizeOptions): Pace {
  const found = mask && learningRate === undefined ? encoder?.config.masked_tuning : undefined;
  if (!found) return { learningRate: learningRate ?? LEARNING_RATE };
  const { optimizer, learning_rate, embedding_learning_rate } = found;
  return { optimizer, learningRate: learning_rate, embeddingLearningRate: embedding_learning_rate };
}

const cutOutsOf = ({ cutOuts = MOST_CUT_OUTS }: PersonalizeOptions): number => Math.min(cutOuts, MOST_CUT_OUTS);

/** The photo; and, where a mask says what is subject, that on plain backgrounds, which prompts name: so it, not they, becomes the concept. */
async function picturesOf(
  runtime: Runtime,
  model: StableDiffusionModel,
  photo: Photo,
  latents: Float32Array,
  options: PersonalizeOptions,
): Promise<TuningPicture[]> {
  const templates = options.templates ?? options.encoder?.config.templates ?? OBJECT_TEMPLATES;
  const pictures = [{ latents, templates, weights: latentWeights(photo, model.scaleFactor) }];
  if (!photo.mask) return pictures;
  const program = await runtime.compile({ outputs: { z: photoLatents(model) } });
  try {
    for (const { planes, where } of cutOuts(photoPlanes(photo, model), photo.mask, cutOutsOf(options))) {
      const { z } = await program.run({ pixels: planes }, { signal: options.signal });
      pictures.push({
        latents: z as Float32Array,
        templates: templates.map((t) => `${t} ${where}`),
        weights: undefined,
      });
    }
  } finally {
    await program.release();
  }
  return pictures;
}

/** The costs of the passes over the photo and its cut-outs, and of tuning. */
function planOf(
  runtime: Runtime,
  model: StableDiffusionModel,
  { mask }: Photo,
  options: PersonalizeOptions & Pace & { readonly alphaBlend: number },
): Promise<PersonalizePlan> {
  const { encoder } = options;
  const latents = photoLatents(model);
  const views = 1 + (mask && options.steps > 0 ? cutOutsOf(options) : 0);
  const read = costOf([latents]);
  const before = [
    ...Array<typeof read>(views).fill(read),
    ...(encoder ? [costOf(Object.values(prediction(model, encoder).outputs))] : []),
  ];
  const rank = encoder?.config.rank ?? options.rank ?? 4;
  const available = options.availableMemory ?? process.availableMemory();
  return planPersonalization(
    runtime,
    model,
    before,
    { latents: size(latents.shape), weighted: mask !== undefined },
    { ...options, rank, loraAlpha: rank },
    available,
  );
}

/** Scaled latents of the photo: the mean, no draw. */
async function encodePhoto(
  runtime: Runtime,
  model: StableDiffusionModel,
  pixels: Float32Array,
  signal?: AbortSignal,
): Promise<Float32Array> {
  const { z } = await runtime.evaluate({ z: photoLatents(model) }, { pixels }, { signal });
  expectFinite(z!, "the photo's latents", model);
  return z as Float32Array;
}

function photoLatents(model: StableDiffusionModel): Tensor {
  const side = model.resolution;
  const { config, weights } = model.vae;
  return mul(encode(weights, config, input("pixels", [1, 3, side, side])).mean, config.scaling_factor);
}

/** The encoder's single pass: at a fixed timestep (method.md 3.2). */
function prediction(
  model: StableDiffusionModel,
  { config, files }: TuningEncoder,
): { outputs: Record<string, Tensor>; factors: number; words: Int32Array } {
  const { in_channels: c } = model.unet.config;
  const side = model.resolution;
  const h = side / model.scaleFactor;
  const alpha = model.scheduler("ddim").alphasCumprod[config.encoder_timestep]!;
  const level = (x: number): Tensor => constant([x]);
  const sample = noisy(
    input("z", [1, c, h, h]),
    input("noise", [1, c, h, h]),
    level(Math.sqrt(alpha)),
    level(Math.sqrt(1 - alpha)),
  );
  const { v, factors } = predictConcept(model, files.weights(), config, {
    pixels: input("pixels", [1, 3, side, side]),
    sample,
    timestep: level(config.encoder_timestep),
  });
  const words = wordTable(model);
  const flat = Object.fromEntries(
    factors.flatMap(({ a, b }, i) => [
      [`a${i}`, a],
      [`b${i}`, b],
    ]),
  );
  return {
    outputs: { v, word: nearestWord(v, words.table), ...flat },
    factors: factors.length,
    words: words.ids,
  };
}

/** What the encoder says of the photo, with the noise of the seed. */
async function predict(
  runtime: Runtime,
  model: StableDiffusionModel,
  encoder: TuningEncoder,
  pixels: Float32Array,
  latents: Float32Array,
  { seed, classWord, signal }: PersonalizeOptions,
): Promise<Start> {
  const { config, files } = encoder;
  const { outputs, factors, words } = prediction(model, encoder);
  const [left] = files.unread();
  if (left !== undefined)
    throw new LikenessError("E_WEIGHT_UNREAD", {
      what: `"${left}"`,
      where: files.files.map((f) => f.path).join(", "),
      needed: "only weights that the tuning-encoder has by its config.json",
      found: `${files.unread().length} more`,
      next: "Take config and weights from one run.",
    });
  const noise = counterRandom(seed, "encoder noise").normal(latents.length);
  const r = await runtime.evaluate(outputs, { z: latents, noise, pixels }, { signal });
  expectFinite(r.v!, "the encoder's embedding", model);
  return {
    embedding: r.v as Float32Array,
    factors: Array.from({ length: factors }, (_, i) => ({
      a: r[`a${i}`] as Float32Array,
      b: r[`b${i}`] as Float32Array,
    })),
    hardTokenId: classWord === undefined ? words[r.word![0]!]! : wordId(model, classWord),
    rank: config.rank,
    loraAlpha: config.lora_alpha,
  };
}

/** A start without an encoder: the class word's embedding, offsets of zero (A random, B zero, as in LoRA). */
async function fromWord(
  runtime: Runtime,
  model: StableDiffusionModel,
  { classWord = "object", rank = 4, seed }: PersonalizeOptions,
): Promise<Start> {
  const hardTokenId = wordId(model, classWord);
  const { weights, config } = model.textEncoder;
  const row = reshape(gather(tokenTable(weights, config), constant(Int32Array.of(hardTokenId))), [config.hidden_size]);
  const embedding = (await runtime.evaluate({ row })).row as Float32Array;
  const factors = attentionMatrices(model.unet.config).map(({ path, dIn, dOut }) => ({
    a: counterRandom(seed, `lora ${path}`)
      .normal(dIn * rank)
      .map((x) => x / Math.sqrt(dIn)),
    b: new Float32Array(rank * dOut),
  }));
  return { embedding, factors, hardTokenId, rank, loraAlpha: rank };
}

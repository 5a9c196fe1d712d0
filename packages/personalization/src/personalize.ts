/** One picture in, a concept out. */

import {
  attentionMatrices,
  encode,
  expectFinite,
  fanInOf,
  resnetConvolutions,
  type StableDiffusionModel,
  tokenTable,
} from "@likeness/diffusion";
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
import type { Concept, ConceptConvolutions, ConceptFactors } from "./concept.ts";
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
  /** By default AdamW at 0.002 as in the paper or, with a mask, the steps that the encoder's config tells; a rate alone is AdamW's. */
  readonly learningRate?: number | undefined;
  /** Of the steps with a rate of their own: of the offsets, and the embedding's rate if it isn't theirs. */
  readonly optimizer?: TuningOptions["optimizer"];
  readonly embeddingLearningRate?: number | undefined;
  readonly batchSize: number;
  readonly token: string;
  readonly classWord?: string | undefined;
  readonly alphaBlend?: number | undefined;
  /**
   * Of the offsets; if not given, for steps the `tuning_rank` of the encoder's config, else the encoder's rank, without one 4. What
   * is above the encoder's is room for the steps beside what it predicts.
   */
  readonly rank?: number | undefined;
  /**
   * Of offsets of the ResNets' convolutions beside those of attention; if not given, for steps on a photo with a mask what the
   * encoder's config tells, else 0, none.
   */
  readonly convRank?: number | undefined;
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

/** The paper's rate, for AdamW, and share of the personalised branch (section 4.3). It steps on the whole photo. */
export const PAPER = { learningRate: 2e-3, alphaBlend: 0.25 } as const;

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
 * @throws LikenessError for a photo, a rank or an encoder that doesn't fit, TokenizerError for a token that is a word already
 */
export async function personalize(
  runtime: Runtime,
  model: StableDiffusionModel,
  photo: Photo,
  options: PersonalizeOptions,
): Promise<Concept> {
  const { encoder, signal } = options;
  const pixels = photoPlanes(photo, model);
  const weights = latentWeights(photo, model.scaleFactor);
  placeholderId(model.tokenizer, options.token); // a token that can't be one is an error now, not after the tuning
  const { rank, convRank = 0, ...pace } = stepsOf(photo.mask !== undefined, options);
  const count = cutOutCount(photo, options);
  const alphaBlend = options.alphaBlend ?? encoder?.config.alpha_blend ?? PAPER.alphaBlend;
  const large = bytesOf(model.unet.files) > SMALL_BYTES;
  const plan =
    large || options.availableMemory !== undefined
      ? await planOf(
          runtime,
          model,
          { views: 1 + count, weighted: photo.mask !== undefined },
          { ...options, ...pace, rank, convRank, alphaBlend },
        )
      : undefined;
  if (plan) options.onPlan?.(plan);
  options.onStage?.("encode");
  // where a mask says what is subject, tuning sees that on plain backgrounds too, which prompts name: so it, not they, becomes the concept
  const views = count > 0 ? cutOuts(pixels, photo.mask!, count) : [];
  const all = await encodePictures(runtime, model, [pixels, ...views.map(({ planes }) => planes)], signal);
  const [latents, ...cut] = all as [Float32Array, ...Float32Array[]];
  const told = encoder
    ? widened(await predict(runtime, model, encoder, pixels, latents, options), rank, model, options.seed)
    : await fromWord(runtime, model, rank, options);
  const start = convRank > 0 ? { ...told, convolutions: zeroConvolutions(model, convRank, options.seed) } : told;
  options.onStage?.("tune");
  const templates = options.templates ?? encoder?.config.templates ?? OBJECT_TEMPLATES;
  const pictures: TuningPicture[] = [
    { latents, templates, weights },
    ...views.map(({ where }, i) => ({ latents: cut[i]!, templates: templates.map((t) => `${t} ${where}`) })),
  ];
  const tuned =
    options.steps === 0
      ? start
      : await tune(runtime, model, pictures, start, {
          ...options,
          ...pace,
          recompute: plan ? plan.recompute : options.recompute,
          rank: start.rank,
          loraAlpha: start.loraAlpha,
          convRank,
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
      ...(convRank > 0 && { conv_rank: convRank }),
      ...(count > 0 && { cut_outs: count }),
      ...(model.int8 && { int8: true }),
    },
  };
}

export type StepSettings = Pick<
  TuningOptions,
  "learningRate" | "embeddingLearningRate" | "optimizer" | "rank" | "convRank"
>;
type Asked = Pick<PersonalizeOptions, keyof StepSettings | "steps" | "encoder"> & {
  /** For errors: where it is asked. */
  readonly where?: string;
};

/**
 * The steps on a photo that has a mask or none: those of the options, else what the encoder's config tells for it, else the paper's.
 * @throws LikenessError for a rank below the encoder's
 */
export function stepsOf(masked: boolean, asked: Asked): StepSettings {
  const { convRank = 0, ...pace } = paceOf(masked, asked);
  return { ...pace, ...(asked.steps > 0 && convRank > 0 && { convRank }), rank: offsetRank(asked) };
}

function paceOf(masked: boolean, asked: Asked): Omit<StepSettings, "rank"> {
  const { learningRate, optimizer, embeddingLearningRate, convRank, encoder } = asked;
  if (learningRate !== undefined) return { learningRate, optimizer, embeddingLearningRate, convRank };
  const found = masked ? encoder?.config.masked_tuning : undefined;
  if (!found) return { learningRate: PAPER.learningRate, convRank };
  return {
    learningRate: found.learning_rate,
    optimizer: found.optimizer,
    embeddingLearningRate: found.embedding_learning_rate,
    convRank: convRank ?? found.conv_rank,
  };
}

/** An encoder's offsets can have more than its rank, not less: that would cut what it says of the subject. */
function offsetRank({ rank, steps, encoder, where }: Asked): number {
  const least = encoder?.config.rank ?? 1;
  if (rank !== undefined && rank < least)
    throw new LikenessError("E_RANK", {
      what: "rank",
      ...(where !== undefined && { where }),
      needed: `at least ${least}, the tuning-encoder's`,
      found: String(rank),
      next: "Leave it out, or take an encoder of a lower rank.",
    });
  return rank ?? (steps > 0 ? encoder?.config.tuning_rank : undefined) ?? encoder?.config.rank ?? 4;
}

/** Where the subject leaves less than this of the photo free, no background could be seen. */
const LEAST_FREE = 0.05;

function cutOutCount({ mask }: Photo, { steps, cutOuts = MOST_CUT_OUTS }: PersonalizeOptions): number {
  if (!mask || steps === 0) return 0;
  const free = mask.reduce((n, x) => n + (x > 127 ? 0 : 1), 0) / mask.length;
  return free < LEAST_FREE ? 0 : Math.min(cutOuts, MOST_CUT_OUTS);
}

/** The costs of the passes over the photo and its cut-outs, and of tuning. */
function planOf(
  runtime: Runtime,
  model: StableDiffusionModel,
  { views, weighted }: { readonly views: number; readonly weighted: boolean },
  options: PersonalizeOptions & StepSettings & { readonly alphaBlend: number },
): Promise<PersonalizePlan> {
  const { encoder } = options;
  const latents = photoLatents(model);
  const read = costOf([latents]);
  const before = [
    ...Array<typeof read>(views).fill(read),
    ...(encoder ? [costOf(Object.values(prediction(model, encoder).outputs))] : []),
  ];
  const available = options.availableMemory ?? process.availableMemory();
  return planPersonalization(
    runtime,
    model,
    before,
    { latents: size(latents.shape), weighted },
    { ...options, loraAlpha: options.rank },
    available,
  );
}

/** Scaled latents of pictures, (3, H, W) each: the mean, no draw. */
async function encodePictures(
  runtime: Runtime,
  model: StableDiffusionModel,
  pictures: readonly Float32Array[],
  signal?: AbortSignal,
): Promise<Float32Array[]> {
  const program = await runtime.compile({ outputs: { z: photoLatents(model) } });
  const latents: Float32Array[] = [];
  try {
    for (const pixels of pictures) {
      const { z } = await program.run({ pixels }, { signal });
      expectFinite(z!, "the photo's latents", model);
      latents.push(z as Float32Array);
    }
  } finally {
    await program.release();
  }
  return latents;
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

/** A start without an encoder: the class word's embedding, offsets of zero. */
async function fromWord(
  runtime: Runtime,
  model: StableDiffusionModel,
  rank: number,
  { classWord = "object", seed }: PersonalizeOptions,
): Promise<Start> {
  const hardTokenId = wordId(model, classWord);
  const { weights, config } = model.textEncoder;
  const row = reshape(gather(tokenTable(weights, config), constant(Int32Array.of(hardTokenId))), [config.hidden_size]);
  const embedding = (await runtime.evaluate({ row })).row as Float32Array;
  const factors = zeroOffsets(model, rank, seed);
  return { embedding, factors, hardTokenId, rank, loraAlpha: rank };
}

const zeroOffsets = (model: StableDiffusionModel, rank: number, seed: number): ConceptState["factors"] =>
  attentionMatrices(model.unet.config).map(({ path, dIn, dOut }) => zeroFactors(path, dIn, dOut, rank, seed));

/** Of the convolutions; their alpha is their rank. */
const zeroConvolutions = (model: StableDiffusionModel, rank: number, seed: number): ConceptConvolutions => ({
  ...{ rank, loraAlpha: rank },
  factors: resnetConvolutions(model).map((m) => zeroFactors(m.path, fanInOf(m), m.shape[0]!, rank, seed)),
});

/** A random, B zero, as in LoRA. */
const zeroFactors = (path: string, dIn: number, dOut: number, rank: number, seed: number): ConceptFactors => ({
  a: counterRandom(seed, `lora ${path}`)
    .normal(dIn * rank)
    .map((x) => x / Math.sqrt(dIn)),
  b: new Float32Array(rank * dOut),
});

/** The same offsets at a rank that may be higher, with their scale: what is new is zero. */
function widened(start: Start, rank: number, model: StableDiffusionModel, seed: number): Start {
  if (rank === start.rank) return start;
  const more = rank - start.rank;
  const fresh = zeroOffsets(model, more, seed);
  const factors = start.factors.map(({ a, b }, i) => {
    const rows = a.length / start.rank;
    const wide = new Float32Array(rows * rank);
    for (let row = 0; row < rows; row++) {
      wide.set(a.subarray(row * start.rank, (row + 1) * start.rank), row * rank);
      wide.set(fresh[i]!.a.subarray(row * more, (row + 1) * more), row * rank + start.rank);
    }
    const tall = new Float32Array((b.length / start.rank) * rank);
    tall.set(b);
    return { a: wide, b: tall };
  });
  return { ...start, factors, rank, loraAlpha: (start.loraAlpha * rank) / start.rank };
}

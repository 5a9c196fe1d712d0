/** A way to teach a model a subject from one photo: the paper's, its ablations, and what it is compared with. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { findSubjectMask, fingerprint, pathsOf, type StableDiffusionModel } from "@likeness/diffusion";
import { LikenessError, type Runtime } from "@likeness/engine";
import type { Concept } from "../concept.ts";
import { MOST_CUT_OUTS } from "../cut-outs.ts";
import { ENCODER_FILE, findEncoder, openEncoder, type TuningEncoder } from "../encoder-file.ts";
import { findSubject } from "../find-subject.ts";
import { type PersonalizeOptions, personalize, stepsOf } from "../personalize.ts";
import type { Photo } from "../photo.ts";
import { plainBackgroundMask } from "../plain-background.ts";
import { PLACEHOLDER } from "../prompts.ts";
import { RECIPES, type Recipe } from "./recipes.ts";
import type { MethodSpec } from "./spec.ts";

export interface TeachOptions {
  readonly seed: number;
  /** What the subject is, in one word; methods that start at the encoder's prediction don't read it. */
  readonly classWord: string;
  readonly onStep?: NonNullable<PersonalizeOptions["onStep"]>;
  readonly signal?: AbortSignal | undefined;
}

export interface Method {
  /** As tables call it. */
  readonly name: string;
  readonly kind: MethodSpec["method"];
  /** All that decides its result beside photo, class word and seed. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** Tried on so many subjects, if not on all. */
  readonly subjects?: number | undefined;
  /** How much of the concept the unconditional half of guidance has, if not what the sampling says. */
  readonly guidanceAlpha?: number | undefined;
  /** Why it can't be run with this model. */
  readonly skipped?: string;
  /** The subject of a photo as a concept under the token <S*>. @throws LikenessError if the method is skipped, or needs a mask that isn't there */
  teach(photo: Photo, options: TeachOptions): Promise<Concept>;
}

export interface MethodContext {
  readonly runtime: Runtime;
  readonly model: StableDiffusionModel;
  /** Noise draws per step, unless the spec says another number. */
  readonly batchSize: number;
  /** Neutral prompts of all methods; the encoder's, or Textual Inversion's, if not given. */
  readonly templates?: readonly string[] | undefined;
}

/**
 * The method that a spec names, with the spec's settings in place of the published ones.
 * @throws LikenessError, ConfigError or SafetensorsError for an encoder that is damaged or of another model, or a rank below its own
 */
export function createMethod(spec: MethodSpec, { runtime, model, batchSize, templates }: MethodContext): Method {
  const recipe = { ...RECIPES[spec.method], ...changesOf(spec) };
  const found = recipe.start === "encoder" ? encoderOf(spec, model) : undefined;
  const encoder = typeof found === "string" ? undefined : found;
  const neutral = templates ?? (encoder ?? findEncoder(model))?.config.templates;
  const size = spec.batch_size ?? batchSize;
  const { start, learningRate, optimizer, embeddingLearningRate, rank, convRank, ...rest } = recipe;
  // with a mask, the steps that the encoder's config tells, unless the spec names a rate
  const rate = spec.mask && start === "encoder" ? spec.learning_rate : learningRate;
  const asked = { ...rest, learningRate: rate, optimizer, embeddingLearningRate, rank, convRank, encoder };
  const { masked_tuning: _, tuning_rank: __, ...encoderConfig } = encoder?.config ?? {};
  const name = spec.name ?? `${nameOf(spec.method, recipe)}${spec.mask ? `, ${MASKS[String(spec.mask)]}` : ""}`;
  const maskOf = async (photo: Photo, signal?: AbortSignal): Promise<Uint8Array | undefined> => {
    if (spec.mask === "auto") return (await findSubject(runtime, model, photo, signal))?.mask;
    return spec.mask === "plain" ? plainBackgroundMask(photo) : spec.mask ? photo.mask : undefined;
  };
  const steps = (masked: boolean) => stepsOf(masked, { ...asked, where: `method ${JSON.stringify(name)}` });
  return {
    name,
    kind: spec.method,
    subjects: spec.subjects,
    guidanceAlpha: recipe.alphaBlend === 0 ? 1 : spec.guidance_alpha, // without a share there is nothing to lessen
    settings: {
      start,
      ...rest,
      ...(spec.mask !== true && steps(false)),
      ...(spec.mask && { masked: steps(true) }),
      batchSize: size,
      templates: neutral ?? null,
      classWord: spec.class_word ?? null,
      // it reads the photo through the model's picture encoder
      encoder: encoder ? fingerprint(pathsOf(encoder, model.imageEncoder)) : null,
      encoderConfig: encoder ? encoderConfig : null,
      ...(spec.mask && { mask: spec.mask, cutOuts: spec.cut_outs ?? MOST_CUT_OUTS }),
      ...(spec.mask === "auto" && { subjectMask: fingerprint(pathsOf(findSubjectMask(model), model.imageEncoder)) }),
    },
    ...(typeof found === "string" && { skipped: found }),
    teach: async (photo, { classWord, ...options }) => {
      if (typeof found === "string")
        throw new LikenessError("E_MODEL", {
          what: `method ${JSON.stringify(spec.method)}`,
          where: model.folder,
          needed: "a tuning-encoder",
          found,
        });
      if (spec.mask === true && !photo.mask)
        throw new LikenessError("E_EVALUATION_SET", {
          what: `method ${JSON.stringify(spec.method)} with a mask`,
          needed: "photos with masks",
          found: "none",
          next: "Write the set again.",
        });
      const mask = await maskOf(photo, options.signal);
      const told = start === "word" || spec.class_word === true;
      const all = { ...asked, ...options, batchSize: size, templates: neutral, token: PLACEHOLDER };
      return personalize(runtime, model, { ...photo, mask }, { ...all, classWord: told ? classWord : undefined });
    },
  };
}

const MASKS: Readonly<Record<string, string>> = {
  true: "with a mask",
  plain: "with a mask on plain backgrounds",
  auto: "with a mask that is found",
};

/** The encoder of a spec, or why there is none. */
function encoderOf(spec: MethodSpec, model: StableDiffusionModel): TuningEncoder | string {
  if (spec.encoder === undefined) return findEncoder(model) ?? `${model.name} has no tuning_encoder/ yet`;
  if (!existsSync(join(spec.encoder, ENCODER_FILE))) return `no tuning-encoder in ${spec.encoder} yet`;
  return openEncoder(spec.encoder, model);
}

const changesOf = (spec: MethodSpec): Partial<Recipe> => ({
  ...(spec.steps !== undefined && { steps: spec.steps }),
  ...(spec.learning_rate !== undefined && { learningRate: spec.learning_rate }),
  ...(spec.optimizer !== undefined && { optimizer: spec.optimizer }),
  ...(spec.embedding_learning_rate !== undefined && { embeddingLearningRate: spec.embedding_learning_rate }),
  ...(spec.alpha_blend !== undefined && { alphaBlend: spec.alpha_blend }),
  ...(spec.cut_outs !== undefined && { cutOuts: spec.cut_outs }),
  ...(spec.rank !== undefined && { rank: spec.rank }),
  ...(spec.conv_rank !== undefined && { convRank: spec.conv_rank }),
  ...(spec.train !== undefined && { train: spec.train }),
  ...(spec.embedding_anchor !== undefined && { embeddingAnchor: spec.embedding_anchor }),
  ...(spec.offset_anchor !== undefined && { offsetAnchor: spec.offset_anchor }),
});

function nameOf(kind: MethodSpec["method"], { steps, learningRate }: Recipe): string {
  const rate = learningRate === RECIPES[kind].learningRate ? "" : `, lr ${learningRate}`;
  const many = `${steps} steps${rate}`;
  const names: Record<MethodSpec["method"], string> = {
    "class-word": "class word only",
    encoder: "encoder only, 0 steps",
    date: many,
    "no-encoder": `${many} without encoder`,
    "no-dual-path": `${many} without dual path`,
    lora: `LoRA, ${many}`,
    "textual-inversion": `textual inversion, ${many}`,
  };
  return names[kind];
}

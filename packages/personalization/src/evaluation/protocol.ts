/** Which method is tried on which subject with which prompts and seeds: all that is to be measured, each with its key. */
import { fingerprint, type Judge, pathsOf, type StableDiffusionModel } from "@likeness/diffusion";
import { LikenessError } from "@likeness/engine";
import type { Method } from "../baselines/method.ts";
import { findEncoder } from "../encoder-file.ts";
import type { EvaluationConfig } from "./config.ts";
import { keyOf } from "./records.ts";
import type { EvaluationSet } from "./set.ts";

/** A method that teaches a subject. */
export interface Trial {
  /** Of all that decides the concept. */
  readonly key: string;
  readonly method: Method;
  readonly subject: number;
}

/** The pictures of a trial with one seed: one for each prompt. */
export interface Shot {
  readonly trial: Trial;
  readonly seed: number;
  /** With what the method has in place of the config's. */
  readonly sampling: EvaluationConfig["sampling"];
  /** Of all that decides the pictures, and of that with the judge. */
  readonly pictures: string;
  readonly judged: string;
}

export interface Plan {
  /** In the order in which they are measured: seed by seed, method by method. */
  readonly shots: readonly Shot[];
  readonly trials: readonly Trial[];
  /** Methods that can't be run with this model; their rows say why. */
  readonly skipped: readonly Method[];
  readonly subjects: number;
  readonly prompts: number;
  readonly seeds: readonly number[];
  /** Seed of the teaching. */
  readonly seed: number;
  readonly backbone: readonly { readonly key: string; readonly prompt: number }[];
  readonly timing: { readonly key: string; readonly times: number } | undefined;
}

/** Of all that is to be measured, in that order. */
export function keysOf({ trials, shots, backbone, timing }: Plan): string[] {
  return [
    ...backbone.map(({ key }) => key),
    ...trials.map(({ key }) => key),
    ...shots.map(({ judged }) => judged),
    ...(timing ? [timing.key] : []),
  ];
}

/** @throws LikenessError if the set has fewer subjects or prompts than the config asks for, or rows don't have the names that it needs */
export function planOf(
  config: EvaluationConfig,
  model: StableDiffusionModel,
  set: EvaluationSet,
  methods: readonly Method[],
  judge: Judge,
): Plan {
  const subjects = atMost("subjects", config.subjects, set.subjects.length, set);
  const prompts = atMost("prompts", config.prompts, set.prompts.length, set);
  const backbone = atMost("backbone", config.backbone, set.backbone.prompts.length, set);
  const names = methods.map((m) => m.name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined)
    throw new LikenessError("E_CONFIG", {
      what: "methods",
      needed: "a name of its own for each row",
      found: `"${twice}" twice`,
      next: 'Give one of them a "name".',
    });
  if (config.reference !== undefined && !names.includes(config.reference))
    throw new LikenessError("E_CONFIG", {
      what: "reference",
      needed: "the name of a row",
      found: JSON.stringify(config.reference),
      next: `Take one of ${names.map((name) => JSON.stringify(name)).join(", ")}.`,
    });
  const { seed, images } = config;
  const common = {
    version: 4,
    model: model.fingerprint,
    vae: fingerprint(pathsOf(model.vae)),
    set: fingerprint([set.path]),
    seed,
  };
  const judged = fingerprint(pathsOf(judge));
  const trials = methods
    .filter((m) => m.skipped === undefined)
    .flatMap((method) =>
      Array.from({ length: Math.min(subjects, method.subjects ?? subjects) }, (_, subject) => ({
        key: keyOf({ ...common, ...method.settings, method: method.kind, subject }),
        method,
        subject,
      })),
    );
  const seeds = Array.from({ length: images }, (_, i) => seed + i);
  const shot = (trial: Trial, seed: number): Shot => {
    const sampling = samplingOf(config, trial.method);
    const pictures = keyOf({ trial: trial.key, sampling, prompts, seed });
    return { trial, seed, sampling, pictures, judged: keyOf({ pictures, judged }) };
  };
  return {
    ...{ subjects, prompts, seed, seeds, trials },
    skipped: methods.filter((m) => m.skipped !== undefined),
    shots: seeds.flatMap((seed) => trials.map((trial) => shot(trial, seed))),
    backbone: Array.from({ length: backbone }, (_, prompt) => ({
      key: keyOf({ ...common, sampling: samplingOf(config, { guidanceAlpha: 1 }), judged, backbone: prompt }),
      prompt,
    })),
    timing:
      config.timings > 0
        ? {
            // the encoder's config says which steps are taken
            key: keyOf({
              ...common,
              sampling: config.sampling,
              timings: config.timings,
              batch: config.batch_size,
              encoder: findEncoder(model)?.config ?? null,
            }),
            times: config.timings,
          }
        : undefined,
  };
}

/** The config's sampling for a method; a guidance_alpha of 1 is none, so that it has the keys of one that isn't named. */
function samplingOf(
  { sampling }: EvaluationConfig,
  { guidanceAlpha }: Pick<Method, "guidanceAlpha">,
): Shot["sampling"] {
  const { guidance_alpha: ofAll, ...others } = sampling;
  const own = guidanceAlpha ?? ofAll ?? 1;
  return own === 1 ? others : { ...others, guidance_alpha: own };
}

function atMost(what: string, wanted: number | undefined, there: number, { path }: EvaluationSet): number {
  if (wanted === undefined || wanted <= there) return wanted ?? there;
  const needed = `at least ${wanted}, as the config says`;
  const next = "Ask for fewer, or write a larger set.";
  throw new LikenessError("E_EVALUATION_SET", { what, where: path, needed, found: String(there), next });
}

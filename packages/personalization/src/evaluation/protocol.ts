/** Which method is tried on which subject with which prompts and seeds: all that is to be measured, each with its key. */
import { fingerprint, type StableDiffusionModel } from "@likeness/diffusion";
import { LikenessError } from "@likeness/engine";
import type { Method } from "../baselines/method.ts";
import type { EvaluationConfig } from "./config.ts";
import { projectionFile } from "./metrics.ts";
import { keyOf } from "./records.ts";
import type { EvaluationSet } from "./set.ts";

export interface Trial {
  readonly key: string;
  readonly method: Method;
  readonly subject: number;
}

export interface Plan {
  /** In the order in which they are measured, method by method. */
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

/** @throws LikenessError if the set has fewer subjects or prompts than the config asks for */
export function planOf(
  config: EvaluationConfig,
  model: StableDiffusionModel,
  set: EvaluationSet,
  methods: readonly Method[],
  retrievalFiles: readonly string[],
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
  const { sampling, seed, images } = config;
  const files = [model.imageEncoder!, model.vae].flatMap((part) => part.files.files.map((f) => f.path));
  const judges = fingerprint([...files, projectionFile(model), ...retrievalFiles]);
  const common = { version: 3, model: model.fingerprint, judges, set: fingerprint([set.path]), sampling, seed };
  const runnable = methods.filter((m) => m.skipped === undefined);
  return {
    ...{ subjects, prompts, seed },
    seeds: Array.from({ length: images }, (_, i) => seed + i),
    skipped: methods.filter((m) => m.skipped !== undefined),
    trials: runnable.flatMap((method) =>
      Array.from({ length: subjects }, (_, subject) => ({
        key: keyOf({ ...common, ...method.settings, method: method.kind, subject, prompts, images }),
        method,
        subject,
      })),
    ),
    backbone: Array.from({ length: backbone }, (_, prompt) => ({
      key: keyOf({ ...common, backbone: prompt }),
      prompt,
    })),
    timing:
      config.timings > 0 ? { key: keyOf({ ...common, timings: config.timings }), times: config.timings } : undefined,
  };
}

function atMost(what: string, wanted: number | undefined, there: number, { path }: EvaluationSet): number {
  if (wanted === undefined || wanted <= there) return wanted ?? there;
  const needed = `at least ${wanted}, as the config says`;
  const next = "Ask for fewer, or write a larger set.";
  throw new LikenessError("E_EVALUATION_SET", { what, where: path, needed, found: String(there), next });
}

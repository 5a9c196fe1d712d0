/** `likeness evaluate`: teaches every subject by every method, draws the prompts, has the judges look, keeps the numbers. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import {
  attentionMatrices,
  type CLIPVisionConfig,
  type Component,
  loadCLIPVision,
  loadModel,
  type StableDiffusionModel,
} from "@likeness/diffusion";
import {
  LikenessError,
  type Runtime,
  readSafetensorsHeader,
  readTensorBytes,
  writeSafetensors,
} from "@likeness/engine";
import { createMethod, type Method } from "../baselines/method.ts";
import type { Concept } from "../concept.ts";
import { PLACEHOLDER } from "../prompts.ts";
import { readWords, shapeOf, type Words } from "./collapse.ts";
import type { EvaluationConfig } from "./config.ts";
import { instanceRanks, type Judges, judgeBackbone, judgeCell, openJudges } from "./judges.ts";
import { expectClipPair } from "./metrics.ts";
import { type Plan, planOf, type Trial } from "./protocol.ts";
import { type CellRecord, openRecords, type RecordFile } from "./records.ts";
import { openSampler, type Sampler } from "./sampler.ts";
import { type EvaluationSet, openEvaluationSet } from "./set.ts";

export interface Evaluation {
  readonly config: EvaluationConfig;
  readonly model: StableDiffusionModel;
  readonly set: EvaluationSet;
  readonly retrieval: Component<CLIPVisionConfig>;
  readonly methods: readonly Method[];
  readonly plan: Plan;
  readonly records: RecordFile;
}

export interface EvaluationHooks {
  readonly signal?: AbortSignal | undefined;
  /** Pictures made and judged, of all; `done` begins at what an earlier run has. */
  onPictures?(event: { readonly done: number; readonly total: number; readonly row: string }): void;
}

/**
 * Reads and checks all that a config names, before anything is computed.
 * @param stamp goes into the lines: the code that measures, and the day, as YYYY-MM-DD
 * @throws LikenessError, ConfigError or SafetensorsError, each naming the file
 */
export function openEvaluation(
  runtime: Runtime,
  config: EvaluationConfig,
  stamp: { readonly commit: string; readonly date: string },
): Evaluation {
  const model = loadModel(config.model);
  expectClipPair(model);
  const set = openEvaluationSet(config.set);
  const { width, height } = set.pictures;
  if (width !== model.resolution || height !== model.resolution)
    throw new LikenessError("E_EVALUATION_SET", {
      what: '"images"',
      where: config.set,
      needed: `${model.resolution} x ${model.resolution} pixels for ${model.name}`,
      found: `${width} x ${height}`,
    });
  const retrieval = loadCLIPVision(config.retrieval);
  const { batch_size: batchSize, templates } = config;
  const methods = config.methods.map((spec) => createMethod(spec, { runtime, model, batchSize, templates }));
  const files = retrieval.files.files.map((f) => f.path);
  const plan = planOf(config, model, set, methods, files);
  return { ...{ config, model, set, retrieval, methods, plan }, records: openRecords(config.run, stamp) };
}

/** Measures what isn't measured yet. @throws the signal's reason if aborted; what was measured is kept */
export async function runEvaluation(
  runtime: Runtime,
  evaluation: Evaluation,
  hooks: EvaluationHooks = {},
): Promise<void> {
  const { model, set, plan, config, records } = evaluation;
  const { signal } = hooks;
  const open = plan.trials.filter((t) => !isDone(evaluation, t));
  const backbone = plan.backbone.filter(({ key }) => !records.known.has(key));
  const each = plan.prompts * plan.seeds.length;
  const total = plan.trials.length * each + plan.backbone.length;
  let done = total - open.length * each - backbone.length;
  const tell = (row: string, more: number = 0): void => hooks.onPictures?.({ done: done + more, total, row });
  tell("");
  if (open.length + backbone.length === 0) return;
  const judges = await openJudges(runtime, model, set, evaluation.retrieval, { run: config.run, signal });
  const words = await readWords(runtime, model);
  const samplers = samplerCache(runtime, evaluation);
  if (backbone.length > 0) {
    const sampler = await samplers(plainConcept(model));
    for (let at = 0; at < backbone.length; at += config.sampling.batch_size) {
      const some = backbone.slice(at, at + config.sampling.batch_size);
      await measureBackbone(evaluation, judges, sampler, some, signal);
      done += some.length;
      tell("base model");
    }
  }
  for (const trial of open) {
    const context = { runtime, judges, samplers, words };
    await measureTrial(evaluation, context, trial, signal, (n) => tell(trial.method.name, n));
    done += each;
    tell(trial.method.name);
  }
  await (await samplers(undefined))?.release();
  await judges.release();
}

/** Pictures of a trial for the contact sheets: the first of each prompt, (side, side, 3) bytes. */
export function sheetPictures({ config }: Evaluation, { key }: Trial): Uint8Array[] | undefined {
  const file = picturesFile(config, key);
  if (!existsSync(file)) return undefined;
  const header = readSafetensorsHeader(file);
  const [n, h, w] = header.tensors.get("pictures")!.shape as [number, number, number];
  const bytes = readTensorBytes(header, "pictures");
  return Array.from({ length: n }, (_, i) => bytes.subarray(i * h * w * 3, (i + 1) * h * w * 3));
}

const picturesFile = ({ run }: EvaluationConfig, key: string): string => join(run, "pictures", `${key}.safetensors`);

/** Measured; and on a contact sheet, if it is to be. */
const isDone = ({ records, config }: Evaluation, { key, subject }: Trial): boolean =>
  records.known.has(key) && (subject >= config.sheet_subjects || existsSync(picturesFile(config, key)));

interface TrialContext {
  readonly runtime: Runtime;
  readonly judges: Judges;
  readonly samplers: SamplerCache;
  readonly words: Words;
}

async function measureTrial(
  { config, model, set, plan, records }: Evaluation,
  { judges, samplers, words }: TrialContext,
  { key, method, subject }: Trial,
  signal: AbortSignal | undefined,
  onPictures: (n: number) => void,
): Promise<void> {
  const about = set.subjects[subject]!;
  const photo = set.photo(subject);
  const since = performance.now();
  const concept = await method.teach(photo, { seed: plan.seed, classWord: about.class_word, signal });
  const seconds = (performance.now() - since) / 1000;
  const prompts = set.prompts.slice(0, plan.prompts);
  const jobs = prompts.flatMap(({ prompt }) => plan.seeds.map((seed) => ({ prompt, seed })));
  const sampler = await samplers(concept);
  const pictures = await sampler.draw(concept, jobs, { signal, onPictures });
  const [row] = await judges.picture.embed([photo.pixels], signal);
  const [photoRank] = await instanceRanks(judges, [photo.pixels], about.instance, signal);
  const n = plan.seeds.length;
  const cells: CellRecord[] = [];
  for (const [i, prompt] of prompts.entries()) {
    const asked = { prompt, subject: about, photo: row! };
    cells.push({ prompt: i, ...(await judgeCell(judges, pictures.slice(i * n, (i + 1) * n), asked, signal)) });
  }
  if (subject < config.sheet_subjects) {
    const side = model.resolution;
    const data = new Uint8Array(prompts.length * side * side * 3);
    for (const i of prompts.keys()) data.set(pictures[i * n]!, i * side * side * 3);
    const tensor = { dtype: "U8" as const, shape: [prompts.length, side, side, 3], data };
    writeSafetensors(picturesFile(config, key), { pictures: tensor }, { method: method.name, subject: about.name });
  }
  const taught = { seconds, photo_rank: photoRank!, ...shapeOf(concept, words, model) };
  records.add({ kind: "concept", key, method: method.name, subject, ...taught, cells });
}

async function measureBackbone(
  { set, plan, records, model }: Evaluation,
  judges: Judges,
  sampler: Sampler,
  some: Plan["backbone"],
  signal: AbortSignal | undefined,
): Promise<void> {
  const { names, prompts } = set.backbone;
  const jobs = some.map(({ prompt }) => ({ prompt: prompts[prompt]!.prompt, seed: plan.seed + prompt }));
  const pictures = await sampler.draw(plainConcept(model), jobs, { signal });
  for (const [i, { key, prompt }] of some.entries()) {
    const judge = (picture: Uint8Array) => judgeBackbone(judges, picture, prompts[prompt]!, names, signal);
    records.add({
      kind: "backbone",
      ...{ key, prompt, ...(await judge(pictures[i]!)) },
      truth: await judge(set.scene(prompt)),
    });
  }
}

type Like = Pick<Concept, "rank" | "loraAlpha" | "alphaBlend">;
interface SamplerCache {
  (like: Like): Promise<Sampler>;
  (like: undefined): Promise<Sampler | undefined>;
}

/** The sampler for concepts of one kind, kept until another kind is asked for; undefined asks for the one that is open. */
function samplerCache(runtime: Runtime, { model, config: { sampling } }: Evaluation): SamplerCache {
  const { steps, guidance_scale: guidanceScale, scheduler, batch_size: batch } = sampling;
  let open: { readonly name: string; readonly sampler: Sampler } | undefined;
  const get = async (like: Like | undefined): Promise<Sampler | undefined> => {
    const name = like && [like.rank, like.loraAlpha, like.alphaBlend].join();
    if (like === undefined || open?.name === name) return open?.sampler;
    await open?.sampler.release();
    open = undefined;
    const sampler = await openSampler(runtime, model, like, { steps, guidanceScale, scheduler, batch });
    open = { name: name!, sampler };
    return sampler;
  };
  return get as SamplerCache;
}

/** A concept that changes nothing: prompts without a token then draw what the base model draws. */
function plainConcept(model: StableDiffusionModel): Concept {
  return {
    token: PLACEHOLDER,
    embedding: new Float32Array(model.textEncoder.config.hidden_size),
    factors: attentionMatrices(model.unet.config).map(({ dIn, dOut }) => ({
      a: new Float32Array(dIn),
      b: new Float32Array(dOut),
    })),
    ...{ rank: 1, loraAlpha: 1, alphaBlend: 0, hardTokenId: model.tokenizer.eosId, hardToken: "" },
    ...{ base: model.fingerprint, baseName: model.name, settings: {} },
  };
}

/** `likeness evaluate`: teaches every subject by every method, draws the prompts, has the judge look, keeps the numbers. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { attentionMatrices, type Judge, loadJudge, loadModel, type StableDiffusionModel } from "@likeness/diffusion";
import {
  LikenessError,
  type Runtime,
  readSafetensorsHeader,
  readTensorBytes,
  writeSafetensors,
} from "@likeness/engine";
import { createMethod, type Method } from "../baselines/method.ts";
import { type Concept, readConcept, writeConcept } from "../concept.ts";
import { PLACEHOLDER } from "../prompts.ts";
import { readWords, shapeOf, type Words } from "./collapse.ts";
import { type EvaluationConfig, samplingOptions } from "./config.ts";
import { instanceRank, judgeBackbone, judgeCell, type OpenJudge, openJudge } from "./judges.ts";
import { keysOf, type Plan, planOf, type Shot, type Trial } from "./protocol.ts";
import { type CellRecord, keepRecords, openRecords, type RecordFile } from "./records.ts";
import { type ConceptKind, openSampler, type Sampler } from "./sampler.ts";
import { type EvaluationSet, openEvaluationSet } from "./set.ts";

export interface Evaluation {
  readonly config: EvaluationConfig;
  readonly model: StableDiffusionModel;
  readonly set: EvaluationSet;
  readonly judge: Judge;
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
  const judge = loadJudge(config.judge);
  const set = openEvaluationSet(config.set);
  const { width, height } = set.pictures;
  if (width !== model.resolution || height !== model.resolution)
    throw new LikenessError("E_EVALUATION_SET", {
      what: '"images"',
      where: config.set,
      needed: `${model.resolution} x ${model.resolution} pixels for ${model.name}`,
      found: `${width} x ${height}`,
    });
  const { batch_size: batchSize, templates } = config;
  const methods = config.methods.map((spec) => createMethod(spec, { runtime, model, batchSize, templates }));
  const plan = planOf(config, model, set, methods, judge);
  return {
    ...{ config, model, set, judge, methods, plan },
    records: openRecords({ run: config.run, kept: keptRecords(config) }, stamp),
  };
}

/** Measures what isn't measured yet. @throws the signal's reason if aborted; what was made and measured is kept */
export async function runEvaluation(
  runtime: Runtime,
  evaluation: Evaluation,
  hooks: EvaluationHooks = {},
): Promise<void> {
  const { model, set, plan, config, records } = evaluation;
  const { signal } = hooks;
  const open = plan.shots.filter((shot) => !isDone(evaluation, shot));
  const backbone = plan.backbone.filter(({ key }) => !records.known.has(key));
  const total = plan.shots.length * plan.prompts + plan.backbone.length;
  let done = total - open.length * plan.prompts - backbone.length;
  const tell = (row: string, more: number = 0): void => hooks.onPictures?.({ done: done + more, total, row });
  tell("");
  if (open.length + backbone.length === 0) return;
  const judge = await openJudge(runtime, evaluation.judge, set, { run: config.run, signal });
  const words = await readWords(runtime, model);
  const samplers = samplerCache(runtime, evaluation);
  if (backbone.length > 0) {
    const sampler = await samplers(plainConcept(model), config.sampling);
    for (let at = 0; at < backbone.length; at += config.sampling.batch_size) {
      const some = backbone.slice(at, at + config.sampling.batch_size);
      await measureBackbone(evaluation, judge, sampler, some, signal);
      done += some.length;
      tell("base model");
    }
  }
  for (const shot of open) {
    signal?.throwIfAborted();
    const { name } = shot.trial.method;
    const draw = async (): Promise<Uint8Array[]> => {
      const concept = await conceptOf(evaluation, words, shot.trial, signal);
      const jobs = set.prompts.slice(0, plan.prompts).map(({ prompt }) => ({ prompt, seed: shot.seed }));
      return (await samplers(concept, shot.sampling)).draw(concept, jobs, { signal, onPictures: (n) => tell(name, n) });
    };
    await judgeShot(evaluation, judge, shot, await picturesOf(evaluation, shot, draw), signal);
    done += plan.prompts;
    tell(name);
  }
  await (await samplers(undefined))?.release();
  await judge.release();
}

/** The file beside the report that has the numbers behind it. */
const keptRecords = ({ out }: EvaluationConfig): string => out.replace(/\.md$/, ".ndjson.gz");

/** Writes the numbers behind the report beside it: another machine's run of the same config then goes on from them. */
export const keepMeasurements = ({ config, records, plan }: Evaluation): void =>
  keepRecords(keptRecords(config), records, keysOf(plan));

const conceptFile = ({ run }: EvaluationConfig, { key }: Trial): string => join(run, "concepts", `${key}.safetensors`);
const picturesFile = ({ run }: EvaluationConfig, { pictures }: Shot): string =>
  join(run, "pictures", `${pictures}.safetensors`);

/** The pictures of a shot, (side, side, 3) bytes each, if they are made. */
export function keptPictures({ config }: Pick<Evaluation, "config">, shot: Shot): Uint8Array[] | undefined {
  const file = picturesFile(config, shot);
  if (!existsSync(file)) return undefined;
  const header = readSafetensorsHeader(file);
  const [n, h, w] = header.tensors.get("pictures")!.shape as [number, number, number];
  const bytes = readTensorBytes(header, "pictures");
  return Array.from({ length: n }, (_, i) => bytes.subarray(i * h * w * 3, (i + 1) * h * w * 3));
}

/** Judged; and with its pictures there, if they are to be on a contact sheet. */
const isDone = ({ records, config, plan }: Evaluation, shot: Shot): boolean => {
  const shown = shot.seed === plan.seeds[0] && shot.trial.subject < config.sheet_subjects;
  return records.known.has(shot.judged) && (!shown || existsSync(picturesFile(config, shot)));
};

/** The concept of a trial: the one that is kept, or it is taught now. */
async function conceptOf(
  { config, model, set, plan, records }: Evaluation,
  words: Words,
  trial: Trial,
  signal: AbortSignal | undefined,
): Promise<Concept> {
  const { key, method, subject } = trial;
  const file = conceptFile(config, trial);
  if (records.known.has(key) && existsSync(file)) return readConcept(file, model);
  const { class_word: classWord } = set.subjects[subject]!;
  const since = performance.now();
  const concept = await method.teach(set.photo(subject), { seed: plan.seed, classWord, signal });
  const seconds = (performance.now() - since) / 1000;
  writeConcept(file, concept, model);
  records.add({ kind: "concept", key, method: method.name, subject, seconds, ...shapeOf(concept, words, model) });
  return concept;
}

async function picturesOf(
  evaluation: Evaluation,
  shot: Shot,
  draw: () => Promise<Uint8Array[]>,
): Promise<Uint8Array[]> {
  const kept = keptPictures(evaluation, shot);
  if (kept) return kept;
  const pictures = await draw();
  const { config, model, set } = evaluation;
  const { method, subject } = shot.trial;
  const side = model.resolution;
  const data = new Uint8Array(pictures.length * side * side * 3);
  for (const [i, picture] of pictures.entries()) data.set(picture, i * side * side * 3);
  const tensor = { dtype: "U8" as const, shape: [pictures.length, side, side, 3], data };
  const metadata = { method: method.name, subject: set.subjects[subject]!.name, seed: String(shot.seed) };
  writeSafetensors(picturesFile(config, shot), { pictures: tensor }, metadata);
  return pictures;
}

async function judgeShot(
  { set, records }: Evaluation,
  judge: OpenJudge,
  { trial: { method, subject }, judged: key, seed }: Shot,
  pictures: readonly Uint8Array[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const about = set.subjects[subject]!;
  const [photo, ...seen] = await judge.picture.embed([set.photo(subject).pixels, ...pictures], signal);
  const cells: CellRecord[] = [];
  for (const [prompt, picture] of seen.entries()) {
    const asked = { prompt: set.prompts[prompt]!, subject: about, photo: photo! };
    cells.push({ prompt, ...(await judgeCell(judge, picture, asked, signal)) });
  }
  const photo_rank = instanceRank(judge, photo!, about.instance);
  records.add({ kind: "judged", key, method: method.name, subject, seed, photo_rank, cells });
}

async function measureBackbone(
  { set, plan, records, model }: Evaluation,
  judge: OpenJudge,
  sampler: Sampler,
  some: Plan["backbone"],
  signal: AbortSignal | undefined,
): Promise<void> {
  const { names, prompts } = set.backbone;
  const jobs = some.map(({ prompt }) => ({ prompt: prompts[prompt]!.prompt, seed: plan.seed + prompt }));
  const pictures = await sampler.draw(plainConcept(model), jobs, { signal });
  for (const [i, { key, prompt }] of some.entries()) {
    const named = (picture: Uint8Array) => judgeBackbone(judge, picture, prompts[prompt]!, names, signal);
    records.add({
      kind: "backbone",
      ...{ key, prompt, ...(await named(pictures[i]!)) },
      truth: await named(set.scene(prompt)),
    });
  }
}

interface SamplerCache {
  (like: ConceptKind, sampling: Shot["sampling"]): Promise<Sampler>;
  (like: undefined): Promise<Sampler | undefined>;
}

/** The sampler for concepts of one kind and one sampling, kept until another kind is asked for; undefined asks for the one that is open. */
function samplerCache(runtime: Runtime, { model }: Evaluation): SamplerCache {
  let open: { readonly name: string; readonly sampler: Sampler } | undefined;
  const get = async (like?: ConceptKind, sampling?: Shot["sampling"]): Promise<Sampler | undefined> => {
    const name = like && kindOf(like, sampling!.guidance_alpha);
    if (like === undefined || open?.name === name) return open?.sampler;
    await open?.sampler.release();
    open = undefined;
    const settings = { ...samplingOptions(sampling!), batch: sampling!.batch_size };
    const sampler = await openSampler(runtime, model, like, settings);
    open = { name: name!, sampler };
    return sampler;
  };
  return get as SamplerCache;
}

const kindOf = ({ rank, loraAlpha, alphaBlend, convolutions: c }: ConceptKind, guidanceAlpha?: number): string =>
  [rank, loraAlpha, alphaBlend, c?.rank, c?.loraAlpha, guidanceAlpha].join();

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

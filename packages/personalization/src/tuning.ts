/** Inference-time tuning: at most a dozen regularised steps from the encoder's prediction (paper, section 4.3). */

import {
  attentionMatrices,
  drawTimesteps,
  expectFinite,
  noised,
  noiseLevels,
  resnetConvolutions,
  type StableDiffusionModel,
  tokenTable,
} from "@likeness/diffusion";
import {
  accumulate,
  add,
  type Cost,
  constant,
  costOf,
  counterRandom,
  type Feeds,
  gather,
  grad,
  input,
  leafName,
  mul,
  muon,
  type Optimizer,
  type Runtime,
  resetState,
  reshape,
  square,
  stopGradient,
  sub,
  sum,
  type Tensor,
  variable,
} from "@likeness/engine";
import type { Concept } from "./concept.ts";
import { anchorL2, diffusionLoss, type Factors } from "./method/losses.ts";
import { personalText } from "./method/personal-text.ts";
import { personalUNet } from "./method/personal-unet.ts";
import { PLACEHOLDER, placeholderFeeds } from "./prompts.ts";

export type ConceptState = Pick<Concept, "embedding" | "factors" | "convolutions">;

/** What tuning looks at: a picture of the subject, and prompts that say what is in it. */
export interface TuningPicture {
  /** (C, h, w), scaled. */
  readonly latents: Float32Array;
  /** With <S*> for the subject; one is drawn for each noise. */
  readonly templates: readonly string[];
  /** How much the error at each latent pixel counts, (h, w) of mean 1; the same everywhere by default. */
  readonly weights?: Float32Array | undefined;
}

export interface TuningOptions {
  readonly steps: number;
  readonly learningRate: number;
  /** Of v; learningRate if not given. */
  readonly embeddingLearningRate?: number | undefined;
  /** Of the offsets; v always has AdamW. AdamW by default. */
  readonly optimizer?: "adamw" | "muon" | undefined;
  /** Noise and timestep draws per step, the pictures taking turns. */
  readonly batchSize: number;
  /**
   * Draws at once: memory grows with it, results don't depend on it but for rounding. By default as many as have the
   * pixels of one picture of 512x512; where it doesn't divide the batch, the next smaller number that does.
   */
  readonly microBatchSize?: number | undefined;
  readonly alphaBlend: number;
  readonly rank: number;
  readonly loraAlpha: number;
  /** Of the convolutions' offsets, 0 by default: none. Their alpha is it too. */
  readonly convRank?: number | undefined;
  readonly hardTokenId: number;
  readonly seed: number;
  /** Weights of the anchors that keep v and the offsets near their start. */
  readonly embeddingAnchor?: number;
  readonly offsetAnchor?: number;
  /** What learns; the rest stays at its start. */
  readonly train?: "both" | "embedding" | "offsets";
  /** AdamW's, 0 by default. */
  readonly weightDecay?: number;
  /** What the backward pass computes again instead of keeping, in FLOPs per byte: UNetOptions. All is kept by default. */
  readonly recompute?: number | undefined;
  onStep?(event: {
    readonly step: number;
    readonly steps: number;
    readonly loss: number;
    readonly diffusion: number;
  }): void;
  readonly signal?: AbortSignal | undefined;
}

export interface ConceptVariables {
  readonly v: Tensor;
  readonly factors: readonly Factors[];
  readonly convolutions: readonly Factors[];
  /** All of them, in the order of loadConcept's values. */
  readonly all: readonly Tensor[];
}

/** Tensors of the parameters v and (A, B) under their names in the runtime. */
export function conceptVariables(model: StableDiffusionModel, rank: number, convRank: number = 0): ConceptVariables {
  const v = variable("concept.v", [model.textEncoder.config.hidden_size]);
  const factors = attentionMatrices(model.unet.config).map(({ path, dIn, dOut }) => ({
    a: variable(`concept.a.${path}`, [dIn, rank]),
    b: variable(`concept.b.${path}`, [rank, dOut]),
  }));
  const convolutions = (convRank > 0 ? resnetConvolutions(model) : []).map(({ path, shape: [out, ...inputs] }) => ({
    a: variable(`concept.a.${path}`, [convRank, ...inputs]),
    b: variable(`concept.b.${path}`, [out!, convRank, 1, 1]),
  }));
  return { v, factors, convolutions, all: [v, ...[...factors, ...convolutions].flatMap(({ a, b }) => [a, b])] };
}

/** Puts a concept into the runtime's variables; programs that use it need no recompiling. */
export async function loadConcept(
  runtime: Runtime,
  all: readonly Tensor[],
  { embedding, factors, convolutions }: ConceptState,
): Promise<void> {
  const values = [embedding, ...[...factors, ...(convolutions?.factors ?? [])].flatMap(({ a, b }) => [a, b])];
  await runtime.write(
    Object.fromEntries(all.map((t, i) => [leafName(t), values[i]!])),
    Object.fromEntries(all.map((t) => [leafName(t), t.shape])),
  );
}

export interface TuningGraph {
  readonly v: Tensor;
  readonly factors: readonly Factors[];
  /** Of convolutions, which nothing anchors. */
  readonly convolutions?: readonly Factors[];
  readonly v0: Tensor;
  readonly factors0: readonly Factors[];
}

export interface TuningLossInputs {
  readonly ids: Tensor;
  readonly mask: Tensor;
  readonly sample: Tensor;
  readonly target: Tensor;
  readonly timestep: Tensor;
  /** How much the errors count, (B, 1, h, w); the same everywhere by default. */
  readonly weights?: Tensor | undefined;
}

export interface TuningLossOptions
  extends Pick<TuningOptions, "alphaBlend" | "rank" | "loraAlpha" | "embeddingAnchor" | "offsetAnchor" | "recompute"> {
  readonly hardTokenId: number | Tensor;
}

/** Loss of one step: Eq. 1 through the dual path, and the two anchors (method.md 1.10). */
export function tuningLoss(
  model: StableDiffusionModel,
  { v, factors, convolutions = [], v0, factors0 }: TuningGraph,
  { ids, mask, sample, target, timestep, weights: counts }: TuningLossInputs,
  {
    alphaBlend,
    rank,
    loraAlpha,
    hardTokenId,
    embeddingAnchor = 0.1,
    offsetAnchor = 1e-3,
    recompute,
  }: TuningLossOptions,
): { loss: Tensor; diffusion: Tensor } {
  const { weights, config } = model.textEncoder;
  const prompt = { ids, mask };
  const hard = hardEmbedding(model, hardTokenId);
  const y = personalUNet(model, {
    sample,
    timestep,
    softContext: personalText(weights, config, prompt, v),
    hardContext: stopGradient(personalText(weights, config, prompt, hard)),
    factors,
    scale: loraAlpha / rank,
    ...(convolutions.length > 0 && { convolutions: { factors: convolutions, scale: 1 } }),
    alpha: alphaBlend,
    recompute,
  });
  const diffusion = diffusionLoss(target, y, (errors) => (counts ? mul(errors, counts) : errors));
  const anchors = [
    ...(embeddingAnchor > 0 ? [mul(sum(square(sub(v, v0))), embeddingAnchor)] : []),
    ...(offsetAnchor > 0 ? [mul(anchorL2(factors, factors0), offsetAnchor)] : []),
  ];
  return { loss: anchors.reduce(add, diffusion), diffusion };
}

/** The row of the hard word, (D). @param id also as a tensor: (1), int32 */
export function hardEmbedding(model: StableDiffusionModel, id: number | Tensor): Tensor {
  const { weights, config } = model.textEncoder;
  const row = typeof id === "number" ? constant(Int32Array.of(id)) : id;
  return reshape(gather(tokenTable(weights, config), row), [config.hidden_size]);
}

/** Tunes a concept on pictures of it: the one photo, and what is made of it. */
export async function tune(
  runtime: Runtime,
  model: StableDiffusionModel,
  pictures: readonly TuningPicture[],
  start: ConceptState,
  options: TuningOptions,
): Promise<ConceptState> {
  const { steps, seed, signal } = options;
  const variables = conceptVariables(model, options.rank, options.convRank);
  const { v, factors, convolutions, all } = variables;
  await loadConcept(runtime, all, start);
  const programs = await compileTuning(runtime, model, variables, start, pictures, options);
  try {
    for (let step = 1; step <= steps; step++) {
      signal?.throwIfAborted();
      const { loss, diffusion } = await programs.step(step, counterRandom(seed, `tuning step ${step}`));
      expectFinite(Float32Array.of(loss), "the tuning loss", model);
      options.onStep?.({ step, steps, loss, diffusion });
    }
    const values = await runtime.read(all.map(leafName));
    const at = (t: Tensor): Float32Array => values[leafName(t)]!;
    const tuned = (some: readonly Factors[]) => some.map(({ a, b }) => ({ a: at(a), b: at(b) }));
    return {
      ...{ embedding: at(v), factors: tuned(factors) },
      ...(start.convolutions && { convolutions: { ...start.convolutions, factors: tuned(convolutions) } }),
    };
  } finally {
    await programs.release();
  }
}

/** Muon's usual 0.95 looks back on more steps than there are. */
const FEW_STEPS_MOMENTUM = 0.8;

/** Latent pixels of 512x512. */
const LATENTS_AT_ONCE = 64 * 64;

/** The largest divisor of the batch that is no more than asked for, or than what one large picture takes. */
export function microBatchSize(
  { batchSize, microBatchSize: asked }: Pick<TuningOptions, "batchSize" | "microBatchSize">,
  latentPixels: number,
): number {
  let size = Math.min(batchSize, asked ?? Math.max(1, Math.floor(LATENTS_AT_ONCE / latentPixels)));
  while (batchSize % size !== 0) size--;
  return size;
}

interface TuningPrograms {
  /** One step of the optimizer; losses are means over the batch. */
  step(step: number, random: ReturnType<typeof counterRandom>): Promise<{ loss: number; diffusion: number }>;
  release(): Promise<void>;
}

/** What is compiled for tuning: a batch that fits is one program; else one per part, and one that applies their sum. */
interface TuningSpecs {
  readonly part: { readonly outputs: { readonly loss: Tensor; readonly diffusion: Tensor }; readonly updates: Updates };
  readonly apply: { readonly outputs: Record<string, never>; readonly updates: Updates } | undefined;
  readonly optimizer: Optimizer;
  /** Zero at the start. */
  readonly states: readonly Pick<Optimizer, "state">[];
  readonly parts: number;
  /** The start, which anchors need: variables, so that one program serves all subjects. */
  readonly anchors: readonly Tensor[];
  /** Of one part's noise. */
  readonly shape: readonly number[];
}
type Updates = Optimizer["updates"];

/** What the graph depends on of the pictures. */
export interface PictureKind {
  /** Numbers of one picture's latents. */
  readonly latents: number;
  /** Whether there are weights. */
  readonly weighted: boolean;
}

const predictionOf = (scheduler: ReturnType<StableDiffusionModel["scheduler"]>): "epsilon" | "v_prediction" =>
  scheduler.config.prediction_type === "epsilon" ? "epsilon" : "v_prediction";

function tuningSpecs(
  model: StableDiffusionModel,
  { all, v, factors, convolutions }: ConceptVariables,
  { latents, weighted }: PictureKind,
  options: TuningOptions,
): TuningSpecs {
  const config = model.unet.config;
  const side = Math.sqrt(latents / config.in_channels);
  const b = microBatchSize(options, side * side);
  const parts = options.batchSize / b;
  const shape = [b, config.in_channels, side, side];
  const length = model.tokenizer.modelMaxLength;
  const prediction = predictionOf(model.scheduler("ddim"));
  const [timestep, signal, sigma] = ["t", "signal", "sigma"].map((n) => input(n, [b])) as [Tensor, Tensor, Tensor];
  const { sample, target } = noised(input("z", shape), input("noise", shape), signal, sigma, prediction);
  const prompt = { ids: input("ids", [b, length], "int32"), mask: input("mask", [b, length]) };
  const startOf = (t: Tensor): Tensor => variable(`start.${leafName(t)}`, t.shape);
  const [v0, factors0] = [startOf(v), factors.map(({ a, b: up }) => ({ a: startOf(a), b: startOf(up) }))];
  const weights = weighted ? input("weights", [b, 1, side, side]) : undefined;
  const graph: TuningGraph = { v, factors, convolutions, v0, factors0 };
  const hardTokenId = input("hard_id", [1], "int32");
  const { loss, diffusion } = tuningLoss(
    model,
    graph,
    { ...prompt, sample, target, timestep, weights },
    { ...options, hardTokenId },
  );
  const learning = { both: all, embedding: [v], offsets: all.slice(1) }[options.train ?? "both"];
  const grads = grad(loss, learning);
  const sum = parts > 1 ? accumulate(learning, grads, 1 / parts) : undefined;
  const { learningRate, embeddingLearningRate = learningRate } = options;
  const optimizer = muon(learning, sum?.sums ?? grads, {
    weightDecay: options.weightDecay ?? 0,
    lrScale: (name) => (name === leafName(v) ? embeddingLearningRate / learningRate : 1),
    matrices: (name) => options.optimizer === "muon" && name !== leafName(v),
    momentum: FEW_STEPS_MOMENTUM,
  });
  return {
    part: { outputs: { loss, diffusion }, updates: (sum ?? optimizer).updates },
    apply: sum && { outputs: {}, updates: [...optimizer.updates, ...sum.clear] },
    optimizer,
    states: sum ? [optimizer, sum] : [optimizer],
    parts,
    anchors: [v, ...factors.flatMap(({ a, b: up }) => [a, up])].map(startOf),
    shape,
  };
}

/** Cost of one part of a step, and how many parts a step has. */
export function tuningCost(
  model: StableDiffusionModel,
  kind: PictureKind,
  options: Omit<TuningOptions, "hardTokenId" | "seed">,
): { readonly part: Cost; readonly parts: number } {
  const variables = conceptVariables(model, options.rank, options.convRank);
  const { part, parts } = tuningSpecs(model, variables, kind, { ...options, hardTokenId: 0, seed: 0 });
  return { part: costOf([...Object.values(part.outputs), ...part.updates.map(([, value]) => value)]), parts };
}

async function compileTuning(
  runtime: Runtime,
  model: StableDiffusionModel,
  variables: ConceptVariables,
  start: ConceptState,
  pictures: readonly TuningPicture[],
  options: TuningOptions,
): Promise<TuningPrograms> {
  const size = pictures[0]!.latents.length;
  const weighted = pictures.some(({ weights }) => weights);
  const specs = tuningSpecs(model, variables, { latents: size, weighted }, options);
  const { optimizer, parts, shape, anchors } = specs;
  for (const each of specs.states) await resetState(runtime, each);
  await loadConcept(runtime, anchors, { embedding: start.embedding, factors: start.factors });
  const part = await runtime.compile(specs.part);
  const apply = specs.apply && (await runtime.compile(specs.apply));
  const scheduler = model.scheduler("ddim");
  const prediction = predictionOf(scheduler);
  const total = scheduler.alphasCumprod.length;
  const hard = options.alphaBlend < 1 && { hard_id: Int32Array.of(options.hardTokenId) };
  const evenly = new Float32Array(shape[2]! * shape[3]!).fill(1);
  const draws = (random: ReturnType<typeof counterRandom>) => {
    const times = drawTimesteps(random, options.batchSize, total);
    const { t, signal: s, sigma: g } = noiseLevels(times, scheduler.alphasCumprod, null, prediction);
    const turns = inTurn(pictures, options.batchSize, random);
    const prompts = turns.map(({ templates }) => templates[random.int(templates.length)]!);
    const { ids, mask } = placeholderFeeds(model.tokenizer, prompts, PLACEHOLDER, options.hardTokenId);
    const z = joined(turns.map(({ latents }) => latents));
    const counts = weighted && { weights: joined(turns.map(({ weights }) => weights ?? evenly)) };
    return { t, signal: s, sigma: g, ids, mask, noise: random.normal(z.length), z, ...counts };
  };
  return {
    step: async (step, random) => {
      const feeds = draws(random);
      const pace = optimizer.feeds(step, options.learningRate);
      const losses = { loss: 0, diffusion: 0 };
      for (let i = 0; i < parts; i++) {
        options.signal?.throwIfAborted();
        const given = { ...nth(feeds, i, parts), ...hard, ...(!apply && pace) };
        const r = await part.run(given, { signal: options.signal });
        losses.loss += r.loss![0]! / parts;
        losses.diffusion += r.diffusion![0]! / parts;
      }
      await apply?.run(pace, { signal: options.signal });
      return losses;
    },
    release: async () => {
      await part.release();
      await apply?.release();
    },
  };
}

/** Each picture as often as the others, or once less; where there are more of them than draws, some. */
function inTurn<T>(pictures: readonly T[], draws: number, random: ReturnType<typeof counterRandom>): T[] {
  if (pictures.length === 1) return Array<T>(draws).fill(pictures[0]!);
  const order = random.permutation(Math.max(draws, pictures.length)).slice(0, draws);
  return Array.from(order, (i) => pictures[i % pictures.length]!);
}

function joined(rows: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(rows.length * rows[0]!.length);
  for (const [i, row] of rows.entries()) all.set(row, i * row.length);
  return all;
}

/** The i-th of n equal parts of each feed. */
const nth = (feeds: Readonly<Record<string, Float32Array | Int32Array>>, i: number, n: number): Feeds =>
  Object.fromEntries(
    Object.entries(feeds).map(([key, all]) => {
      const each = all.length / n;
      return [key, all.subarray(i * each, (i + 1) * each)];
    }),
  );

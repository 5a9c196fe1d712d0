/** Contrastive training of a CLIP pair: Stable Diffusion's text encoder and the picture encoder beside it. */
import {
  add,
  concat,
  constant,
  counterRandom,
  type Feeds,
  input,
  logSumExp,
  max,
  mean,
  mul,
  sub,
  sum,
  type Tensor,
  Variables,
  type Weights,
} from "@likeness/engine";
import type { CLIPTextConfig, CLIPVisionConfig } from "../config/clip.ts";
import { ConfigError } from "../config/parse.ts";
import { contrastiveLoss, logitScale, logitsPerText, textEmbeds } from "../models/clip.ts";
import { clipTextModel, embedTokens, pooledText } from "../models/clip-text.ts";
import { clipVisionModel, imageEmbeds } from "../models/clip-vision.ts";
import { linearLayer } from "../models/layers.ts";
import type { CLIPTokenizer } from "../tokenizers/index.ts";
import { groupBy, type PictureFile } from "./data.ts";
import { type TrainingTask, weighted } from "./loop.ts";

export interface ClipTrainingOptions {
  readonly batchSize: number;
  readonly seed: number;
  readonly groups: ClipGroups | null;
  readonly labels: ClipLabels | null;
  readonly instances: ClipInstances | null;
  /** The text encoder's weights if it isn't to learn. */
  readonly frozenText?: Weights | undefined;
}

/** Pictures that are hard to tell apart come in one batch: `size` of them alike in the fields `by` of their specs. */
export interface ClipGroups {
  readonly by: readonly string[];
  readonly size: number;
}

/** Beside the contrast of a batch, both towers also classify their side by each of the fields `by` of its spec. */
export interface ClipLabels {
  readonly by: readonly string[];
  readonly weight: number;
}

/**
 * The picture tower's patches also tell which instance a picture shows: each finds its reference among the batch's and itself
 * among all, so that what reads the patches, the tuning-encoder, finds there what makes a subject this one.
 */
export interface ClipInstances {
  readonly weight: number;
  /** Share of a batch that are siblings: the same subject by another hand, which is another instance. */
  readonly siblings: number;
}

/** Pixel statistics of OpenAI's CLIP, red, green, blue, for pictures in [0, 1]. */
const MEAN = [0.48145466, 0.4578275, 0.40821073];
const STD = [0.26862954, 0.26130258, 0.27577711];

/** Pictures (B, 3, H, W) in [−1, 1] → CLIP's pixel values. */
export const clipPixels = (x: Tensor): Tensor =>
  add(
    mul(
      x,
      constant(
        STD.map((s) => 0.5 / s),
        [3, 1, 1],
      ),
    ),
    constant(
      MEAN.map((m, i) => (0.5 - m) / STD[i]!),
      [3, 1, 1],
    ),
  );

/**
 * Variables are named text_encoder/…, image_encoder/… and clip/…, after the folders that they are saved to; others aren't kept.
 * @param data with metadata `captions`; for groups and labels `specs`; for instances `references`, and `subjects`: "SUBJECT/HAND"
 */
export function clipTask(
  text: CLIPTextConfig,
  vision: CLIPVisionConfig,
  tokenizer: CLIPTokenizer,
  data: PictureFile,
  { batchSize: b, seed, groups, labels, instances, frozenText }: ClipTrainingOptions,
  start: (key: string) => Float32Array | undefined,
): TrainingTask {
  const captions = data.list("captions");
  const variables = new Variables({ seed, start });
  const t = frozenText ?? variables.weights("text_encoder/");
  const [v, c] = [variables.weights("image_encoder/"), variables.weights("clip/")];
  const likeness = groups || labels ? likenesses(data) : () => [];
  const draw = instances
    ? instanceBatches(data.list("subjects"), b, instances.siblings)
    : groups
      ? alikeBatches(likeness(groups.by), b, groups.size)
      : anyBatches(data.count, b);
  const length = tokenizer.modelMaxLength;
  const ids = input("input_ids", [b, length], "int32");
  const states = clipTextModel(t, text, { inputsEmbeds: embedTokens(t, text, ids) });
  const pooled = pooledText(states.lastHiddenState, input("eos", [b], "int32"));
  const see = (name: string) => clipVisionModel(v, vision, clipPixels(input(name, [b, 3, data.height, data.width])));
  const picture = see("pixels");
  const texts = textEmbeds(c, text, vision.projection_dim, pooled);
  const images = imageEmbeds(v, vision, picture.pooled);
  const contrast = contrastiveLoss(logitsPerText(texts, images, logitScale(c, LOGIT_SCALE)));
  const table = (field: string): Weights => variables.weights(`labels/${field}/`);
  const classes = (labels?.by ?? []).map((field) =>
    classification(field, table(field), likeness([field]), { text: texts, image: images }),
  );
  const terms = classes.flatMap(({ losses }) => weighing(losses, labels!.weight));
  if (instances) {
    const w = variables.weights("instances/");
    const sides = {
      image: instanceEmbeds(w, picture.patches),
      reference: instanceEmbeds(w, see("references").patches),
    };
    const instance = contrastiveLoss(logitsPerText(sides.reference, sides.image, logitScale(w, LOGIT_SCALE)));
    const all = classification("instance", table("instance"), data.list("subjects"), sides);
    terms.push(...weighing({ instance, ...all.losses }, instances.weight));
    classes.push(all);
  }
  return {
    variables,
    batchSize: b,
    scalars: {
      loss: weighted([[1, contrast], ...terms.map(({ loss, weight }) => [weight, loss] as const)]),
      ...(terms.length > 0 && { contrast, ...Object.fromEntries(terms.map(({ name, loss }) => [name, loss])) }),
    },
    feeds: (step): Feeds => {
      const indices = draw(counterRandom(seed, `clip step ${step}`));
      const texts = Array.from(indices, (i) => captions[i]!);
      return {
        pixels: data.batch(indices),
        ...(instances && { references: data.batch(indices, { tensor: "references" }) }),
        ...(Object.assign({}, ...classes.map(({ feeds }) => feeds(indices))) as Feeds),
        ...tokenFeeds(tokenizer, texts),
      };
    },
  };
}

const weighing = (losses: Readonly<Record<string, Tensor>>, weight: number) =>
  Object.entries(losses).map(([name, loss]) => ({ name, loss, weight }));

/** Patch tokens (B, N, D) → (B, D), their mean and their largest, to compare pictures of instances by. */
function instanceEmbeds(w: Weights, patches: Tensor): Tensor {
  const d = patches.shape[2]!;
  const pooled = concat([mean(patches, [1]), max(patches, [1])], 1);
  return linearLayer(w.at("projection"), pooled, d, { bias: false, init: { kind: "normal", std: (2 * d) ** -0.5 } });
}

/** CLIP's own start value: a temperature of 0.07. */
export const LOGIT_SCALE = { logit_scale_init_value: 2.6592 };

/**
 * Cross-entropy of embeddings (B, D), those of each side, against one learned table of label embeddings. A batch alone shows
 * a tower few wrong answers, and while the other tower knows nothing, it learns nothing; the table gives both all labels at
 * every step. It belongs to no tower and is not saved.
 * @param likeness the label of each picture of the data
 */
export function classification(
  field: string,
  w: Weights,
  likeness: readonly string[],
  sides: Readonly<Record<string, Tensor>>,
) {
  const names = [...new Set(likeness)];
  const index = new Map(names.map((name, i) => [name, i]));
  const [b, d] = Object.values(sides)[0]!.shape as [number, number];
  const table = w.get("table", [names.length, d], { kind: "normal", std: d ** -0.5 });
  const right = input(`label ${field}`, [b, names.length]);
  const loss = (embeds: Tensor, side: string): Tensor => {
    const logits = logitsPerText(embeds, table, logitScale(w.at(side), LOGIT_SCALE));
    return mean(sub(logSumExp(logits, [1]), sum(mul(logits, right), [1])));
  };
  return {
    losses: Object.fromEntries(
      Object.entries(sides).map(([side, embeds]) => [`${side}_${field}`, loss(embeds, side)] as const),
    ),
    feeds: (indices: Int32Array): Feeds => {
      const labels = new Float32Array(b * names.length);
      for (const [row, i] of indices.entries()) labels[row * names.length + index.get(likeness[i]!)!] = 1;
      return { [`label ${field}`]: labels };
    },
  };
}

type Draw = (random: ReturnType<typeof counterRandom>) => Int32Array;

const anyBatches =
  (count: number, b: number): Draw =>
  (random) =>
    Int32Array.from({ length: b }, () => random.int(count));

/** Names what each picture shares with others: its values of given fields. @throws ConfigError for a field that it lacks */
export function likenesses(data: PictureFile): (by: readonly string[]) => string[] {
  const specs = data.list("specs") as unknown as Readonly<Record<string, unknown>>[];
  return (by) => {
    const missing = by.find((field) => specs.some((spec) => !(field in spec)));
    if (missing !== undefined)
      throw new ConfigError(
        `${data.header.path}: needed fields of the pictures' specs, found "${missing}"; they have ${Object.keys(specs[0]!).join(", ")}.`,
      );
    return specs.map((spec) => JSON.stringify(by.map((field) => spec[field])));
  };
}

/**
 * Draws batches of b pictures in runs of `size` that are alike; each picture at most once in a run.
 * Chosen by a picture of it, a likeness comes as often as it is common. Without this, place and look tell most pictures of
 * a batch apart, and nothing drives the towers to see what the subject is.
 */
export function alikeBatches(likeness: readonly string[], b: number, size: number): Draw {
  const alike = groupBy(likeness.keys(), (i) => likeness[i]!);
  return (random) => {
    const chosen: number[] = [];
    while (chosen.length < b) {
      const members = alike.get(likeness[random.int(likeness.length)]!)!;
      const picks = new Set<number>();
      const needed = Math.min(size, members.length, b - chosen.length);
      while (picks.size < needed) picks.add(members[random.int(members.length)]!);
      chosen.push(...picks);
    }
    return Int32Array.from(chosen);
  };
}

/**
 * Draws the pairs of a batch, each instance at most once: after some of them comes a sibling, if there is one.
 * @param subjects "SUBJECT/HAND" of each pair; with fewer instances than b, they repeat
 */
export function instanceBatches(subjects: readonly string[], b: number, siblings: number): Draw {
  const instances = groupBy(subjects.keys(), (i) => subjects[i]!);
  const families = groupBy(instances.keys(), (key) => key.slice(0, key.lastIndexOf("/")));
  const keys = [...instances.keys()];
  return (random) => {
    const chosen: number[] = [];
    const used = new Set<string>();
    const take = (key: string): void => {
      used.add(key);
      const pairs = instances.get(key)!;
      chosen.push(pairs[random.int(pairs.length)]!);
    };
    while (chosen.length < b) {
      if (used.size === keys.length) used.clear();
      const key = keys[random.int(keys.length)]!;
      if (used.has(key)) continue;
      take(key);
      const others = families.get(key.slice(0, key.lastIndexOf("/")))!.filter((k) => !used.has(k));
      if (chosen.length < b && others.length > 0 && random.uniform(1)[0]! < siblings)
        take(others[random.int(others.length)]!);
    }
    return Int32Array.from(chosen);
  };
}

/** ids (n·L) and end positions (n) of some texts. */
export function tokenFeeds(
  tokenizer: CLIPTokenizer,
  texts: readonly string[],
): { input_ids: Int32Array; eos: Int32Array } {
  const length = tokenizer.modelMaxLength;
  const ids = new Int32Array(texts.length * length);
  const eos = new Int32Array(texts.length);
  for (const [i, text] of texts.entries()) {
    const { inputIds, eosPosition } = tokenizer.encode(text);
    ids.set(inputIds, i * length);
    eos[i] = eosPosition;
  }
  return { input_ids: ids, eos };
}

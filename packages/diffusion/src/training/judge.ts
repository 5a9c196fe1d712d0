/** Training of the judge of an evaluation: which text goes with a picture, and which instance a picture shows. */
import { type CounterRandom, counterRandom, type Feeds, input, Variables } from "@likeness/engine";
import type { JudgeConfig } from "../config/judge.ts";
import { contrastiveLoss, logitScale, logitsPerText, textFeatures } from "../models/clip.ts";
import { judgePicture } from "../models/judge.ts";
import type { CLIPTokenizer } from "../tokenizers/index.ts";
import { classification, instanceBatches, LOGIT_SCALE, likenesses, tokenFeeds } from "./clip.ts";
import type { PictureFile } from "./data.ts";
import { type TrainingTask, weighted } from "./loop.ts";

export interface JudgeTrainingOptions {
  readonly batchSize: number;
  readonly seed: number;
  /** Share of a batch that are siblings: the same subject by another hand, which is another instance. */
  readonly siblings: number;
  /** Share of the pictures that are blurred: see {@link blurSome}. */
  readonly blur: number;
  /** Texts and pictures also learn to tell each of these fields of the pictures' specs. */
  readonly labels: readonly string[];
}

/** How much naming a label, or an instance among all, counts beside the contrast within a batch. */
const LABEL_WEIGHT = 0.5;

/**
 * CLIP's symmetric cross-entropy between `images` and their captions, and between `images` and `references` of one instance,
 * the batch's others being wrong; each also against tables of all labels, and of all instances.
 * Variables are named judge/…; what begins with scale/ or labels/ isn't kept.
 * @param data with `references`, and metadata `captions`, `specs` and `subjects`: "SUBJECT/HAND" for each pair
 */
export function judgeTask(
  config: JudgeConfig,
  tokenizer: CLIPTokenizer,
  data: PictureFile,
  { batchSize: b, seed, siblings, blur, labels }: JudgeTrainingOptions,
  start: (key: string) => Float32Array | undefined,
): TrainingTask {
  const [captions, instances] = [data.list("captions"), data.list("subjects")];
  const variables = new Variables({ seed, start });
  const w = variables.weights("judge/");
  const texts = textFeatures(
    w,
    config,
    input("input_ids", [b, tokenizer.modelMaxLength], "int32"),
    input("eos", [b], "int32"),
  );
  const see = (name: string) => judgePicture(w, config, input(name, [b, 3, data.height, data.width]));
  const [image, reference] = [see("images"), see("references")];
  const scale = (name: string) => logitScale(variables.weights(`scale/${name}/`), LOGIT_SCALE);
  const caption = contrastiveLoss(logitsPerText(texts, image.embeds, scale("caption")));
  const instance = contrastiveLoss(logitsPerText(reference.instance, image.instance, scale("instance")));
  const likeness = likenesses(data);
  const table = (name: string) => variables.weights(`labels/${name}/`);
  const classes = [
    ...labels.map((f) => classification(f, table(f), likeness([f]), { text: texts, image: image.embeds })),
    classification("instance", table("instance"), instances, { reference: reference.instance, image: image.instance }),
  ];
  const terms = Object.assign({}, ...classes.map(({ losses }) => losses)) as (typeof classes)[number]["losses"];
  const draw = instanceBatches(instances, b, siblings);
  return {
    variables,
    batchSize: b,
    scalars: {
      loss: weighted([
        [1, caption],
        [1, instance],
        ...Object.values(terms).map((loss) => [LABEL_WEIGHT, loss] as const),
      ]),
      ...{ caption, instance, ...terms },
    },
    feeds: (step): Feeds => {
      const random = counterRandom(seed, `judge step ${step}`);
      const indices = draw(random);
      return {
        images: blurSome(data.batch(indices), data, blur, random),
        references: blurSome(data.batch(indices, { tensor: "references" }), data, blur, random),
        ...tokenFeeds(
          tokenizer,
          Array.from(indices, (i) => captions[i]!),
        ),
        ...(Object.assign({}, ...classes.map(({ feeds }) => feeds(indices))) as Feeds),
      };
    },
  };
}

/** [1 4 6 4 1] / 16, what a pixel and the two on either side count. */
const BINOMIAL = [1, 4, 6, 4, 1].map((c) => c / 16);

/**
 * Blurs pictures (n, 3, H, W) where they are, each with the chance `share` and by its own amount up to a deviation of one pixel: what
 * generators give is softer than what was drawn, and a judge that has learnt to look at single pixels is at a loss there.
 */
export function blurSome(
  pictures: Float32Array,
  { height: h, width: w }: { readonly height: number; readonly width: number },
  share: number,
  random: CounterRandom,
): Float32Array {
  if (share === 0) return pictures;
  const plane = h * w;
  const planes = pictures.length / plane;
  const draws = random.uniform((2 * planes) / 3); // a chance and an amount for each picture
  for (let p = 0; p < planes; p++) {
    const picture = Math.floor(p / 3);
    if (draws[2 * picture]! >= share) continue;
    const x = pictures.subarray(p * plane, (p + 1) * plane);
    const soft = alongRows(alongRows(x, h, w), w, h);
    for (let i = 0; i < plane; i++) x[i]! += draws[2 * picture + 1]! * (soft[i]! - x[i]!);
  }
  return pictures;
}

/** x (h, w) blurred along its rows, the border repeated, as (w, h): twice is both ways. */
function alongRows(x: Float32Array, h: number, w: number): Float32Array {
  const out = new Float32Array(x.length);
  for (let i = 0; i < h; i++)
    for (let j = 0; j < w; j++)
      for (let k = -2; k <= 2; k++)
        out[j * h + i]! += BINOMIAL[k + 2]! * x[i * w + Math.min(w - 1, Math.max(0, j + k))]!;
  return out;
}

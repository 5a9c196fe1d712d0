/** Training of a CLIP vision tower that tells instances apart: two pictures of one instance belong together. */
import { counterRandom, type Feeds, input, Variables } from "@likeness/engine";
import type { CLIPVisionConfig } from "../config/clip.ts";
import { contrastiveLoss, logitScale, logitsPerText } from "../models/clip.ts";
import { clipVisionModel, imageEmbeds } from "../models/clip-vision.ts";
import { clipPixels, LOGIT_SCALE } from "./clip.ts";
import { groupBy, type PictureFile } from "./data.ts";
import type { TrainingTask } from "./loop.ts";

export interface RetrievalTrainingOptions {
  readonly batchSize: number;
  readonly seed: number;
  /** Share of a batch that are siblings: the same subject by another hand, which is another instance. */
  readonly siblings: number;
}

/**
 * CLIP's symmetric cross-entropy between `images` and `references` of one instance, the batch's others being wrong.
 * Variables are named evaluation/…, after the folder that they are saved to; the temperature is scale/logit_scale.
 * @param data with `references`, and metadata `subjects`: "SUBJECT/HAND" for each pair
 */
export function retrievalTask(
  vision: CLIPVisionConfig,
  data: PictureFile,
  { batchSize: b, seed, siblings }: RetrievalTrainingOptions,
  start: (key: string) => Float32Array | undefined,
): TrainingTask {
  const subjects = data.list("subjects");
  const variables = new Variables({ seed, start });
  const w = variables.weights("evaluation/");
  const embeds = (name: string) => {
    const { pooled } = clipVisionModel(w, vision, clipPixels(input(name, [b, 3, data.height, data.width])));
    return imageEmbeds(w, vision, pooled);
  };
  const scale = logitScale(variables.weights("scale/"), LOGIT_SCALE);
  const logits = logitsPerText(embeds("references"), embeds("images"), scale);
  const draw = instanceBatches(subjects, b, siblings);
  return {
    variables,
    batchSize: b,
    scalars: { loss: contrastiveLoss(logits), scale },
    feeds: (step): Feeds => {
      const indices = draw(counterRandom(seed, `retrieval step ${step}`));
      return { images: data.batch(indices), references: data.batch(indices, { tensor: "references" }) };
    },
  };
}

/**
 * Draws the pairs of a batch, each instance at most once: after some of them comes a sibling, if there is one.
 * @param subjects "SUBJECT/HAND" of each pair; with fewer instances than b, they repeat
 */
export function instanceBatches(
  subjects: readonly string[],
  b: number,
  siblings: number,
): (random: ReturnType<typeof counterRandom>) => Int32Array {
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

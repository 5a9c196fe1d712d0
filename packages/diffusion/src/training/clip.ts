/** Contrastive training of a CLIP pair: Stable Diffusion's text encoder and the picture encoder beside it. */
import { add, constant, counterRandom, type Feeds, input, mul, type Tensor, Variables } from "@likeness/engine";
import type { CLIPTextConfig, CLIPVisionConfig } from "../config/clip.ts";
import { contrastiveLoss, logitScale, logitsPerText, textEmbeds } from "../models/clip.ts";
import { clipTextModel, embedTokens, pooledText } from "../models/clip-text.ts";
import { clipVisionModel, imageEmbeds } from "../models/clip-vision.ts";
import type { CLIPTokenizer } from "../tokenizers/index.ts";
import type { PictureFile } from "./data.ts";
import type { TrainingTask } from "./loop.ts";

export interface ClipTrainingOptions {
  readonly batchSize: number;
  readonly seed: number;
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

/** Variables are named text_encoder/…, image_encoder/… and clip/…, after the folders that they are saved to. */
export function clipTask(
  text: CLIPTextConfig,
  vision: CLIPVisionConfig,
  tokenizer: CLIPTokenizer,
  data: PictureFile,
  { batchSize: b, seed }: ClipTrainingOptions,
  start: (key: string) => Float32Array | undefined,
): TrainingTask {
  const captions = data.list("captions");
  const variables = new Variables({ seed, start });
  const [t, v, c] = ["text_encoder/", "image_encoder/", "clip/"].map((name) => variables.weights(name));
  const length = tokenizer.modelMaxLength;
  const ids = input("input_ids", [b, length], "int32");
  const states = clipTextModel(t!, text, { inputsEmbeds: embedTokens(t!, text, ids) });
  const pooled = pooledText(states.lastHiddenState, input("eos", [b], "int32"));
  const picture = clipVisionModel(v!, vision, clipPixels(input("pixels", [b, 3, data.height, data.width])));
  const logits = logitsPerText(
    textEmbeds(c!, text, vision.projection_dim, pooled),
    imageEmbeds(v!, vision, picture.pooled),
    logitScale(c!, { logit_scale_init_value: 2.6592 }),
  );
  return {
    variables,
    batchSize: b,
    scalars: { loss: contrastiveLoss(logits) },
    feeds: (step): Feeds => {
      const random = counterRandom(seed, `clip step ${step}`);
      const indices = Int32Array.from({ length: b }, () => random.int(data.count));
      return {
        pixels: data.batch(indices),
        ...tokenFeeds(
          tokenizer,
          Array.from(indices, (i) => captions[i]!),
        ),
      };
    },
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

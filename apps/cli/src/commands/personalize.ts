/** `likeness personalize`: one photo in, a concept file out. */
import { type Device, LikenessError, startRuntime } from "@likeness/engine";
import {
  findEncoder,
  findSubject,
  MOST_CUT_OUTS,
  openEncoder,
  PAPER,
  type PersonalizePlan,
  personalize,
  writeConcept,
} from "@likeness/personalization";
import { defineCommand } from "../args/command.ts";
import { type Bar, clock } from "../console/progress.ts";
import { readImage, readMask, squarePhoto } from "../images/read-image.ts";
import { expectInt8OnCpu, INT8, makeCopies } from "../int8.ts";
import { IMAGE_ENCODER, MODEL_FLAGS, openModel } from "../model.ts";
import { expectNewFile } from "../paths.ts";
import { DEVICE, SEED } from "./shared-flags.ts";

export default defineCommand({
  name: "personalize",
  summary: "Learns a concept from one photo and writes it to a file.",
  positional: { name: "PHOTO", description: "a PNG, JPEG or WebP picture", aliases: ["image", "train-image-path"] },
  flags: {
    ...MODEL_FLAGS,
    out: {
      type: "string",
      hint: "FILE",
      description: "the concept, a .safetensors file",
      required: true,
      aliases: ["o", "output"],
    },
    encoder: {
      type: "string",
      hint: "DIR",
      description:
        "a pre-trained tuning-encoder, a folder with config.json and weights; by default the model's own, if it has one",
    },
    imageEncoder: IMAGE_ENCODER,
    mask: {
      type: "string",
      hint: "FILE|auto|none",
      description:
        "where the subject is: a picture of the photo's size, white on black; by default the photo's transparency, or auto if the tuning-encoder is made for masks: what stands out from a plain background, else what the model's subject_mask/ sees",
    },
    cutOuts: {
      type: "integer",
      min: 0,
      max: MOST_CUT_OUTS,
      default: MOST_CUT_OUTS,
      description: "with a mask: on how many plain backgrounds the tuning sees the subject beside the photo",
    },
    steps: {
      type: "integer",
      default: 12,
      min: 0,
      max: 100_000,
      description: "tuning steps",
      aliases: ["max-train-steps"],
    },
    token: {
      type: "string",
      default: "<S*>",
      description: "the word for the subject in prompts",
      aliases: ["placeholder-token"],
    },
    classWord: {
      type: "string",
      hint: "WORD",
      description: "what the subject is, in one word; by default the encoder decides",
      aliases: ["initializer-token", "domain-class-token"],
    },
    lr: {
      type: "number",
      min: 0,
      max: 1,
      description:
        "learning rate of AdamW; by default 0.002 as in the paper or, with a mask, the steps that the encoder's config.json names",
      aliases: ["learning-rate"],
    },
    alphaBlend: {
      type: "number",
      min: 0,
      max: 1,
      description:
        "share of the personalised branch in the dual path, Eq. 5; by default the encoder's (the paper: 0.25)",
    },
    rank: {
      type: "integer",
      min: 1,
      max: 1024,
      description:
        "rank of the weight offsets, at least the encoder's; by default the tuning_rank of its config.json, else its own; without one 4",
      aliases: ["network-dim"],
    },
    convRank: {
      type: "integer",
      min: 0,
      max: 1024,
      description:
        "rank of offsets of the UNet's convolutions beside those of attention, 0 for none; by default, with a mask, the conv_rank of the encoder's config.json, else 0",
      aliases: ["conv-dim"],
    },
    batchSize: {
      type: "integer",
      min: 1,
      max: 4096,
      description: "noise draws per step; by default 16",
      aliases: ["train-batch-size"],
    },
    microBatchSize: {
      type: "integer",
      min: 1,
      max: 4096,
      description:
        "noise draws at once, whose gradients a step adds up: memory grows with it; by default as many as have the pixels of one picture of 512x512",
    },
    paper: {
      type: "boolean",
      description:
        "the steps as the paper has them: --mask none --lr 0.002 --alpha-blend 0.25 --conv-rank 0 and the encoder's rank, where you don't give others, in place of what was found to go best",
    },
    seed: { ...SEED, default: 0 },
    int8: INT8,
    device: DEVICE,
  },
  examples: ["likeness personalize duck.jpg --model models/pocket --out duck.safetensors"],
  async run(photo, options, { signal, progress, print, json }) {
    expectNewFile("--out", options.out, ".safetensors");
    expectInt8OnCpu(options);
    if (!/^\S{2,}$/.test(options.token))
      throw new LikenessError("E_USAGE", {
        what: "--token",
        where: "likeness personalize",
        needed: "two or more characters without spaces",
        found: JSON.stringify(options.token),
      });
    const {
      mask: where,
      lr,
      alphaBlend,
    } = options.paper
      ? {
          mask: options.mask ?? "none",
          lr: options.lr ?? PAPER.learningRate,
          alphaBlend: options.alphaBlend ?? PAPER.alphaBlend,
        }
      : options;
    const picture = await readImage(photo);
    const given = where === "auto" || where === "none" ? undefined : where;
    const mask = where === "none" ? undefined : await readMask(given, picture);
    const model = openModel(options);
    const encoder = options.encoder === undefined ? findEncoder(model) : openEncoder(options.encoder, model);
    const wanted = where === "auto" || (where === undefined && encoder?.config.masked_tuning !== undefined);
    const looked = wanted && !mask;
    const { steps, token, classWord, seed, device } = options;
    const rank = options.rank ?? (options.paper ? encoder?.config.rank : undefined);
    if (options.int8) await makeCopies(model, { progress, signal });
    const runtime = await startRuntime({ device: device as Device });
    let bar: Bar | undefined;
    try {
      const square = await squarePhoto(picture, model.resolution, mask);
      const found = looked ? await findSubject(runtime, model, square, signal) : undefined;
      if (looked) progress.note(FOUND[found?.by ?? "nothing"]);
      const concept = await personalize(runtime, model, found ? { ...square, mask: found.mask } : square, {
        ...{ encoder, steps, learningRate: lr, token, classWord, rank, seed, signal },
        convRank: options.convRank,
        batchSize: options.batchSize ?? 16,
        microBatchSize: options.microBatchSize,
        alphaBlend,
        cutOuts: options.cutOuts,
        onPlan: (plan) => {
          for (const line of planLines(plan)) progress.note(line);
        },
        onStage: (stage) => progress.note(stage === "encode" ? "Reading the photo" : "Tuning"),
        onStep: (event) => {
          bar ??= progress.bar("Steps", event.steps, { start: event.step });
          bar.update(event.step, { loss: event.loss });
        },
      });
      signal.throwIfAborted();
      writeConcept(options.out, concept, model);
      print(json ? { path: options.out, token, nearest_word: concept.hardToken, steps } : options.out);
    } finally {
      await runtime.close();
    }
  },
});

/** What is said of a mask that was looked for. */
const FOUND = {
  "plain background":
    "The background is plain: tuning looks at what stands out from it (--mask none: at the whole photo)",
  "subject mask":
    "The background isn't plain: tuning looks where the model sees the subject (--mask none: at the whole photo, --mask FILE: where you say)",
  nothing: "No subject found on its own: tuning looks at the whole photo (--mask FILE says where the subject is)",
} as const;

const GIGA = 1e9;

/** What a job of some length will take, and what is done about memory that isn't there. */
export function planLines({ bytes, seconds, recompute, fits }: PersonalizePlan): string[] {
  const memory = `${(bytes / GIGA).toFixed(1)} GB of memory`;
  const lines = seconds === undefined ? [] : [`Needs ${memory} and about ${clock(seconds)} (minutes:seconds)`];
  if (!fits)
    lines.push(
      `Memory is short: needs ${memory} even so, ${(process.availableMemory() / GIGA).toFixed(1)} GB are free`,
    );
  else if (recompute !== undefined)
    lines.push("Memory is short: results are computed again instead of kept, which takes longer");
  return lines;
}

/** `likeness personalize`: one photo in, a concept file out. */
import { LikenessError } from "@likeness/engine/errors";
import { defineCommand } from "../args/command.ts";
import { readImage } from "../images/read-image.ts";
import { expectFile, expectNewFile, findModel } from "../paths.ts";
import { DEVICE, MODEL, SEED } from "./shared-flags.ts";

export default defineCommand({
  name: "personalize",
  summary: "Learns a concept from one photo and writes it to a file.",
  positional: { name: "PHOTO", description: "a PNG, JPEG or WebP picture", aliases: ["image", "train-image-path"] },
  flags: {
    model: MODEL,
    out: {
      type: "string",
      hint: "FILE",
      description: "the concept, a .safetensors file",
      required: true,
      aliases: ["o", "output"],
    },
    encoder: {
      type: "string",
      hint: "FILE",
      description: "a pre-trained tuning-encoder; by default the model's own, if it has one",
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
      default: 2e-3,
      min: 0,
      max: 1,
      description: "learning rate of the tuning",
      aliases: ["learning-rate"],
    },
    alphaBlend: {
      type: "number",
      default: 0.25,
      min: 0,
      max: 1,
      description: "share of the soft prompt in the dual path, Eq. 5",
    },
    rank: {
      type: "integer",
      min: 1,
      max: 1024,
      description: "rank of the weight offsets; by default the encoder's",
      aliases: ["network-dim"],
    },
    batchSize: {
      type: "integer",
      min: 1,
      max: 4096,
      description: "noise draws per step; by default the model's",
      aliases: ["train-batch-size"],
    },
    seed: { ...SEED, default: 0 },
    device: DEVICE,
  },
  examples: ["likeness personalize duck.jpg --model models/pocket --out duck.safetensors"],
  async run(photo, options) {
    expectNewFile("--out", options.out, ".safetensors");
    if (options.encoder !== undefined) expectFile("--encoder", options.encoder);
    if (!/^\S{2,}$/.test(options.token))
      throw new LikenessError("E_USAGE", {
        what: "--token",
        where: "likeness personalize",
        needed: "two or more characters without spaces",
        found: JSON.stringify(options.token),
      });
    const picture = await readImage(photo);
    const model = findModel(options.model);
    return personalizePicture(picture, model);
  },
});

/** The call into @likeness/personalization. */
async function personalizePicture(_picture: unknown, _model: string): Promise<void> {
  throw new LikenessError("E_NOT_WIRED", { what: "personalize is not wired yet" });
}

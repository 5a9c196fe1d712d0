/**
 * An evaluation set: one photo of each held-out subject, prompts, and what the judges choose among. One .safetensors file:
 * `images` (N, H, W, 3) uint8, one plain picture of every instance there is; `photos` (S, H, W, 3) uint8, and
 * where in them the subjects are, if there are `masks` (S, H, W) uint8; `scenes`
 * (B, H, W, 3) uint8, what the base model's prompts should show, to try the judges on; the rest is JSON in the metadata
 * `evaluation`. This package reads such files and knows nothing of what made them.
 */
import { PictureFile, parseConfig } from "@likeness/diffusion";
import { LikenessError, readTensorBytes } from "@likeness/engine";
import { z } from "zod";
import type { Photo } from "../photo.ts";
import { PLACEHOLDER } from "../prompts.ts";

/** A noun with its article or number: one, two, three of them. They stand for {1}, {2}, {3} in captions. */
const Nouns = z.tuple([z.string(), z.string(), z.string()]);
export type Nouns = z.output<typeof Nouns>;

/** What a judge has to tell from a picture: which of these captions fits it best. */
const Choice = z.strictObject({
  attribute: z.enum(["place", "look", "count"]),
  right: z.int().nonnegative(),
  captions: z.array(z.string()).min(2),
  /** What a report calls each of them. */
  names: z.array(z.string()).optional(),
});
export type Choice = z.output<typeof Choice>;

const Judged = {
  /** With {1}, {2} or {3} for the subject. */
  caption: z.string(),
  choices: z.array(Choice),
};

const Content = z.strictObject({
  seed: z.int(),
  subjects: z
    .array(
      z.strictObject({
        name: z.string(),
        /** Row of `images` that is the same instance. */
        instance: z.int().nonnegative(),
        class_word: z.string(),
        /** Of the class word. */
        nouns: Nouns,
      }),
    )
    .min(1),
  prompts: z.array(z.strictObject({ prompt: z.string().includes(PLACEHOLDER), ...Judged })).min(1),
  /** Prompts of the base model itself, about subjects that it knows by name. */
  backbone: z.strictObject({
    names: z.array(Nouns),
    prompts: z.array(z.strictObject({ prompt: z.string(), name: z.int().nonnegative(), ...Judged })),
  }),
});
export type EvaluationContent = z.output<typeof Content>;
export type EvaluationPrompt = EvaluationContent["prompts"][number];

export interface EvaluationSet extends EvaluationContent {
  readonly path: string;
  readonly pictures: PictureFile;
  /** Instances that retrieval has to tell apart. */
  readonly instances: number;
  photo(subject: number): Photo;
  /** (H, W, 3) bytes: a true picture for a prompt of the base model. */
  scene(prompt: number): Uint8Array;
}

/** @throws SafetensorsError, ConfigError or LikenessError if the file is no evaluation set, or one that contradicts itself */
export function openEvaluationSet(path: string): EvaluationSet {
  const pictures = new PictureFile(path);
  const fail = (what: string, needed: string, found: string): never => {
    throw new LikenessError("E_EVALUATION_SET", { what, where: path, needed, found, next: "Write the set again." });
  };
  const text = pictures.header.metadata.evaluation ?? fail('metadata "evaluation"', "an evaluation set", "none");
  const content = parseConfig(Content, jsonOf(text) ?? fail('metadata "evaluation"', "JSON", "other text"), path);
  const { count: instances, height, width } = pictures;
  const counts = { photos: content.subjects.length, scenes: content.backbone.prompts.length };
  for (const [name, n] of Object.entries(counts)) {
    const tensor = pictures.header.tensors.get(name);
    const shape = [n, height, width, 3].join(", ");
    if (n > 0 && (tensor?.dtype !== "U8" || tensor.shape.join(", ") !== shape))
      fail(`"${name}"`, `U8 (${shape})`, tensor ? `${tensor.dtype} (${tensor.shape.join(", ")})` : "none");
  }
  const masks = pictures.header.tensors.get("masks");
  const covered = [content.subjects.length, height, width].join(", ");
  if (masks && (masks.dtype !== "U8" || masks.shape.join(", ") !== covered))
    fail('"masks"', `U8 (${covered})`, `${masks.dtype} (${masks.shape.join(", ")})`);
  const pixels = height * width;
  const maskBytes = masks && readTensorBytes(pictures.header, "masks");
  const lost = content.subjects.find((s) => s.instance >= instances);
  if (lost) fail(`instance of ${lost.name}`, `less than ${instances}`, String(lost.instance));
  for (const { caption, choices } of [...content.prompts, ...content.backbone.prompts])
    for (const { attribute, right, captions, names = captions } of choices) {
      if (right >= captions.length) fail(`${attribute} of "${caption}"`, `less than ${captions.length}`, String(right));
      if (names.length !== captions.length)
        fail(`names of ${attribute} of "${caption}"`, `${captions.length}, one a caption`, String(names.length));
    }
  const unnamed = content.backbone.prompts.find((p) => p.name >= content.backbone.names.length);
  if (unnamed) fail(`name of "${unnamed.prompt}"`, `less than ${content.backbone.names.length}`, String(unnamed.name));
  return {
    ...content,
    path,
    pictures,
    instances,
    scene: (prompt) => pictures.bytes(prompt, "scenes"),
    photo: (subject) => ({
      ...{ pixels: pictures.bytes(subject, "photos"), width, height },
      mask: maskBytes?.slice(subject * pixels, (subject + 1) * pixels),
    }),
  };
}

/** A caption about something: {1}, {2}, {3} replaced. */
export const captionOf = (caption: string, nouns: Nouns): string =>
  caption.replace(/\{([123])\}/g, (_, n: string) => nouns[Number(n) - 1]!);

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

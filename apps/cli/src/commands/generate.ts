/** `likeness generate`: a prompt in, PNG files out. */
import { randomInt } from "node:crypto";
import { mkdirSync } from "node:fs";
import { basename, join } from "node:path";
import { expectEta, firstStep, generate, plainDenoiser, SCHEDULER_NAMES } from "@likeness/diffusion";
import { type Device, LikenessError, startRuntime } from "@likeness/engine";
import { conceptDenoiser, expectToken, readConcept } from "@likeness/personalization";
import { adapted, EMBEDDING, LORA } from "../adapters.ts";
import { defineCommand } from "../args/command.ts";
import type { Bar } from "../console/progress.ts";
import { STRENGTH, startOf } from "../images/init-image.ts";
import { formatParameters } from "../images/parameters.ts";
import { writePng } from "../images/write-png.ts";
import { expectInt8OnCpu, INT8, makeCopies } from "../int8.ts";
import { readLatents, writeLatents } from "../latents.ts";
import { MODEL_FLAGS, openModel } from "../model.ts";
import { freeNumber } from "../output-names.ts";
import { expectFile, expectNewFile, expectOutputFolder } from "../paths.ts";
import { DEVICE, SEED } from "./shared-flags.ts";

/** For a model whose folder doesn't say what suits it: what Stable Diffusion is drawn with. */
const DEFAULTS = { steps: 30, guidanceScale: 7.5 };
const OR_MODEL = "by default what the model's generation_config.json says, or";
const BY_DEFAULT = "by default the init image's, or the model's";

export default defineCommand({
  name: "generate",
  summary: "Makes pictures from a prompt, of a concept if one is given.",
  positional: { name: "PROMPT", description: "what to show, in quotes", aliases: ["prompt", "p"] },
  flags: {
    ...MODEL_FLAGS,
    out: {
      type: "string",
      hint: "DIR",
      description: "folder of the pictures",
      required: true,
      aliases: ["o", "output-dir"],
    },
    concept: { type: "string", hint: "FILE", description: "a concept that the prompt names", multiple: true },
    lora: LORA,
    embedding: EMBEDDING,
    negativePrompt: { type: "string", default: "", description: "what not to show", aliases: ["n"] },
    steps: {
      type: "integer",
      min: 1,
      max: 1000,
      description: `sampling steps; ${OR_MODEL} ${DEFAULTS.steps}`,
      aliases: ["num-inference-steps"],
    },
    guidanceScale: {
      type: "number",
      min: 0,
      max: 100,
      description: `classifier-free guidance; 1 or less is none; ${OR_MODEL} ${DEFAULTS.guidanceScale}`,
      aliases: ["cfg-scale"],
    },
    guidanceRescale: {
      type: "number",
      min: 0,
      max: 1,
      description: `takes away what guidance saturates; 0.7 suits models of zero terminal SNR; ${OR_MODEL} 0, none of it`,
      aliases: ["cfg-rescale"],
    },
    guidanceStop: {
      type: "number",
      min: 0,
      max: 1,
      description: `share of the steps, from the first on, that are guided; ${OR_MODEL} 1, all`,
    },
    guidanceAlpha: {
      type: "number",
      min: 0,
      max: 1,
      description: `how much of a concept the unconditional half of guidance has: the less, the stronger the subject; ${OR_MODEL} 1, all`,
    },
    scheduler: {
      type: "string",
      hint: "NAME",
      description: `${SCHEDULER_NAMES.join(", ")}; by default the model's`,
      aliases: ["sampler", "sampling-method"],
    },
    eta: {
      type: "number",
      min: 0,
      max: 1,
      description: "fresh noise in each step of ddim: 0, the default, is none, 1 as much as ddpm",
    },
    initImage: {
      type: "string",
      hint: "FILE",
      description: "a picture to start from, instead of noise alone",
      aliases: ["i", "init-img"],
    },
    strength: {
      type: "number",
      min: 0,
      max: 1,
      description: `how much of the init image is made anew, from 0 to 1; by default ${STRENGTH}`,
    },
    width: { type: "integer", min: 8, max: 4096, description: `in pixels; ${BY_DEFAULT}`, aliases: ["W"] },
    height: { type: "integer", min: 8, max: 4096, description: `in pixels; ${BY_DEFAULT}`, aliases: ["H"] },
    numImages: {
      type: "integer",
      default: 1,
      min: 1,
      max: 1000,
      description: "how many",
      aliases: ["num-images-per-prompt", "b", "batch-count"],
    },
    batchSize: {
      type: "integer",
      min: 1,
      max: 1000,
      description: "how many at once; by default as many as have the pixels of one of 512x512",
    },
    clipSkip: {
      type: "integer",
      min: 0,
      max: 100,
      description: "last layers of the text encoder to leave out, as diffusers counts them (others say one more)",
    },
    seed: {
      ...SEED,
      max: Number.MAX_SAFE_INTEGER - 1000,
      description: `${SEED.description}, and the noise that torch draws; picture i has seed + i; by default a random one`,
    },
    latents: { type: "string", hint: "FILE", description: "starting noise: .safetensors with latents (N, C, h, w)" },
    saveLatents: { type: "string", hint: "FILE", description: "write the latents after the last step" },
    widenWeights: {
      type: "boolean",
      description:
        "on a CPU, widen half-precision weights once, not at each use: later start, more memory; no gain where measured",
    },
    int8: INT8,
    device: DEVICE,
  },
  examples: [
    'likeness generate "a red fox on the beach" --model models/pocket --out out',
    'likeness generate "a photo of <S*> in snow" --model models/pocket --concept duck.safetensors --seed 7 --out out',
  ],
  async run(prompt, options, { signal, progress, print, json }) {
    expectOutputFolder("--out", options.out);
    expectConsistent(options);
    expectInt8OnCpu(options);
    if (options.saveLatents !== undefined) expectNewFile("--save-latents", options.saveLatents, ".safetensors");
    const conceptFile = oneConcept(options.concept);
    const base = openModel(options);
    const concept = conceptFile === undefined ? undefined : readConcept(conceptFile, base);
    const { model, settings: added } = adapted(base, options, progress.warn);
    if (concept) expectToken(prompt, concept.token);
    const { negativePrompt, numImages, batchSize, scheduler, eta, clipSkip } = options;
    const suits = model.generationConfig;
    const steps = options.steps ?? suits.num_inference_steps ?? DEFAULTS.steps;
    const guidanceScale = options.guidanceScale ?? suits.guidance_scale ?? DEFAULTS.guidanceScale;
    const guidanceRescale = options.guidanceRescale ?? suits.guidance_rescale;
    const guidanceStop = options.guidanceStop ?? suits.guidance_stop;
    const guidanceAlpha = concept ? (options.guidanceAlpha ?? suits.guidance_alpha) : undefined;
    const { width, height, initImage } = await startOf(model, options);
    const seed = options.seed ?? randomInt(2 ** 32 - 1);
    const sampler = model.scheduler(scheduler); // checked before the runtime starts, and so are the steps
    expectEta(sampler, eta);
    sampler.setTimesteps(steps);
    if (initImage) firstStep(steps, initImage.strength);
    const latentShape = [
      numImages,
      model.unet.config.in_channels,
      height / model.scaleFactor,
      width / model.scaleFactor,
    ];
    const latents = options.latents === undefined ? undefined : readLatents(options.latents, latentShape);

    const write = async (number: number, i: number, data: Uint8Array): Promise<void> => {
      const settings = {
        Steps: steps,
        Sampler: scheduler ?? nameOf(sampler.config),
        "CFG scale": guidanceScale,
        ...(guidanceRescale && { "CFG rescale": guidanceRescale }),
        ...(guidanceStop !== undefined && guidanceStop < 1 && { "CFG stop": guidanceStop }),
        ...(guidanceAlpha !== undefined && guidanceAlpha < 1 && { "CFG alpha": guidanceAlpha }),
        Seed: seed + i,
        Size: `${width}x${height}`,
        ...(eta !== undefined && { Eta: eta }),
        ...(model.int8 && { Products: "8 bits" }),
        ...(initImage && { "Denoising strength": initImage.strength }),
        ...(clipSkip !== undefined && { "Clip skip": clipSkip + 1 }), // as AUTOMATIC1111 counts
        "Model hash": model.fingerprint,
        Model: model.name,
        ...added,
        ...(options.concept.length > 0 && { Concept: options.concept.map((c) => basename(c)).join(" ") }),
      };
      const path = join(options.out, `${String(number).padStart(5, "0")}-${seed + i}.png`);
      await writePng(path, { width, height, data }, formatParameters({ prompt, negativePrompt, settings }));
      print(json ? { path, seed: seed + i } : path);
    };

    if (options.int8) await makeCopies(model, { progress, signal });
    const runtime = await startRuntime({ device: options.device as Device, widenWeights: options.widenWeights });
    let bar: Bar | undefined;
    try {
      const denoiser = concept
        ? conceptDenoiser(runtime, model, concept, { guidanceAlpha })
        : plainDenoiser(runtime, model, { clipSkip });
      const made = await generate(runtime, model, denoiser, {
        ...{ prompt, negativePrompt, steps, scheduler, guidanceScale, guidanceRescale, guidanceStop },
        ...{ width, height, numImages, batchSize, seed },
        ...{ eta, latents, initImage, signal },
        onCut: ({ cut, limit }) =>
          progress.warn(`of a prompt, ${limit} tokens are read; cut off: ${JSON.stringify(cut)}`),
        onStep: (event) => {
          bar ??= progress.bar("Steps", event.steps, { start: event.step });
          bar.update(event.step);
        },
        onImages: async ({ from, images }) => {
          signal.throwIfAborted();
          mkdirSync(options.out, { recursive: true });
          const number = freeNumber(options.out);
          for (const [k, data] of images.entries()) await write(number + k, from + k, data);
        },
      });
      if (options.saveLatents !== undefined) writeLatents(options.saveLatents, made.latents, made.latentShape);
    } finally {
      await runtime.close();
    }
  },
});

/** @throws LikenessError E_USAGE if there are several or there is no such file */
function oneConcept(paths: readonly string[]): string | undefined {
  const [path, ...more] = paths;
  if (path === undefined) return undefined;
  if (more.length)
    refuse("--concept", "one concept", String(paths.length), "Several concepts in one picture aren't there yet.");
  return expectFile("--concept", path);
}

/** Flags that don't go together. @throws LikenessError E_USAGE */
function expectConsistent({ initImage, strength, latents, clipSkip, guidanceAlpha, concept }: Combined): void {
  if (guidanceAlpha !== undefined && concept.length === 0)
    refuse("--guidance-alpha", "--concept beside it", "none", "It says how much of a concept guidance starts from.");
  if (initImage === undefined && strength !== undefined)
    refuse("--strength", "--init-image beside it", "none", "Strength is how far to leave the init image.");
  if (initImage !== undefined && latents !== undefined)
    refuse("--latents", "noise or a picture to start from", "--init-image too", "Leave one of them out.");
  if (clipSkip !== undefined && concept.length > 0)
    refuse(
      "--clip-skip",
      "no concept beside it",
      "--concept",
      "A concept is taught to all layers of the text encoder.",
    );
}

interface Combined {
  readonly initImage?: string | undefined;
  readonly strength?: number | undefined;
  readonly latents?: string | undefined;
  readonly clipSkip?: number | undefined;
  readonly guidanceAlpha?: number | undefined;
  readonly concept: readonly string[];
}

function refuse(what: string, needed: string, found: string, next?: string): never {
  throw new LikenessError("E_USAGE", { what, where: "likeness generate", needed, found, ...(next && { next }) });
}

const nameOf = (config: object): string =>
  String((config as { _class_name?: string })._class_name ?? "default").replace(/Scheduler$/, "");

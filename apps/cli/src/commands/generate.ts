/** `likeness generate`: a prompt in, PNG files out. */
import { randomInt } from "node:crypto";
import { mkdirSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { type Denoiser, generate, loadModel, plainDenoiser, type StableDiffusionModel } from "@likeness/diffusion";
import { type Device, LikenessError, type Runtime, startRuntime } from "@likeness/engine";
import { type Concept, conceptDenoiser, expectToken, readConcept } from "@likeness/personalization";
import { defineCommand } from "../args/command.ts";
import type { Bar } from "../console/progress.ts";
import { formatParameters } from "../images/parameters.ts";
import { writePng } from "../images/write-png.ts";
import { readLatents, writeLatents } from "../latents.ts";
import { freeNumber } from "../output-names.ts";
import { expectFile, expectNewFile, expectOutputFolder, findModel } from "../paths.ts";
import { DEVICE, MODEL, SEED } from "./shared-flags.ts";

export default defineCommand({
  name: "generate",
  summary: "Makes pictures from a prompt, of a concept if one is given.",
  positional: { name: "PROMPT", description: "what to show, in quotes", aliases: ["prompt", "p"] },
  flags: {
    model: MODEL,
    out: {
      type: "string",
      hint: "DIR",
      description: "folder of the pictures",
      required: true,
      aliases: ["o", "output-dir"],
    },
    concept: { type: "string", hint: "FILE", description: "a concept that the prompt names", multiple: true },
    negativePrompt: { type: "string", default: "", description: "what not to show", aliases: ["n"] },
    steps: {
      type: "integer",
      default: 30,
      min: 1,
      max: 1000,
      description: "sampling steps",
      aliases: ["num-inference-steps"],
    },
    guidanceScale: {
      type: "number",
      default: 7.5,
      min: 0,
      max: 100,
      description: "classifier-free guidance; 1 or less is none",
      aliases: ["cfg-scale"],
    },
    scheduler: {
      type: "string",
      hint: "NAME",
      description: "ddim or ddpm; by default the model's",
      aliases: ["sampling-method"],
    },
    width: { type: "integer", min: 8, max: 4096, description: "in pixels; by default the model's", aliases: ["W"] },
    height: { type: "integer", min: 8, max: 4096, description: "in pixels; by default the model's", aliases: ["H"] },
    numImages: {
      type: "integer",
      default: 1,
      min: 1,
      max: 1000,
      description: "how many",
      aliases: ["num-images-per-prompt", "b", "batch-count"],
    },
    seed: { ...SEED, description: `${SEED.description}; picture i has seed + i; by default a random one` },
    latents: { type: "string", hint: "FILE", description: "starting noise: .safetensors with latents (N, C, h, w)" },
    saveLatents: { type: "string", hint: "FILE", description: "write the latents after the last step" },
    device: DEVICE,
  },
  examples: [
    'likeness generate "a red fox on the beach" --model models/pocket --out out',
    'likeness generate "a photo of <S*> in snow" --model models/pocket --concept duck.safetensors --seed 7 --out out',
  ],
  async run(prompt, options, { signal, progress, print, json }) {
    expectOutputFolder("--out", options.out);
    if (options.saveLatents !== undefined) expectNewFile("--save-latents", options.saveLatents, ".safetensors");
    const conceptFile = oneConcept(options.concept);
    const model = loadModel(findModel(options.model));
    const concept = conceptFile === undefined ? undefined : readConcept(conceptFile, model);
    if (concept) expectToken(prompt, concept.token);
    const { steps, guidanceScale, negativePrompt, numImages, scheduler } = options;
    const width = side(model, "--width", options.width);
    const height = side(model, "--height", options.height);
    const seed = options.seed ?? randomInt(2 ** 32 - 1);
    const sampler = model.scheduler(scheduler).config; // checked before the runtime starts
    const latentShape = [
      numImages,
      model.unet.config.in_channels,
      height / model.scaleFactor,
      width / model.scaleFactor,
    ];
    const latents = options.latents === undefined ? undefined : readLatents(options.latents, latentShape);

    const runtime = await startRuntime({ device: options.device as Device });
    let bar: Bar | undefined;
    try {
      const made = await generate(runtime, model, denoiserFor(runtime, model, concept), {
        ...{ prompt, negativePrompt, steps, guidanceScale, width, height, numImages, seed, scheduler, latents, signal },
        onStep: (event) => {
          bar ??= progress.bar("Steps", event.steps, { start: event.step });
          bar.update(event.step);
        },
      });
      signal.throwIfAborted();
      mkdirSync(options.out, { recursive: true });
      const first = freeNumber(options.out);
      for (const [i, data] of made.images.entries()) {
        const settings = {
          Steps: steps,
          Sampler: scheduler ?? nameOf(sampler),
          "CFG scale": guidanceScale,
          Seed: seed + i,
          Size: `${width}x${height}`,
          "Model hash": model.fingerprint,
          Model: basename(resolve(model.folder)),
          ...(options.concept.length > 0 && { Concept: options.concept.map((c) => basename(c)).join(" ") }),
        };
        const path = join(options.out, `${String(first + i).padStart(5, "0")}-${seed + i}.png`);
        await writePng(path, { width, height, data }, formatParameters({ prompt, negativePrompt, settings }));
        print(json ? { path, seed: seed + i } : path);
      }
      if (options.saveLatents !== undefined) writeLatents(options.saveLatents, made.latents, made.latentShape);
    } finally {
      await runtime.close();
    }
  },
});

/** The plain model, or the model with the concept that the prompt names. */
function denoiserFor(runtime: Runtime, model: StableDiffusionModel, concept: Concept | undefined): Denoiser {
  return concept ? conceptDenoiser(runtime, model, concept) : plainDenoiser(runtime, model);
}

/** @throws LikenessError E_USAGE if there are several or there is no such file */
function oneConcept(paths: readonly string[]): string | undefined {
  const [path, ...more] = paths;
  if (path === undefined) return undefined;
  if (more.length)
    throw new LikenessError("E_USAGE", {
      what: "--concept",
      where: "likeness generate",
      needed: "one concept",
      found: String(paths.length),
      next: "Several concepts in one picture aren't there yet.",
    });
  return expectFile("--concept", path);
}

/** @throws LikenessError E_USAGE if the UNet can't halve this side as often as it does */
function side(model: StableDiffusionModel, flag: string, given: number | undefined): number {
  const step = model.scaleFactor * 2 ** (model.unet.config.block_out_channels.length - 1);
  const pixels = given ?? model.resolution;
  if (pixels % step === 0) return pixels;
  const needed = `a multiple of ${step} for ${model.name}`;
  throw new LikenessError("E_USAGE", { what: flag, where: "likeness generate", needed, found: String(pixels) });
}

const nameOf = (config: object): string =>
  String((config as { _class_name?: string })._class_name ?? "default").replace(/Scheduler$/, "");

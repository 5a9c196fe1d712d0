/** Pictures of many concepts and prompts with programs that are compiled once; the same pictures as generateConcept's. */
import {
  decode,
  denoise,
  drawsOf,
  guidedUNet,
  halvesAt,
  halvesOf,
  type StableDiffusionModel,
  tokenTable,
  toPixels,
} from "@likeness/diffusion";
import { div, gather, input, type Program, type Runtime, reshape } from "@likeness/engine";
import type { Concept } from "../concept.ts";
import { convolutionChanges, type Shares, sharesOf } from "../generate.ts";
import { personalText } from "../method/personal-text.ts";
import { personalUNet } from "../method/personal-unet.ts";
import { placeholderFeeds } from "../prompts.ts";
import { conceptVariables, loadConcept } from "../tuning.ts";

export interface SamplingSettings {
  readonly steps: number;
  readonly guidanceScale: number;
  readonly guidanceRescale?: number | undefined;
  readonly guidanceStop?: number | undefined;
  readonly guidanceAlpha?: number | undefined;
  readonly scheduler?: string | undefined;
  /** Pictures at once. */
  readonly batch: number;
}

export interface PictureJob {
  readonly prompt: string;
  readonly seed: number;
}

export interface Sampler {
  /** (side, side, 3) bytes for each job. */
  draw(concept: Concept, jobs: readonly PictureJob[], options?: DrawOptions): Promise<Uint8Array[]>;
  release(): Promise<void>;
}

export interface DrawOptions {
  readonly signal?: AbortSignal | undefined;
  onPictures?(done: number): void;
}

/** What the programs depend on of a concept: ranks, scales, blend. */
export type ConceptKind = Pick<Concept, "rank" | "loraAlpha" | "alphaBlend" | "convolutions">;

/** A sampler for concepts of one kind. */
export async function openSampler(
  runtime: Runtime,
  model: StableDiffusionModel,
  like: ConceptKind,
  { steps, guidanceScale, guidanceRescale, guidanceStop, guidanceAlpha = 1, scheduler, batch: b }: SamplingSettings,
): Promise<Sampler> {
  const guidance = { scale: guidanceScale, rescale: guidanceRescale, stop: guidanceStop };
  const halves = halvesOf(guidance);
  const plan = model.scheduler(scheduler).setTimesteps(steps);
  const total = plan.timesteps.length;
  const rows = new Set(Array.from({ length: total }, (_, i) => b * halvesAt(guidance, i, total)));
  const shares = sharesOf(like.alphaBlend, guidanceAlpha);
  const programs = await compile(runtime, model, like, b, { prompts: b * halves, rows: [...rows], shares });
  const { all } = conceptVariables(model, like.rank, like.convolutions?.rank);
  const side = model.resolution;
  const size = programs.shape.reduce((x, y) => x * y, 1);

  const drawBatch = async (concept: Concept, jobs: readonly PictureJob[], signal?: AbortSignal) => {
    const prompts = [...(halves === 2 ? jobs.map(() => "") : []), ...jobs.map((j) => j.prompt)];
    const feeds = {
      ...placeholderFeeds(model.tokenizer, prompts, concept.token, concept.hardTokenId),
      ...(shares.hard && { hard_id: Int32Array.of(concept.hardTokenId) }),
    };
    const contexts = await programs.text.run(feeds, { signal });
    const read = { ...contexts, ...shares.feeds(prompts.length, prompts.length - jobs.length) };
    const noise = drawsOf(jobs.map((j) => j.seed));
    const latents = await denoise({
      ...{ plan, latents: noise(b * size), noise, signal },
      predict: guidedUNet(programs.unet, read, guidance, { pictures: b, steps: total, signal }),
    });
    const x = (await programs.decoder.run({ z: latents }, { signal })).x as Float32Array;
    const each = x.length / b;
    return jobs.map((_, i) => toPixels(x.subarray(i * each, (i + 1) * each), side, side));
  };
  return {
    draw: async (concept, jobs, { signal, onPictures } = {}) => {
      await loadConcept(runtime, all, concept);
      const pictures: Uint8Array[] = [];
      for (let at = 0; at < jobs.length; at += b) {
        signal?.throwIfAborted();
        const some = jobs.slice(at, at + b);
        const full = Array.from({ length: b }, (_, i) => some[Math.min(i, some.length - 1)]!);
        pictures.push(...(await drawBatch(concept, full, signal)).slice(0, some.length));
        onPictures?.(pictures.length);
      }
      return pictures;
    },
    release: async () => {
      for (const program of programs.all) await program.release();
    },
  };
}

interface Programs {
  readonly text: Program;
  /** For each of the numbers of rows. */
  unet(rows: number): Promise<Program>;
  readonly decoder: Program;
  readonly all: readonly Program[];
  /** Of one picture's latents. */
  readonly shape: readonly number[];
}

async function compile(
  runtime: Runtime,
  model: StableDiffusionModel,
  like: ConceptKind,
  b: number,
  { prompts, rows, shares }: { readonly prompts: number; readonly rows: readonly number[]; readonly shares: Shares },
): Promise<Programs> {
  const { weights: w, config } = model.textEncoder;
  const { v, factors, convolutions } = conceptVariables(model, like.rank, like.convolutions?.rank);
  const length = model.tokenizer.modelMaxLength;
  const states = [prompts, length];
  const prompt = { ids: input("ids", states, "int32"), mask: input("mask", states) };
  const hardRow = reshape(gather(tokenTable(w, config), input("hard_id", [1], "int32")), [config.hidden_size]);
  const read = {
    ...(shares.soft && { soft_context: personalText(w, config, prompt, v) }),
    ...(shares.hard && { hard_context: personalText(w, config, prompt, hardRow) }),
  };
  const shape = [model.unet.config.in_channels, model.resolution, model.resolution].map((n, i) =>
    i === 0 ? n : n / model.scaleFactor,
  );
  const unetOf = (n: number): Promise<Program> => {
    const context = (name: string) => input(name, [n, length, config.hidden_size]);
    const output = personalUNet(model, {
      ...{ sample: input("sample", [n, ...shape]), timestep: input("timestep", [n]) },
      ...{ softContext: context("soft_context"), hardContext: context("hard_context") },
      ...{ factors, scale: like.loraAlpha / like.rank, alpha: shares.of(n) },
      convolutions: convolutionChanges(like, convolutions),
    });
    return runtime.compile({ outputs: { output } });
  };
  const { vae } = model;
  const x = decode(vae.weights, vae.config, div(input("z", [b, ...shape]), vae.config.scaling_factor));
  const text = await runtime.compile({ outputs: read });
  const unets = new Map<number, Program>();
  for (const n of rows) unets.set(n, await unetOf(n));
  const decoder = await runtime.compile({ outputs: { x } });
  return { text, unet: async (n) => unets.get(n)!, decoder, all: [text, ...unets.values(), decoder], shape };
}

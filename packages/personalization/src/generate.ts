/** Pictures of a taught concept: the base model's generator with the dual path in it. */

import {
  type Denoiser,
  type GeneratedImages,
  type GenerateOptions,
  generate,
  type StableDiffusionModel,
} from "@likeness/diffusion";
import { input, type Runtime, type Tensor } from "@likeness/engine";
import type { Concept } from "./concept.ts";
import type { Factors } from "./method/losses.ts";
import { personalText } from "./method/personal-text.ts";
import { type ConvolutionChanges, personalUNet } from "./method/personal-unet.ts";
import { expectToken, placeholderFeeds } from "./prompts.ts";
import { conceptVariables, hardEmbedding, loadConcept } from "./tuning.ts";

export interface ConceptOptions {
  /** Share of the personalised branch; the concept's own if not given. */
  readonly alphaBlend?: number | undefined;
  /**
   * How much of that share the unconditional half of guidance has: 1, the default, all of it, as in the paper's reading; 0 none. What
   * it hasn't is part of what guidance leads towards.
   */
  readonly guidanceAlpha?: number | undefined;
}

/**
 * Runs the UNet with a concept whose values are variables of the runtime: all concepts of one rank have the same programs, which
 * a runtime with `keepPrograms` compiles once.
 */
export function conceptDenoiser(
  runtime: Runtime,
  model: StableDiffusionModel,
  concept: Concept,
  { alphaBlend = concept.alphaBlend, guidanceAlpha = 1 }: ConceptOptions = {},
): Denoiser {
  const shares = sharesOf(alphaBlend, guidanceAlpha);
  const { v, factors, convolutions, all } = conceptVariables(model, concept.rank, concept.convolutions?.rank);
  const { weights, config } = model.textEncoder;
  const length = model.tokenizer.modelMaxLength;
  return {
    build: (sample, timestep) => {
      const shape = [sample.shape[0]!, length, config.hidden_size];
      const [softContext, hardContext] = [input("soft_context", shape), input("hard_context", shape)];
      const scale = concept.loraAlpha / concept.rank;
      const alpha = shares.of(sample.shape[0]!);
      const changes = { factors, scale, convolutions: convolutionChanges(concept, convolutions) };
      return personalUNet(model, { sample, timestep, softContext, hardContext, alpha, ...changes });
    },
    condition: async (prompts) => {
      await loadConcept(runtime, all, concept);
      const shape = [prompts.length, length];
      const prompt = { ids: input("ids", shape, "int32"), mask: input("mask", shape) };
      const soft = personalText(weights, config, prompt, v);
      const hard = personalText(weights, config, prompt, hardEmbedding(model, input("hard_id", [1], "int32")));
      const r = await runtime.evaluate(
        { soft, hard },
        {
          ...placeholderFeeds(model.tokenizer, prompts, concept.token, concept.hardTokenId),
          hard_id: Int32Array.of(concept.hardTokenId),
        },
      );
      return {
        ...(shares.soft && { soft_context: r.soft as Float32Array }),
        ...(shares.hard && { hard_context: r.hard as Float32Array }),
        ...shares.feeds(prompts.length, prompts.length - 1),
      };
    },
  };
}

/** A concept's convolutions in the UNet; undefined if it has none. */
export const convolutionChanges = (
  { convolutions }: Pick<Concept, "convolutions">,
  factors: readonly Factors[],
): ConvolutionChanges | undefined => convolutions && { factors, scale: convolutions.loraAlpha / convolutions.rank };

export interface Shares {
  /** Whether the branches are there at all. */
  readonly soft: boolean;
  readonly hard: boolean;
  /** The UNet's alpha for so many rows. */
  of(rows: number): number | Tensor;
  /** What an alpha that differs between rows is fed with: for prompts of which the first so many are guidance's unconditional ones. */
  feeds(prompts: number, unconditional: number): Readonly<Record<string, Float32Array>>;
}

/** The share a of Eq. 5 in both halves of guidance: a·g in the unconditional one. */
export function sharesOf(alphaBlend: number, guidanceAlpha: number): Shares {
  if (alphaBlend === 0 || guidanceAlpha === 1)
    return { soft: alphaBlend > 0, hard: alphaBlend < 1, of: () => alphaBlend, feeds: () => ({}) };
  return {
    ...{ soft: true, hard: true },
    of: (rows) => input("alpha", [rows]),
    feeds: (prompts, unconditional) => ({
      alpha: new Float32Array(prompts).fill(alphaBlend).fill(alphaBlend * guidanceAlpha, 0, unconditional),
    }),
  };
}

/** Text to picture with a concept. @throws LikenessError if the prompt lacks the concept's token */
export async function generateConcept(
  runtime: Runtime,
  model: StableDiffusionModel,
  concept: Concept,
  options: GenerateOptions & ConceptOptions,
): Promise<GeneratedImages> {
  expectToken(options.prompt, concept.token);
  return generate(runtime, model, conceptDenoiser(runtime, model, concept, options), options);
}

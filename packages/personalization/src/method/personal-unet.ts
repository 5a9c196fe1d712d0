/** The base model's graphs as the method uses them: encoder pass, and the UNet with a concept. */

import {
  type AttentionMatrix,
  attentionMatrices,
  clipPixels,
  clipTextModel,
  clipVisionModel,
  embedTokens,
  resnetConvolutions,
  type StableDiffusionModel,
  tokenTable,
  unet2DConditionModel,
  unetEncoder,
} from "@likeness/diffusion";
import {
  add,
  constant,
  expand,
  gather,
  LikenessError,
  type LowRank,
  mul,
  reshape,
  resizeBilinear,
  type Tensor,
  type Weights,
  withLowRank,
} from "@likeness/engine";
import type { EncoderConfig } from "./config.ts";
import { dualPath } from "./dual-path.ts";
import { sharedTrunk, tokenEmbedder } from "./encoder.ts";
import { hypernetwork } from "./hypernetwork.ts";
import type { Factors } from "./losses.ts";

export interface Prediction {
  /** v*, (B, D). */
  readonly v: Tensor;
  /** One pair per attention matrix, in the order of attentionMatrices. */
  readonly factors: readonly Factors[];
}

export interface EncoderInputs {
  /** The photo, (B, 3, H, W) in [−1, 1]. */
  readonly pixels: Tensor;
  /** Its noisy latent at `timestep`, (B, C, h, w). */
  readonly sample: Tensor;
  readonly timestep: Tensor;
}

/** One pass of the tuning-encoder over photos. @throws LikenessError if the model has no picture encoder */
export function predictConcept(
  model: StableDiffusionModel,
  w: Weights,
  config: EncoderConfig,
  { pixels, sample, timestep }: EncoderInputs,
): Prediction {
  const vision = model.imageEncoder;
  if (!vision)
    throw new LikenessError("E_MODEL", {
      what: "image_encoder",
      where: model.folder,
      needed: "CLIP's picture encoder, which the tuning-encoder reads",
      found: "none",
      next: "Name one with --image-encoder, or tune without an encoder (--class-word).",
    });
  const side = vision.config.image_size;
  const sized = resizeBilinear(pixels, [side, side]);
  const { patches } = clipVisionModel(vision.weights, vision.config, clipPixels(sized));
  const encoderHiddenStates = emptyPrompt(model, sample.shape[0]!);
  const { mid } = unetEncoder(model.unet.weights, model.unet.config, { sample, timestep, encoderHiddenStates });
  const f = sharedTrunk(w.at("trunk"), config, { patches, mid, timestep });
  return {
    v: tokenEmbedder(w.at("token_embedder"), f, model.textEncoder.config.hidden_size),
    factors: hypernetwork(w.at("hypernetwork"), config, f, attentionMatrices(model.unet.config)),
  };
}

/** Text states of the empty prompt for a batch, (B, L, D). */
export function emptyPrompt(model: StableDiffusionModel, batch: number): Tensor {
  const { weights, config } = model.textEncoder;
  const { inputIds } = model.tokenizer.encode("");
  const ids = constant(inputIds, [1, inputIds.length]);
  const states = clipTextModel(weights, config, { inputsEmbeds: embedTokens(weights, config, ids) }).lastHiddenState;
  return expand(states, [batch, ...states.shape.slice(1)]);
}

/** Rows of the token table that are whole words, and which ids they have. */
export function wordTable(model: StableDiffusionModel): { ids: Int32Array; table: Tensor } {
  const ids = Int32Array.from(model.tokenizer.words());
  const { weights, config } = model.textEncoder;
  return { ids, table: gather(tokenTable(weights, config), constant(ids)) };
}

/** Low-rank changes by weight key. */
export const changesOf = (
  matrices: readonly AttentionMatrix[],
  factors: readonly Factors[],
  scale: number,
): Map<string, LowRank> => new Map(matrices.map(({ path }, i) => [`${path}.weight`, { ...factors[i]!, scale }]));

export interface ConvolutionChanges {
  /** a (r, in, kh, kw), b (out, r, 1, 1) */
  readonly factors: readonly Factors[];
  readonly scale: number;
}

export interface PersonalInputs {
  readonly sample: Tensor;
  readonly timestep: Tensor;
  /** Text states with the hard word, C_h, and with v*, C. */
  readonly hardContext: Tensor;
  readonly softContext: Tensor;
  readonly factors: readonly Factors[];
  /** alpha / r of the low-rank changes. */
  readonly scale: number;
  /** Changes of the ResNets' convolutions, in the order of resnetConvolutions: none by default, and in the paper. */
  readonly convolutions?: ConvolutionChanges | undefined;
  /** Share of the personalised branch, Eq. 5: one for all, or one for each of the batch, (B). */
  readonly alpha: number | Tensor;
  /** What the backward pass computes again instead of keeping: UNetOptions. */
  readonly recompute?: number | undefined;
}

/**
 * The UNet's prediction with a concept. Convolutions aren't in the paper: where they have changes, Eq. 5 with its hard branch
 * left as it is gives a·(W + s·ba)x + (1 − a)·Wx = Wx + a·s·(ba)x, so a share of the change beside the one convolution.
 */
export function personalUNet(
  model: StableDiffusionModel,
  { sample, timestep, hardContext, softContext, factors, scale, alpha, convolutions, recompute }: PersonalInputs,
): Tensor {
  const { config } = model.unet;
  const weights = convolutions && alpha !== 0 ? withConvolutions(model, convolutions, alpha) : model.unet.weights;
  const personal = withLowRank(weights, changesOf(attentionMatrices(config), factors, scale));
  const inputs = { sample, timestep, encoderHiddenStates: hardContext };
  const transformer2D = dualPath({ personal, softContext, alpha });
  return unet2DConditionModel(weights, config, inputs, { transformer2D, recompute });
}

function withConvolutions(
  model: StableDiffusionModel,
  { factors, scale }: ConvolutionChanges,
  alpha: number | Tensor,
): Weights {
  const share = typeof alpha === "number" ? alpha * scale : mul(alpha, scale);
  const changes = resnetConvolutions(model).map(
    ({ path }, i) => [`${path}.weight`, { ...factors[i]!, scale: share }] as const,
  );
  return withLowRank(model.unet.weights, new Map(changes));
}

/** signal·z + sigma·ε for one latent or a batch; levels (B). */
export const noisy = (z: Tensor, noise: Tensor, signal: Tensor, sigma: Tensor): Tensor =>
  add(mul(z, reshape(signal, [-1, 1, 1, 1])), mul(noise, reshape(sigma, [-1, 1, 1, 1])));

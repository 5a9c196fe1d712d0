/** diffusers' UNet2DConditionModel. */
import { checkpoint, concat, silu, type Tensor, type Weights } from "@likeness/engine";
import type { UNet2DConditionConfig } from "../config/unet.ts";
import { timeMlp, timestepEmbedding } from "./embeddings.ts";
import { conv2dLayer, groupNormLayer, zeros } from "./layers.ts";
import { downsample2D, resnetBlock2D, upsample2D } from "./resnet.ts";
import { type Transformer2D, type Transformer2DConfig, transformer2DModel } from "./transformer-2d.ts";

export interface UNetInputs {
  /** Noisy latents (B, in_channels, h, w). */
  readonly sample: Tensor;
  /** (B) float32 */
  readonly timestep: Tensor;
  /** Text states (B, L, cross_attention_dim). */
  readonly encoderHiddenStates: Tensor;
}

export interface UNetOptions {
  /** Runs the attention blocks; the personalization package puts its dual path here. */
  readonly transformer2D?: Transformer2D;
  /**
   * The backward pass computes again what costs at most so many FLOPs per byte, instead of keeping it: 0 for all but
   * products, convolutions and attention, Infinity for whole blocks. By default all is kept.
   */
  readonly recompute?: number | undefined;
}

/** Predicted noise (or v), shaped as the sample. */
export function unet2DConditionModel(
  w: Weights,
  config: UNet2DConditionConfig,
  inputs: UNetInputs,
  options: UNetOptions = {},
): Tensor {
  const run = runner(config, inputs, options, timeEmbedding(w, config, inputs.timestep));
  const { skips, last } = downPath(w, config, inputs.sample, run);
  let h = midBlock(w, config, last, run);
  const widths = [...config.block_out_channels].reverse();
  config.up_block_types.forEach((type, i) => {
    const block = w.at("up_blocks").at(String(i));
    for (let j = 0; j <= config.layers_per_block; j++) {
      h = run.resnet(block.at("resnets").at(String(j)), [h, skips.pop()!], widths[i]!);
      if (type === "CrossAttnUpBlock2D")
        h = run.transformer(block.at("attentions").at(String(j)), h, widths.length - 1 - i);
    }
    if (i < widths.length - 1) {
      const [, , height, width] = skips.at(-1)!.shape as [number, number, number, number];
      h = upsample2D(block.at("upsamplers").at("0"), h, [height, width]);
    }
  });
  h = silu(groupNormLayer(w.at("conv_norm_out"), h, { groups: config.norm_num_groups, eps: config.norm_eps }));
  return conv2dLayer(w.at("conv_out"), h, config.out_channels, { init: zeros });
}

/** Down path and middle block alone: the features that the tuning-encoder reads (method.md 1.3). */
export function unetEncoder(
  w: Weights,
  config: UNet2DConditionConfig,
  inputs: UNetInputs,
): { mid: Tensor; skips: readonly Tensor[] } {
  const run = runner(config, inputs, {}, timeEmbedding(w, config, inputs.timestep));
  const { skips, last } = downPath(w, config, inputs.sample, run);
  return { mid: midBlock(w, config, last, run), skips };
}

function timeEmbedding(w: Weights, config: UNet2DConditionConfig, timestep: Tensor): Tensor {
  const first = config.block_out_channels[0]!;
  const sinusoid = timestepEmbedding(timestep, first, {
    flipSinToCos: config.flip_sin_to_cos,
    freqShift: config.freq_shift,
  });
  return timeMlp(w.at("time_embedding"), sinusoid, 4 * first);
}

interface Runner {
  /** `xs` are joined along their channels. */
  resnet(w: Weights, xs: readonly Tensor[], out: number, scale?: number): Tensor;
  /** `level` counts from the highest resolution. */
  transformer(w: Weights, x: Tensor, level: number): Tensor;
}

function runner(
  config: UNet2DConditionConfig,
  { encoderHiddenStates }: UNetInputs,
  { transformer2D = transformer2DModel, recompute }: UNetOptions,
  temb: Tensor,
): Runner {
  const wrap = <T>(build: () => T): T => (recompute === undefined ? build() : checkpoint(build, recompute));
  const groups = config.norm_num_groups;
  return {
    resnet: (w, xs, out, scale = 1) =>
      wrap(() => resnetBlock2D(w, concat(xs, 1), temb, { out, groups, eps: config.norm_eps, scale })),
    transformer: (w, x, level) =>
      wrap(() => transformer2D(w, x, encoderHiddenStates, transformerConfig(config, level))),
  };
}

const perLevel = (value: number | readonly number[], level: number): number =>
  typeof value === "number" ? value : value[level]!;

/** Heads and depth of the attention blocks at one level of resolution. */
export const transformerConfig = (config: UNet2DConditionConfig, level: number): Transformer2DConfig => ({
  heads: perLevel(config.attention_head_dim, level),
  layers: perLevel(config.transformer_layers_per_block, level),
  groups: config.norm_num_groups,
  useLinearProjection: config.use_linear_projection,
});

function downPath(
  w: Weights,
  config: UNet2DConditionConfig,
  sample: Tensor,
  run: Runner,
): { skips: Tensor[]; last: Tensor } {
  const widths = config.block_out_channels;
  let h = conv2dLayer(w.at("conv_in"), sample, widths[0]!);
  const skips = [h];
  config.down_block_types.forEach((type, i) => {
    const block = w.at("down_blocks").at(String(i));
    for (let j = 0; j < config.layers_per_block; j++) {
      h = run.resnet(block.at("resnets").at(String(j)), [h], widths[i]!);
      if (type === "CrossAttnDownBlock2D") h = run.transformer(block.at("attentions").at(String(j)), h, i);
      skips.push(h);
    }
    if (i < widths.length - 1) {
      h = downsample2D(block.at("downsamplers").at("0"), h);
      skips.push(h);
    }
  });
  return { skips, last: h };
}

function midBlock(w: Weights, config: UNet2DConditionConfig, x: Tensor, run: Runner): Tensor {
  const m = w.at("mid_block");
  const out = x.shape[1]!;
  const scale = config.mid_block_scale_factor;
  let h = run.resnet(m.at("resnets").at("0"), [x], out, scale);
  h = run.transformer(m.at("attentions").at("0"), h, config.block_out_channels.length - 1);
  return run.resnet(m.at("resnets").at("1"), [h], out, scale);
}

/** One of the q, k, v projection matrices that the hypernetwork changes. */
export interface AttentionMatrix {
  /** Module path, e.g. down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q; the weight adds ".weight". */
  readonly path: string;
  readonly dIn: number;
  readonly dOut: number;
}

/** All q, k, v matrices in the order of the forward pass: 96 in SD 1.x and 2.x. */
export function attentionMatrices(config: UNet2DConditionConfig): AttentionMatrix[] {
  const widths = config.block_out_channels;
  const levels = widths.length;
  const found: AttentionMatrix[] = [];
  const visit = (path: string, level: number): void => {
    for (let k = 0; k < transformerConfig(config, level).layers; k++)
      for (const attn of ["attn1", "attn2"])
        for (const to of ["to_q", "to_k", "to_v"]) {
          const dIn = attn === "attn2" && to !== "to_q" ? config.cross_attention_dim : widths[level]!;
          found.push({ path: `${path}.transformer_blocks.${k}.${attn}.${to}`, dIn, dOut: widths[level]! });
        }
  };
  config.down_block_types.forEach((type, i) => {
    for (let j = 0; type === "CrossAttnDownBlock2D" && j < config.layers_per_block; j++)
      visit(`down_blocks.${i}.attentions.${j}`, i);
  });
  visit("mid_block.attentions.0", levels - 1);
  config.up_block_types.forEach((type, i) => {
    for (let j = 0; type === "CrossAttnUpBlock2D" && j <= config.layers_per_block; j++)
      visit(`up_blocks.${i}.attentions.${j}`, levels - 1 - i);
  });
  return found;
}

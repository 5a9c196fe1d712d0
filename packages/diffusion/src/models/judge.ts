/**
 * The picture tower of an evaluation's judge, which no generator was trained with, beside CLIP's text tower: a residual network that
 * sees a picture once and says two things about it, what text goes with it and which instance it shows.
 */
import { concat, max, mean, reshape, silu, type Tensor, type Weights } from "@likeness/engine";
import type { JudgeConfig } from "../config/judge.ts";
import { conv2dLayer, groupNormLayer, linearLayer } from "./layers.ts";
import { downsample2D, resnetBlock2D } from "./resnet.ts";

export interface JudgedPicture {
  /** (B, projection_dim), to compare with texts. */
  readonly embeds: Tensor;
  /** (B, instance_dim), to compare with other pictures. */
  readonly instance: Tensor;
}

/** pixels (B, 3, S, S) in [−1, 1]. Neither result is normalised. */
export function judgePicture(w: Weights, config: JudgeConfig, pixels: Tensor): JudgedPicture {
  const {
    patch_size: p,
    block_out_channels: widths,
    layers_per_block: layers,
    norm_num_groups: groups,
  } = config.vision_config;
  const v = w.at("vision_model");
  let x = conv2dLayer(v.at("conv_in"), pixels, widths[0]!, { kernel: p, stride: p, padding: 0 });
  for (const [i, out] of widths.entries()) {
    const block = v.at(`down_blocks.${i}`);
    for (let j = 0; j < layers; j++)
      x = resnetBlock2D(block.at(`resnets.${j}`), x, undefined, { out, groups, eps: 1e-5 });
    if (i < widths.length - 1) x = downsample2D(block.at("downsamplers.0"), x);
  }
  const normed = silu(groupNormLayer(v.at("conv_norm_out"), x, { groups }));
  const map = reshape(normed, [normed.shape[0]!, normed.shape[1]!, -1]);
  const pooled = concat([mean(map, [2]), max(map, [2])], 1);
  const project = (name: string, to: number): Tensor =>
    linearLayer(w.at(name), pooled, to, { bias: false, init: { kind: "normal", std: pooled.shape[1]! ** -0.5 } });
  return {
    embeds: project("visual_projection", config.projection_dim),
    instance: project("instance_projection", config.instance_dim),
  };
}

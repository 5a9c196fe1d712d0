/** diffusers' AutoencoderKL: pictures ↔ latents. */
import { add, clip, reshape, silu, slice, type Tensor, transpose, type Weights } from "@likeness/engine";
import type { AutoencoderKLConfig } from "../config/vae.ts";
import { attentionCore } from "./attention.ts";
import { conv2dLayer, groupNormLayer, linearLayer } from "./layers.ts";
import { downsample2D, resnetBlock2D, upsample2D } from "./resnet.ts";

const EPS = 1e-6;

/** Mean and log-variance of q(z | x). x (B, 3, H, W) in [−1, 1] → two tensors (B, latent, H/f, W/f). */
export function encode(w: Weights, config: AutoencoderKLConfig, x: Tensor): { mean: Tensor; logvar: Tensor } {
  const { block_out_channels: widths, norm_num_groups: groups, latent_channels: latent } = config;
  const e = w.at("encoder");
  let h = conv2dLayer(e.at("conv_in"), x, widths[0]!);
  widths.forEach((out, i) => {
    const block = e.at("down_blocks").at(String(i));
    for (let j = 0; j < config.layers_per_block; j++)
      h = resnetBlock2D(block.at("resnets").at(String(j)), h, undefined, { out, groups, eps: EPS });
    if (i < widths.length - 1) h = downsample2D(block.at("downsamplers").at("0"), h, 0);
  });
  h = midBlock(e.at("mid_block"), h, config);
  h = silu(groupNormLayer(e.at("conv_norm_out"), h, { groups, eps: EPS }));
  h = conv2dLayer(e.at("conv_out"), h, 2 * latent);
  if (config.use_quant_conv) h = conv2dLayer(w.at("quant_conv"), h, 2 * latent, { kernel: 1 });
  const [mean, logvar] = [slice(h, [0], [latent], [1]), slice(h, [latent], [2 * latent], [1])];
  return { mean, logvar: clip(logvar, -30, 20) };
}

/** Latents (B, latent, h, w), not scaled by scaling_factor → pictures (B, 3, h·f, w·f), about [−1, 1]. */
export function decode(w: Weights, config: AutoencoderKLConfig, z: Tensor): Tensor {
  const { block_out_channels: widths, norm_num_groups: groups } = config;
  const d = w.at("decoder");
  let h = config.use_post_quant_conv
    ? conv2dLayer(w.at("post_quant_conv"), z, config.latent_channels, { kernel: 1 })
    : z;
  h = conv2dLayer(d.at("conv_in"), h, widths.at(-1)!);
  h = midBlock(d.at("mid_block"), h, config);
  [...widths].reverse().forEach((out, i) => {
    const block = d.at("up_blocks").at(String(i));
    for (let j = 0; j <= config.layers_per_block; j++)
      h = resnetBlock2D(block.at("resnets").at(String(j)), h, undefined, { out, groups, eps: EPS });
    if (i < widths.length - 1) h = upsample2D(block.at("upsamplers").at("0"), h);
  });
  h = silu(groupNormLayer(d.at("conv_norm_out"), h, { groups, eps: EPS }));
  return conv2dLayer(d.at("conv_out"), h, config.out_channels);
}

function midBlock(w: Weights, x: Tensor, config: AutoencoderKLConfig): Tensor {
  const options = { out: x.shape[1]!, groups: config.norm_num_groups, eps: EPS };
  let h = resnetBlock2D(w.at("resnets").at("0"), x, undefined, options);
  if (config.mid_block_add_attention) h = spatialAttention(w.at("attentions").at("0"), h, config.norm_num_groups);
  return resnetBlock2D(w.at("resnets").at("1"), h, undefined, options);
}

/** One-head self-attention over the places of a map, with biases and a residual. */
function spatialAttention(w: Weights, x: Tensor, groups: number): Tensor {
  const [b, c, h, wd] = x.shape as [number, number, number, number];
  const tokens = transpose(
    reshape(groupNormLayer(w.at("group_norm"), x, { groups, eps: EPS }), [b, c, h * wd]),
    [0, 2, 1],
  );
  const out = linearLayer(w.at("to_out").at("0"), attentionCore(w, tokens, tokens, 1, true), c);
  return add(x, reshape(transpose(out, [0, 2, 1]), x.shape));
}

/** Keys of old files → keys of today, for the middle attention. */
export const oldAttentionKeys = (key: string): string =>
  key
    .replace(/(mid_block\.attentions\.0\.)to_q\./, "$1query.")
    .replace(/(mid_block\.attentions\.0\.)to_k\./, "$1key.")
    .replace(/(mid_block\.attentions\.0\.)to_v\./, "$1value.")
    .replace(/(mid_block\.attentions\.0\.)to_out\.0\./, "$1proj_attn.");

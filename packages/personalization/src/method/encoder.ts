/** From backbone features to the shared map, and from the map to the word embedding (paper, section 4.1). */

import {
  conv2dLayer,
  groupNormLayer,
  layerNormLayer,
  linearLayer,
  timestepEmbedding,
  zeros,
} from "@likeness/diffusion";
import {
  add,
  concat,
  gelu,
  type Init,
  mean,
  mul,
  reshape,
  resizeBilinear,
  silu,
  slice,
  type Tensor,
  transpose,
  type Weights,
} from "@likeness/engine";
import type { EncoderConfig } from "./config.ts";

export interface BackboneFeatures {
  /** CLIP patch tokens after post_layernorm, (B, N, D) with N a square. */
  readonly patches: Tensor;
  /** The UNet's middle block on the noisy latent with the empty prompt, (B, C, h, w). */
  readonly mid: Tensor;
  /** Timestep of that latent, (B) float32. */
  readonly timestep: Tensor;
}

/** The shared convolutional network: features of both backbones → F (B, width, grid, grid). */
export function sharedTrunk(w: Weights, config: EncoderConfig, { patches, mid, timestep }: BackboneFeatures): Tensor {
  const { width, norm_groups: groups, grid } = config;
  const norm = (name: string, x: Tensor): Tensor => groupNormLayer(w.at(name), x, { groups });
  let c = silu(norm("clip_norm1", conv2dLayer(w.at("clip_conv1"), tokensToMap(patches), width, { kernel: 1 })));
  c = silu(norm("clip_norm2", conv2dLayer(w.at("clip_conv2"), c, width, { stride: c.shape[2]! > grid ? 2 : 1 })));
  const u = silu(conv2dLayer(w.at("unet_conv"), norm("unet_norm", mid), width, { kernel: 1 }));
  let f = conv2dLayer(
    w.at("fuse"),
    concat([resizeBilinear(c, [grid, grid]), resizeBilinear(u, [grid, grid])], 1),
    width,
  );
  const film = linearLayer(
    w.at("film"),
    timestepEmbedding(timestep, 320, { flipSinToCos: true, freqShift: 0 }),
    2 * width,
    { init: zeros },
  );
  const [scale, shift] = [0, 1].map((i) => filmPart(film, i, width));
  f = add(add(f, mul(f, scale!)), shift!);
  for (let i = 0; i < config.trunk_blocks; i++) f = residual(w.at("blocks").at(String(i)), f, groups);
  return f;
}

/** The token embedder: F → v* (B, dim). The start of its last bias decides where in the word space it begins. */
export function tokenEmbedder(w: Weights, f: Tensor, dim: number): Tensor {
  const width = f.shape[1]!;
  const pooled = mean(silu(conv2dLayer(w.at("conv"), f, width, { stride: 2 })), [2, 3]);
  const h = gelu(linearLayer(w.at("fc1"), layerNormLayer(w.at("norm"), pooled), width));
  return linearLayer(w.at("fc2"), h, dim, { init: smallOut });
}

const smallOut: Init = { kind: "normal", std: 1e-3 };

function residual(w: Weights, x: Tensor, groups: number): Tensor {
  const width = x.shape[1]!;
  const half = (i: 1 | 2, h: Tensor, init?: Init): Tensor =>
    conv2dLayer(w.at(`conv${i}`), silu(groupNormLayer(w.at(`norm${i}`), h, { groups })), width, init && { init });
  return add(x, half(2, half(1, x), zeros));
}

const filmPart = (film: Tensor, part: number, width: number): Tensor => {
  const b = film.shape[0]!;
  return reshape(slice(film, [part * width], [(part + 1) * width], [1]), [b, width, 1, 1]);
};

function tokensToMap(tokens: Tensor): Tensor {
  const [b, n, d] = tokens.shape as [number, number, number];
  const side = Math.sqrt(n);
  return reshape(transpose(tokens, [0, 2, 1]), [b, d, side, side]);
}

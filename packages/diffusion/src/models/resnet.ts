/** diffusers' resnet.py: ResnetBlock2D, Downsample2D, Upsample2D. */
import { add, pad, resizeNearest, silu, slice, type Tensor, type Weights } from "@likeness/engine";
import { addToChannels, conv2dLayer, groupNormLayer, linearLayer, scaled, zeros } from "./layers.ts";

export interface ResnetOptions {
  readonly out: number;
  readonly groups: number;
  readonly eps: number;
  /** diffusers' output_scale_factor. */
  readonly scale?: number;
}

/** ResnetBlock2D. x (B, C, H, W), temb (B, T) or none → (B, out, H, W). */
export function resnetBlock2D(
  w: Weights,
  x: Tensor,
  temb: Tensor | undefined,
  { out, groups, eps, scale = 1 }: ResnetOptions,
): Tensor {
  let h = silu(groupNormLayer(w.at("norm1"), x, { groups, eps }));
  h = conv2dLayer(w.at("conv1"), h, out);
  if (temb) h = addToChannels(h, linearLayer(w.at("time_emb_proj"), silu(temb), out));
  h = silu(groupNormLayer(w.at("norm2"), h, { groups, eps }));
  h = conv2dLayer(w.at("conv2"), h, out, { init: zeros }); // a new block starts as the identity
  const skip = x.shape[1] === out ? x : conv2dLayer(w.at("conv_shortcut"), x, out, { kernel: 1 });
  return scaled(add(skip, h), 1 / scale);
}

/** Downsample2D by a strided convolution; `padding` 0 pads right and below only, as the autoencoder does. */
export function downsample2D(w: Weights, x: Tensor, padding: 0 | 1 = 1): Tensor {
  const input =
    padding === 0
      ? pad(x, [
          [0, 0],
          [0, 0],
          [0, 1],
          [0, 1],
        ])
      : x;
  return conv2dLayer(w.at("conv"), input, x.shape[1]!, { stride: 2, padding });
}

/** Upsample2D: nearest by two, then a convolution; `size` (H, W) cuts a last row or column off, for odd sizes. */
export function upsample2D(w: Weights, x: Tensor, size?: readonly [number, number]): Tensor {
  const doubled = resizeNearest(x, 2);
  const [, , h, wd] = doubled.shape as [number, number, number, number];
  const fits = !size || (size[0] === h && size[1] === wd);
  return conv2dLayer(w.at("conv"), fits ? doubled : slice(doubled, [0, 0], size, [2, 3]), x.shape[1]!);
}

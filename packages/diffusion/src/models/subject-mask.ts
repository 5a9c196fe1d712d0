/** Where the subject of a photo is: a head on the model's picture encoder, patch by patch. */
import { concat, gelu, reshape, slice, type Tensor, transpose, type Weights } from "@likeness/engine";
import type { SubjectMaskConfig } from "../config/subject-mask.ts";
import type { CLIPVision } from "../training/autoencoder.ts";
import { clipPixels } from "../training/clip.ts";
import { clipVisionModel } from "./clip-vision.ts";
import { layerNormLayer, linearLayer } from "./layers.ts";

/**
 * Logits of each pixel's being subject, (B, S, S), from pixels (B, 3, S, S) in [−1, 1] of the size that the tower reads. The tower
 * says what a patch is part of, from its middle and its last layer, the patch's own pixels where in it the edge runs.
 */
export function subjectMask(
  w: Weights,
  { hidden_size: d }: SubjectMaskConfig,
  tower: CLIPVision,
  pixels: Tensor,
): Tensor {
  const { patch_size: p, num_hidden_layers: layers } = tower.config;
  const { patches, hiddenStates } = clipVisionModel(tower.weights, tower.config, clipPixels(pixels));
  const middle = hiddenStates[layers >> 1]!;
  const n = patches.shape[1]!;
  const tokens = layerNormLayer(w.at("norm"), slice(middle, [1], [n + 1], [1]));
  const x = concat([patches, tokens, patchesOf(pixels, p)], 2);
  return pixelsOf(linearLayer(w.at("fc2"), gelu(linearLayer(w.at("fc1"), x, d)), p * p), p);
}

/** (B, C, S, S) → (B, N, C·p·p), patches row by row. */
export function patchesOf(x: Tensor, p: number): Tensor {
  const [b, c, h, w] = x.shape as [number, number, number, number];
  const cells = transpose(reshape(x, [b, c, h / p, p, w / p, p]), [0, 2, 4, 1, 3, 5]);
  return reshape(cells, [b, (h / p) * (w / p), c * p * p]);
}

/** (B, N, p·p) of a square picture → (B, S, S). */
export function pixelsOf(x: Tensor, p: number): Tensor {
  const [b, n] = x.shape as [number, number];
  const side = Math.sqrt(n);
  return reshape(transpose(reshape(x, [b, side, side, p, p]), [0, 1, 3, 2, 4]), [b, side * p, side * p]);
}

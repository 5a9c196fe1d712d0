/** The dual path of Eq. 5, at the level of diffusers' Transformer2DModel. */

import {
  attentionLayer,
  basicTransformerBlock,
  feedForward,
  layerNormLayer,
  linearLayer,
  lowRankProduct,
  mapOf,
  mergeHeads,
  splitHeads,
  type Transformer2D,
  type Transformer2DConfig,
  tokensOf,
} from "@likeness/diffusion";
import { add, attention, mul, type Tensor, type Weights } from "@likeness/engine";

export interface DualPathOptions {
  /** The UNet's weights with the concept's low-rank changes; the hook is handed the vanilla ones. */
  readonly personal: Weights;
  /** Text states C of the prompt with v*, (B, L, D). */
  readonly softContext: Tensor;
  /** Share a of the personalised branch. */
  readonly alpha: number;
}

/**
 * out = a·B(f, C, W + AB) + (1 − a)·B(f, C_h, W): both branches read the same f, and C_h is the context that the UNet
 * is given. Norm, proj_in, norm1 and the base products of the first self-attention are shared; the blend is made before
 * proj_out, which is affine. a = 0 runs the hard branch alone, a = 1 the soft one.
 * @eq date:5
 */
export function dualPath({ personal, softContext, alpha }: DualPathOptions): Transformer2D {
  return (w, x, hardContext, config) => {
    const soft = personal.at(w.prefix.slice(0, -1));
    const tokens = tokensOf(w, x, config);
    const first = (v: Weights): Weights => v.at("transformer_blocks").at("0");
    const [hardAttended, softAttended] = selfAttention(
      first(w),
      first(soft),
      layerNormLayer(first(w).at("norm1"), tokens),
      config.heads,
      alpha,
    );
    const hard = hardAttended && finish(w, tokens, hardAttended, hardContext, config);
    const own = softAttended && finish(soft, tokens, softAttended, softContext, config);
    if (!hard || !own) return mapOf(w, (hard ?? own)!, x, config);
    return mapOf(w, add(mul(own, alpha), mul(hard, 1 - alpha)), x, config);
  };
}

/** The first self-attention of both branches, before to_out, from one set of base products. */
function selfAttention(
  w: Weights,
  soft: Weights,
  x: Tensor,
  heads: number,
  alpha: number,
): [Tensor | undefined, Tensor | undefined] {
  const c = x.shape.at(-1)!;
  const names = ["to_q", "to_k", "to_v"] as const;
  const base = names.map((n) => linearLayer(w.at("attn1").at(n), x, c, { bias: false }));
  const core = (qkv: readonly Tensor[]): Tensor => {
    const [q, k, v] = qkv.map((t) => splitHeads(t, heads)) as [Tensor, Tensor, Tensor];
    return mergeHeads(attention(q, k, v));
  };
  const changed = (): Tensor[] =>
    names.map((n, i) => {
      const shared = w.at("attn1").at(n).lowRank("weight"); // those of a LoRA on the base model: in `base` already
      const own = soft.at("attn1").at(n).lowRank("weight");
      return own.filter((c) => !shared.includes(c)).reduce((y, c) => add(y, lowRankProduct(x, c)), base[i]!);
    });
  return [alpha < 1 ? core(base) : undefined, alpha > 0 ? core(changed()) : undefined];
}

/** The rest of a branch: to_out, cross-attention and feed-forward of the first block, then the other blocks. */
function finish(
  w: Weights,
  tokens: Tensor,
  attended: Tensor,
  context: Tensor,
  { heads, layers }: Transformer2DConfig,
): Tensor {
  const block = (i: number): Weights => w.at("transformer_blocks").at(String(i));
  const c = tokens.shape.at(-1)!;
  const out = (attn: Weights, x: Tensor): Tensor => linearLayer(attn.at("to_out").at("0"), x, c);
  let x = add(tokens, out(block(0).at("attn1"), attended));
  x = add(x, attentionLayer(block(0).at("attn2"), layerNormLayer(block(0).at("norm2"), x), context, heads));
  x = add(x, feedForward(block(0).at("ff"), layerNormLayer(block(0).at("norm3"), x)));
  for (let i = 1; i < layers; i++) x = basicTransformerBlock(block(i), x, context, heads);
  return x;
}

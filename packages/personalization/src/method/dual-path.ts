/** The dual path of Eq. 5, at the level of diffusers' Transformer2DModel. */

import {
  attentionLayer,
  feedForwardOut,
  gated,
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
import { add, attention, mul, reshape, sub, type Tensor, type Weights } from "@likeness/engine";

export interface DualPathOptions {
  /** The UNet's weights with the concept's low-rank changes; the hook is handed the vanilla ones. */
  readonly personal: Weights;
  /** Text states C of the prompt with v*, (B, L, D). */
  readonly softContext: Tensor;
  /** Share a of the personalised branch: one for all, or one for each of the batch, (B). */
  readonly alpha: number | Tensor;
}

/**
 * out = a·B(f, C, W + AB) + (1 − a)·B(f, C_h, W): both branches read the same f, and C_h is the context that the UNet
 * is given. Norm, proj_in, norm1 and the base products of the first self-attention are shared; the blend is made before
 * the last layer of the last feed-forward and before proj_out, which are affine. The number 0 runs the hard branch alone, 1 the soft one.
 * @eq date:5
 */
export function dualPath({ personal, softContext, alpha }: DualPathOptions): Transformer2D {
  return (w, x, hardContext, config) => {
    const soft = personal.at(w.prefix.slice(0, -1));
    const tokens = tokensOf(w, x, config);
    const [a, rest] = sharesOfBranches(alpha);
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
    const blend = (f: (branch: Branch) => Tensor): Tensor =>
      hard && own ? add(mul(f(own), a), mul(f(hard), rest)) : f((hard ?? own)!);
    const last = w.at("transformer_blocks").at(String(config.layers - 1));
    const out = feedForwardOut(
      last.at("ff"),
      blend((b) => b.gated),
      tokens.shape.at(-1)!,
    );
    return mapOf(
      w,
      add(
        blend((b) => b.tokens),
        out,
      ),
      x,
      config,
    );
  };
}

/** a and 1 − a, as they multiply tokens (B, L, C). */
function sharesOfBranches(alpha: number | Tensor): [number | Tensor, number | Tensor] {
  if (typeof alpha === "number") return [alpha, 1 - alpha];
  const a = reshape(alpha, [-1, 1, 1]);
  return [a, sub(1, a)];
}

/** The first self-attention of both branches, before to_out, from one set of base products. */
function selfAttention(
  w: Weights,
  soft: Weights,
  x: Tensor,
  heads: number,
  alpha: number | Tensor,
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
  return [alpha === 1 ? undefined : core(base), alpha === 0 ? undefined : core(changed())];
}

/** A branch before the last layer of its last feed-forward: what the result is added to, and what that layer gets. */
interface Branch {
  readonly tokens: Tensor;
  readonly gated: Tensor;
}

/** The rest of a branch: to_out, cross-attention and feed-forward of the first block, then the other blocks. */
function finish(
  w: Weights,
  tokens: Tensor,
  attended: Tensor,
  context: Tensor,
  { heads, layers }: Transformer2DConfig,
): Branch {
  const block = (i: number): Weights => w.at("transformer_blocks").at(String(i));
  const c = tokens.shape.at(-1)!;
  const out = (attn: Weights, x: Tensor): Tensor => linearLayer(attn.at("to_out").at("0"), x, c);
  let x = add(tokens, out(block(0).at("attn1"), attended));
  for (let i = 0; ; i++) {
    x = add(x, attentionLayer(block(i).at("attn2"), layerNormLayer(block(i).at("norm2"), x), context, heads));
    const wide = gated(block(i).at("ff"), layerNormLayer(block(i).at("norm3"), x));
    if (i === layers - 1) return { tokens: x, gated: wide };
    x = add(x, feedForwardOut(block(i).at("ff"), wide, c));
    const normed = layerNormLayer(block(i + 1).at("norm1"), x);
    x = add(x, attentionLayer(block(i + 1).at("attn1"), normed, normed, heads));
  }
}

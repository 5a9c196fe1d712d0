/** The paper's losses. Arar et al. 2023, arXiv:2307.06925 (`date` in docs/papers.md). */
import {
  add,
  argMax,
  concat,
  constant,
  div,
  gather,
  logSumExp,
  matmul,
  maximum,
  mean,
  mul,
  reshape,
  sqrt,
  square,
  stopGradient,
  sub,
  sum,
  type Tensor,
  topK,
} from "@likeness/engine";

/**
 * Denoising loss E‖ε − ε_θ(z_t, t, y)‖², as a mean over all axes.
 * @eq date:1
 * @param target (B, C, h, w): ε, or v for models that predict it
 * @param modelOutput (B, C, h, w)
 * @param weigh of the squared errors (B, C, h, w)
 */
export const diffusionLoss = (
  target: Tensor,
  modelOutput: Tensor,
  weigh: (errors: Tensor) => Tensor = (errors) => errors,
): Tensor => mean(weigh(square(sub(modelOutput, target))));

export interface ContrastiveOptions {
  /** Nearest words that count as positives. */
  readonly k: number;
  /** Temperature of the dot products. */
  readonly tau: number;
  /** Compare directions instead of raw dot products (the paper writes raw ones). */
  readonly normalize?: boolean;
}

/**
 * Nearest-neighbour contrastive loss: −log of the share that the k nearest words N(v) have among N(v) and the other
 * predictions v′ of the batch; mean over the batch. Neighbours are found by cosine, without a gradient; gradient flows
 * to v and to v′. 0 for a batch of one.
 * @eq date:3
 * @param v (B, D) predicted embeddings
 * @param table (V, D) token embeddings of the words that may be neighbours
 */
export function contrastiveLoss(v: Tensor, table: Tensor, { k, tau, normalize = false }: ContrastiveOptions): Tensor {
  const [b, d] = v.shape as [number, number];
  const { indices } = topK(stopGradient(cosines(v, table)), k);
  const rows = stopGradient(gather(table, indices)); // (B, k, D)
  const [own, words] = normalize ? [unit(v), unit(rows)] : [v, rows];
  const pos = reshape(matmul(reshape(own, [b, 1, d]), words, { transB: true, alpha: 1 / tau }), [b, k]);
  const among = matmul(own, own, { transB: true, alpha: 1 / tau }); // v·v′/τ, the diagonal left out below
  const hidden = constant(
    Float32Array.from({ length: b * b }, (_, i) => (i % (b + 1) === 0 ? -1e30 : 0)),
    [b, b],
  );
  const all = concat([pos, add(among, hidden)], 1);
  return mean(sub(logSumExp(all, [1]), logSumExp(pos, [1])));
}

/**
 * ‖v‖², mean over the batch: keeps the norm that Eq. 3 leaves free.
 * @eq date:4
 */
export const embeddingL2 = (v: Tensor): Tensor => mean(sum(square(v), [-1]));

/**
 * The codebook setting of the paper's figure 4, in place of Eq. 3: 1 − cos(v, NN(v)), mean over the batch. It pulls each
 * prediction onto its nearest word, which gets no gradient.
 * @param v (B, D) predicted embeddings
 * @param table (V, D) token embeddings of the words that may be neighbours
 */
export function codebookLoss(v: Tensor, table: Tensor): Tensor {
  const words = stopGradient(gather(table, nearestWord(v, table)));
  return mean(sub(1, sum(mul(unit(v), unit(words)), [1])));
}

/**
 * ‖v − e‖²/‖e‖², mean over the batch, for words e that name the pictures. Not of the paper, which has no labels: it shortens
 * the way from a picture to its word (docs/decisions/0004).
 * @param v (B, D) predicted embeddings
 * @param words (B, D) token embeddings
 */
export const wordLoss = (v: Tensor, words: Tensor): Tensor =>
  mean(div(sum(square(sub(v, words)), [1]), sum(square(words), [1])));

/** A factor pair of one matrix: a (B, in, r) or (in, r), b (B, r, out) or (r, out); the offset is a·b. */
export interface Factors {
  readonly a: Tensor;
  readonly b: Tensor;
}

/** ‖a·b‖²_F, mean over the batch, by r × r Gram matrices: tr((aᵀa)(b·bᵀ)). Never makes the in × out product. */
export function offsetNorm({ a, b }: Factors): Tensor {
  const batch = a.shape.length === 3 ? a.shape[0]! : 1;
  const grams = mul(matmul(a, a, { transA: true }), matmul(b, b, { transB: true }));
  return mul(sum(grams), 1 / batch);
}

/** Mean over all matrices of ‖a·b‖²_F: the paper's L2 on weight offsets. */
export const offsetsL2 = (factors: readonly Factors[]): Tensor =>
  mul(factors.map(offsetNorm).reduce(add), 1 / factors.length);

/** Mean over all matrices of ‖a·b − a₀·b₀‖²_F: the anchor of the tuning, as a norm of [a, −a₀]·[b; b₀]. */
export function anchorL2(factors: readonly Factors[], start: readonly Factors[]): Tensor {
  const joined = factors.map(({ a, b }, i) => {
    const { a: a0, b: b0 } = start[i]!;
    return { a: concat([a, mul(a0, -1)], -1), b: concat([b, b0], -2) };
  });
  return offsetsL2(joined);
}

/** Cosine of each row of v (B, D) with each row of the table (V, D): (B, V). */
export const cosines = (v: Tensor, table: Tensor): Tensor => matmul(unit(v), unit(table), { transB: true });

/** Rows scaled to length one; a zero row stays zero. */
export const unit = (x: Tensor): Tensor => div(x, maximum(sqrt(sum(square(x), [-1], true)), 1e-12));

/** v_h, the nearest word of each embedding by cosine: its row index in the table (B) int32. No gradient. */
export const nearestWord = (v: Tensor, table: Tensor): Tensor => argMax(stopGradient(cosines(v, table)));

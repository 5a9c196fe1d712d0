/** Scaled dot-product attention; scores are made tile by tile, and again in the backward pass. */
import { defineOp, defineOp1, type OpContext } from "../core/op.ts";
import { size } from "../core/shape.ts";
import type { Shape, Tensor } from "../core/tensor.ts";
import type { Device, GraphBuilder } from "../onnx/builder.ts";
import { reshape } from "./movement.ts";

export interface AttentionOptions {
  /** Factor on q·kᵀ; 1/√D if not given. */
  readonly scale?: number;
  /** Added to the scores, (N, M); −∞-like entries hide keys. Gets no gradient. */
  readonly mask?: Tensor;
}

/**
 * softmax(scale·q·kᵀ + mask)·v.
 * @param q (..., N, D)
 * @param k (..., M, D)
 * @param v (..., M, Dv)
 * @returns (..., N, Dv)
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, { scale, mask }: AttentionOptions = {}): Tensor {
  const flat = (t: Tensor): Tensor => reshape(t, [-1, t.shape.at(-2)!, t.shape.at(-1)!]);
  const inputs = [flat(q), flat(k), flat(v), ...(mask ? [mask] : [])];
  const y = attentionOp(inputs, { scale: scale ?? 1 / Math.sqrt(q.shape.at(-1)!) });
  return reshape(y, [...q.shape.slice(0, -1), v.shape.at(-1)!]);
}

/**
 * Bytes of scores that a tile may hold. On a CPU a tile fits the last-level cache and is large enough to keep its cores busy;
 * on a GPU the fewest tiles are best, and WebGPU promises that a shader sees 128 MiB of one buffer, which is the largest tile.
 */
const tileBytesOn = (device: Device): number => (device === "cpu" ? 4 << 20 : 64 << 20);

interface Tile {
  /** Range of matrices (batch × heads) and of query rows. */
  readonly heads: readonly [number, number];
  readonly rows: readonly [number, number];
}

/** Groups of whole heads while they fit, else chunks of one head's queries. */
export function tiles(heads: number, n: number, m: number, device: Device = "cpu"): Tile[] {
  const perHead = n * m * 4;
  const most = tileBytesOn(device);
  const group = Math.max(1, Math.min(heads, Math.floor(most / perHead)));
  const chunks = Math.min(n, Math.max(1, Math.ceil(perHead / (2 * most))));
  const found: Tile[] = [];
  for (let h = 0; h < heads; h += group)
    for (let c = 0; c < chunks; c++)
      found.push({
        heads: [h, Math.min(heads, h + group)],
        rows: [Math.floor((c * n) / chunks), Math.floor(((c + 1) * n) / chunks)],
      });
  return found;
}

/** Of one tile's scores, on a CPU. */
function tileBytes(q: Tensor, k: Tensor): number {
  const [heads, n] = q.shape as [number, number];
  const m = k.shape[1]!;
  const [first] = tiles(heads, n, m);
  return 4 * m * (first!.heads[1] - first!.heads[0]) * (first!.rows[1] - first!.rows[0]);
}

/** Rows of a tile's heads; whole extents are not sliced. */
function cut(g: GraphBuilder, x: string, [heads, n]: Shape, tile: Tile): string {
  const cuts = [tile.heads, tile.rows].flatMap(([from, to], axis) =>
    to - from < [heads, n][axis]! ? [{ from, to, axis }] : [],
  );
  if (cuts.length === 0) return x;
  return g.slice(
    x,
    cuts.map((c) => c.from),
    cuts.map((c) => c.to),
    cuts.map((c) => c.axis),
  );
}

type HeadsOf = (tile: Tile) => string;

/** A function that gives a tile's heads of x, cut once for all tiles that share them. */
function headsOf(g: GraphBuilder, x: string, heads: number): HeadsOf {
  const known = new Map<number, string>();
  return ({ heads: [from, to] }) => {
    if (to - from === heads) return x;
    if (!known.has(from)) known.set(from, g.slice(x, [from], [to], [0]));
    return known.get(from)!;
  };
}

const cutMask = (g: GraphBuilder, mask: string, [n]: Shape, tile: Tile): string =>
  tile.rows[1] - tile.rows[0] < n! ? g.slice(mask, [tile.rows[0]], [tile.rows[1]], [0]) : mask;

/** Tiles of one head joined along the rows, then heads joined. */
function join(g: GraphBuilder, parts: readonly string[], list: readonly Tile[]): string {
  const groups = new Map<number, string[]>();
  for (const [i, { heads }] of list.entries()) groups.set(heads[0], [...(groups.get(heads[0]) ?? []), parts[i]!]);
  const heads = [...groups.values()].map((p) => (p.length === 1 ? p[0]! : g.add("Concat", p, { axis: 1 })));
  return heads.length === 1 ? heads[0]! : g.add("Concat", heads, { axis: 0 });
}

function probabilities(g: GraphBuilder, q: string, kT: string, mask: string | undefined): string {
  const scores = g.add("MatMul", [q, kT]);
  return g.add("Softmax", [mask ? g.add("Add", [scores, mask]) : scores], { axis: -1 });
}

const swap = (g: GraphBuilder, x: string): string => g.transpose(x, [0, 2, 1]);

function attend(
  g: GraphBuilder,
  [q, k, v, mask]: readonly string[],
  { attrs, inputs }: OpContext<{ scale: number }>,
): string {
  const [qs, ks] = [inputs[0]!.shape, inputs[1]!.shape];
  const list = tiles(qs[0]!, qs[1]!, ks[1]!, g.device);
  const scaled = g.add("Mul", [q!, g.scalar(attrs.scale)]);
  const [kT, vs] = [swap(g, k!), v!].map((x) => headsOf(g, x, ks[0]!)) as [HeadsOf, HeadsOf];
  const parts = list.map((t) => {
    const p = probabilities(g, cut(g, scaled, qs, t), kT(t), mask && cutMask(g, mask, qs, t));
    return g.add("MatMul", [p, vs(t)]);
  });
  return join(g, parts, list);
}

const attentionOp = defineOp1<{ scale: number }>({
  name: "attention",
  infer: ([q, , v]) => ({ shape: [...q!.shape.slice(0, -1), v!.shape.at(-1)!], dtype: q!.dtype }),
  flops: ({ inputs: [q, k, v] }) => 2 * size(q!.shape) * k!.shape.at(-2)! * (1 + v!.shape.at(-1)! / q!.shape.at(-1)!),
  workspace: ({ inputs: [q, k] }) => 2 * tileBytes(q!, k!) + 4 * (size(q!.shape) + size(k!.shape)),
  lower: attend,
  vjp: ({ inputs, outputs: [o], attrs }, [dy]) => {
    const [q, k, v, mask] = inputs;
    return attentionGrad([q!, k!, v!, o!, dy!, ...(mask ? [mask] : [])], attrs).slice(0, 3);
  },
});

/**
 * Cotangents of q, k and v. With P the probabilities: δ = Σ dO·O, dS = P·(dO·vᵀ − δ), dQ = s·dS·k, dKᵀ = (s·q)ᵀ·dS,
 * dVᵀ = dOᵀ·P. A zero made from each tile's results is added to the scale of the next, so that tiles run one by one.
 */
const attentionGrad = defineOp<{ scale: number }>({
  name: "attentionGrad",
  infer: ([q, k, v]) => [q!, k!, v!],
  // scores, dQ and dK are as wide as q; dP and dV as v
  flops: ({ inputs: [q, k, v] }) =>
    2 * size(q!.shape) * k!.shape.at(-2)! * (3 + (2 * v!.shape.at(-1)!) / q!.shape.at(-1)!),
  workspace: ({ inputs: [q, k, v] }) => 5 * tileBytes(q!, k!) + 8 * (size(k!.shape) + size(v!.shape)),
  lower: attendBackward,
});

function attendBackward(
  g: GraphBuilder,
  [q, k, v, o, dO, mask]: readonly string[],
  { attrs, inputs }: OpContext<{ scale: number }>,
): string[] {
  const [qs, ks] = inputs.map((x) => x.shape) as [Shape, Shape];
  const list = tiles(qs[0]!, qs[1]!, ks[1]!, g.device);
  // dO·vᵀ − δ is one product: −δ is a column more of dO, with a row of ones below vᵀ
  const ones = g.add("Expand", [g.scalar(1), g.extents([ks[0]!, 1, ks[1]!])]);
  const [ksOf, kT, vT] = [k!, swap(g, k!), g.add("Concat", [swap(g, v!), ones], { axis: 1 })].map((x) =>
    headsOf(g, x, ks[0]!),
  ) as [HeadsOf, HeadsOf, HeadsOf];
  const dQ: string[] = [];
  const dKT = new Map<number, string>();
  const dVT = new Map<number, string>();
  let zero: string | undefined;
  for (const t of list) {
    const head = t.heads[0];
    const scale = zero ? g.add("Add", [g.scalar(attrs.scale), zero]) : g.scalar(attrs.scale);
    const qt = g.add("Mul", [cut(g, q!, qs, t), scale]);
    const dOt = cut(g, dO!, qs, t);
    const p = probabilities(g, qt, kT(t), mask && cutMask(g, mask, qs, t));
    const delta = g.add("ReduceSum", [g.add("Mul", [dOt, cut(g, o!, qs, t)]), g.ints([2])], { keepdims: 1 });
    const dP = g.add("MatMul", [g.add("Concat", [dOt, g.add("Neg", [delta])], { axis: 2 }), vT(t)]);
    const dS = g.add("Mul", [p, dP]);
    dQ.push(g.add("Mul", [g.add("MatMul", [dS, ksOf(t)]), g.scalar(attrs.scale)]));
    const accumulate = (sums: Map<number, string>, part: string): string => {
      const before = sums.get(head);
      const now = before ? g.add("Add", [before, part]) : part;
      sums.set(head, now);
      return now;
    };
    const dk = accumulate(dKT, g.add("MatMul", [swap(g, qt), dS]));
    const dv = accumulate(dVT, g.add("MatMul", [swap(g, dOt), p]));
    if (list.length > 1) zero = zeroAfter(g, [dQ.at(-1)!, dk, dv]);
  }
  const whole = (sums: Map<number, string>): string => {
    const parts = [...sums.values()];
    return swap(g, parts.length === 1 ? parts[0]! : g.add("Concat", parts, { axis: 0 }));
  };
  return [join(g, dQ, list), whole(dKT), whole(dVT)];
}

/** A scalar 0 that can only be known once all of `results` are. */
function zeroAfter(g: GraphBuilder, results: readonly string[]): string {
  const firsts = results.map((r) => g.reshape(g.slice(r, [0, 0, 0], [1, 1, 1], [0, 1, 2]), [1]));
  const total = firsts.reduce((a, b) => g.add("Add", [a, b]));
  return g.reshape(g.add("Mul", [total, g.floats([0], [1])]), []);
}

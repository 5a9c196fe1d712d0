/** Symbolic tensors: outputs of the nodes of an immutable graph, with static shape and dtype. */
import type { Op } from "./op.ts";

export type DType = "float32" | "float16" | "bfloat16" | "int32" | "int64" | "uint8" | "int8" | "bool";
export type Shape = readonly number[];
export type Attrs = Readonly<Record<string, unknown>>;

export interface Tensor {
  readonly node: Node;
  /** Which of the node's outputs this is. */
  readonly index: number;
  readonly shape: Shape;
  readonly dtype: DType;
}

/** A number stands for a float32 scalar wherever an operand may broadcast. */
export type Operand = Tensor | number;

/** What one `checkpoint` call makes; the backward pass makes it again instead of keeping it. */
export interface Region {
  /** FLOPs per byte of its results up to which a node is made again; those of dearer ones are kept. */
  readonly upTo: number;
}

export interface Node {
  /** Grows with creation, so ascending ids are a topological order and, by default, the schedule. */
  readonly id: number;
  // biome-ignore lint/suspicious/noExplicitAny: each op knows its own attributes
  readonly op: Op<any>;
  readonly inputs: readonly Tensor[];
  readonly attrs: Attrs;
  readonly outputs: readonly Tensor[];
  readonly region: Region | undefined;
}

let nextId = 0;
let currentRegion: Region | undefined;

/** Makes a node; `specs` are the shapes and dtypes of its outputs. */
export function makeNode(
  // biome-ignore lint/suspicious/noExplicitAny: see Node.op
  op: Op<any>,
  inputs: readonly Tensor[],
  attrs: Attrs,
  specs: readonly { shape: Shape; dtype: DType }[],
): Node {
  const outputs: Tensor[] = [];
  const node: Node = { id: nextId++, op, inputs, attrs, outputs, region: currentRegion };
  for (const [index, { shape, dtype }] of specs.entries()) outputs.push({ node, index, shape, dtype });
  return node;
}

/** Runs `build` with every node that it makes put into `region`; an outer region wins over an inner one. */
export function withRegion<T>(region: Region | undefined, build: () => T): T {
  const before = currentRegion;
  currentRegion = before && region ? before : region;
  try {
    return build();
  } finally {
    currentRegion = before;
  }
}

/** All nodes that `tensors` depend on, in ascending id (= topological) order. */
export function ancestors(tensors: readonly Tensor[]): Node[] {
  const seen = new Set<Node>();
  const stack = tensors.map((t) => t.node);
  for (let node = stack.pop(); node; node = stack.pop()) {
    if (seen.has(node)) continue;
    seen.add(node);
    for (const { node: input } of node.inputs) if (!seen.has(input)) stack.push(input);
  }
  return [...seen].sort((a, b) => a.id - b.id);
}

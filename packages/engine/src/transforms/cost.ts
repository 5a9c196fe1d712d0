/** What a program will take, told from its graph before it is compiled. */
import { inputOp, variableOp, type WeightRef, weightOp } from "../core/leaves.ts";
import { size } from "../core/shape.ts";
import { ancestors, type Node, type Tensor } from "../core/tensor.ts";

export interface Cost {
  /** Floating-point operations of the ops that declare them, two per multiply-add. */
  readonly flops: number;
  /** Those of them that a CPU makes in 8 bits. */
  readonly int8Flops: number;
  /** Largest sum of results that are held at one time, and of what the op under way needs beside them. */
  readonly liveBytes: number;
  /** Of the mapped weights, as they are in their files, each byte once. */
  readonly weightBytes: number;
}

/** Results that are their first input under another shape or name: nothing is copied. */
const VIEWS = new Set(["reshape", "stopGradient"]);
/** Leaves that whoever runs the program holds. */
const HELD: ReadonlySet<unknown> = new Set([inputOp, variableOp]);
const WIDTH: Readonly<Record<string, number>> = { float16: 2, bfloat16: 2, uint8: 1, bool: 1, int64: 8 };
const bytesOf = (t: Tensor): number => size(t.shape) * (WIDTH[t.dtype] ?? 4);

/**
 * The cost of running `outputs` in the order of creation, which is the schedule (onnx/lower.ts). Inputs and variables are
 * held by whoever runs the program and count as live throughout.
 */
export function costOf(outputs: readonly Tensor[]): Cost {
  const nodes = ancestors(outputs);
  const lastUse = new Map<Tensor, number>();
  const roots = new Map<Tensor, Tensor>();
  const root = (t: Tensor): Tensor => roots.get(t) ?? t;
  for (const [at, node] of nodes.entries()) {
    if (VIEWS.has(node.op.name)) roots.set(node.outputs[0]!, root(node.inputs[0]!));
    for (const x of node.inputs) lastUse.set(root(x), at);
  }
  for (const t of outputs) lastUse.set(root(t), nodes.length);

  const dying = new Map<number, number>();
  const weights = new Map<string, number>();
  const readWeight = (node: Node, x: Tensor): void => {
    if (x.node.op !== weightOp) return;
    const { file, offset, shape, length } = x.node.attrs.ref as WeightRef;
    const int8 = inInt8(node, x);
    weights.set(`${file} ${offset} ${int8}`, int8 ? size(shape) : length);
  };
  let [flops, int8Flops, live, peak] = [0, 0, 0, 0];
  for (const [at, node] of nodes.entries()) {
    if (node.op === weightOp || node.op.name === "constant") continue;
    for (const x of node.inputs) readWeight(node, x);
    const count = node.op.flops?.(node) ?? 0;
    flops += count;
    if (node.op.int8?.(node)) int8Flops += count;
    if (!VIEWS.has(node.op.name))
      for (const y of node.outputs) {
        live += bytesOf(y);
        const end = HELD.has(node.op) ? nodes.length : (lastUse.get(y) ?? at);
        dying.set(end, (dying.get(end) ?? 0) + bytesOf(y));
      }
    peak = Math.max(peak, live + (node.op.workspace?.(node) ?? 0) + widened(node));
    live -= dying.get(at) ?? 0;
  }
  return { flops, int8Flops, liveBytes: peak, weightBytes: [...weights.values()].reduce((a, b) => a + b, 0) };
}

/** Whether the node reads the copy in 8 bits of this input on a CPU. */
const inInt8 = (node: Node, x: Tensor): boolean => x === node.inputs[1] && node.op.int8?.(node) !== undefined;

/** Weights that this node widens to float32 for itself. */
const widened = (node: Node): number =>
  node.inputs
    .filter((x) => x.node.op === weightOp && (x.node.attrs.ref as WeightRef).dtype !== x.dtype && !inInt8(node, x))
    .reduce((n, x) => n + bytesOf(x), 0);

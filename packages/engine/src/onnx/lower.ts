/** Graph → ONNX model: dead nodes left out, schedule = order of creation. */
import { dirname, sep } from "node:path";
import { inputOp, leafName, variableOp, type WeightRef, weightOp } from "../core/leaves.ts";
import { ancestors, type DType, type Node, type Tensor } from "../core/tensor.ts";
import { LikenessError } from "../errors.ts";
import { type Device, GraphBuilder, liveNodes } from "./builder.ts";
import { encodeModel } from "./proto.ts";

export const OPSET = 20;

export interface LoweredGraph {
  readonly model: Uint8Array;
  readonly inputs: readonly { name: string; shape: readonly number[]; dtype: string }[];
  readonly variables: readonly { name: string; shape: readonly number[] }[];
  /** Folder that mapped weights are named relative to; undefined without mapped weights. */
  readonly weightRoot: string | undefined;
  readonly nodeCount: number;
  /** Weights that the program is given as float32. */
  readonly wide: readonly { name: string; ref: WeightRef }[];
}

/**
 * ONNX Runtime walks back from the graph's leaves and, of a node's inputs, takes the producer that stands LAST in the
 * list first. A list in reverse order of creation is therefore run just in time and in the order of creation, which
 * keeps rematerialised parts where the backward pass asked for them. Needs graphOptimizationLevel "disabled".
 */
export function lower(
  outputs: Readonly<Record<string, Tensor>>,
  device: Device,
  widened: ReadonlySet<DType> = new Set(),
  widenOnce = false,
): LoweredGraph {
  const nodes = ancestors(Object.values(outputs));
  const [inputs, variables] = [leaves(nodes, inputOp), leaves(nodes, variableOp)];
  const both = [...inputs, ...variables].find(({ name }) => Object.hasOwn(outputs, name));
  if (both) throw new Error(`"${both.name}" is an input or variable and an output too: give one of them another name.`);
  const refs = nodes.filter((n) => n.op === weightOp).map((n) => n.attrs.ref as WeightRef);
  const mapped = refs.filter((r) => !widened.has(r.dtype));
  expectRoom(refs.filter((r) => widened.has(r.dtype)));
  const folders = mapped.flatMap((r) => [dirname(r.file), ...(r.int8 === undefined ? [] : [r.int8])]);
  const weightRoot = mapped.length ? commonFolder(folders) : undefined;
  const g = new GraphBuilder(device, weightRoot ?? "/", widened, widenOnce);
  const names = new Map<Tensor, string>();

  const nameOf = (t: Tensor): string => {
    const ref = t.node.op === weightOp ? (t.node.attrs.ref as WeightRef) : undefined;
    const name = names.get(t)!;
    if (!ref || ref.dtype === t.dtype || widened.has(ref.dtype) || widenOnce) return name;
    // a Cast of its own at each use: the widened copy dies with the node that needs it, on a CPU if its shape isn't known
    return g.cast(device === "cpu" ? g.reshape(name, t.shape) : name, t.dtype);
  };
  for (const node of nodes) {
    const result = node.op.lower(g, node.inputs.map(nameOf), {
      attrs: node.attrs,
      inputs: node.inputs,
      outputs: node.outputs,
    });
    const list = typeof result === "string" ? [result] : result;
    for (const [i, name] of list.entries()) names.set(node.outputs[i]!, name);
  }
  const values = Object.entries(outputs).map(([name, t]) => {
    const from = nameOf(t);
    g.nodes.push({ opType: "Identity", domain: "", inputs: [from], outputs: [name], attributes: {} });
    return g.valueProto(name, t.shape, t.dtype);
  });
  const nodeProtos = liveNodes(g.nodes, Object.keys(outputs)).reverse();
  // of a weight with a copy in 8 bits, the whole one may be left unread
  const read = new Set(nodeProtos.flatMap((n) => n.inputs));
  const isRead = ({ name }: { name: string }): boolean => read.has(name);
  const unread = new Set(g.wide?.filter((w) => !isRead(w)).map(({ name }) => name));
  const model = encodeModel({
    nodes: nodeProtos,
    inputs: g.inputs.filter(({ name }) => !unread.has(name)),
    outputs: values,
    initializers: g.initializers.filter(isRead),
    opset: OPSET,
  });
  return {
    model,
    inputs,
    variables,
    weightRoot,
    nodeCount: nodeProtos.length,
    wide: g.wide?.filter(isRead) ?? [],
  };
}

const MOST_BYTES = 1920 * 2 ** 20;

/** A model that carries its weights can't be larger than 2 GiB. */
function expectRoom(carried: readonly WeightRef[]): void {
  const bytes = [...new Map(carried.map((r) => [`${r.file} ${r.offset} ${r.shape}`, r.length * 2])).values()];
  const total = bytes.reduce((a, b) => a + b, 0);
  if (total > MOST_BYTES)
    throw new LikenessError("E_DEVICE", {
      what: `${carried[0]!.dtype} weights, which this GPU can't widen`,
      where: carried[0]!.file,
      needed: `at most ${MOST_BYTES >> 20} MiB of them as float32`,
      found: `${Math.ceil(total / 2 ** 20)} MiB`,
      next: "Use float32 files, or the CPU.",
    });
}

function leaves(nodes: Node[], op: unknown): { name: string; shape: readonly number[]; dtype: string }[] {
  const found = new Map<string, { name: string; shape: readonly number[]; dtype: string }>();
  for (const n of nodes) {
    if (n.op !== op) continue;
    const { shape, dtype } = n.outputs[0]!;
    const name = leafName(n.outputs[0]!);
    const before = found.get(name);
    if (before && String(before.shape) !== String(shape))
      throw new Error(`"${name}" is used with shapes (${before.shape}) and (${shape})`);
    found.set(name, { name, shape, dtype });
  }
  return [...found.values()];
}

function commonFolder(folders: string[]): string {
  const parts = folders.map((f) => f.split(sep));
  const first = parts[0]!;
  let n = 0;
  while (n < first.length && parts.every((p) => p[n] === first[n])) n++;
  return first.slice(0, n).join(sep) || sep;
}

/** Collects ONNX nodes while ops are lowered. The one place that knows ONNX's type numbers. */
import { relative } from "node:path";
import type { WeightRef } from "../core/leaves.ts";
import type { ConstantData } from "../core/op.ts";
import type { DType, Shape } from "../core/tensor.ts";
import { readWidened } from "../weights/read-at.ts";
import type { AttributeValue, InitializerProto, NodeProto, ValueProto } from "./proto.ts";

const ELEM_TYPE: Record<DType, number> = {
  float32: 1,
  uint8: 2,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  bfloat16: 16,
};

export type Device = "cpu" | "cuda" | "webgpu" | "dml" | "coreml";

type NodeAttrs = Readonly<Record<string, AttributeValue>>;

export class GraphBuilder {
  readonly nodes: NodeProto[] = [];
  readonly inputs: ValueProto[] = [];
  readonly initializers: InitializerProto[] = [];
  /** Which execution provider the graph is for; lowerings may choose by it. */
  readonly device: Device;
  /** Dtypes of weights that the device can't cast: they are widened here instead of mapped. */
  readonly widened: ReadonlySet<DType>;
  /** Folder that locations of mapped weights are relative to. */
  private readonly weightRoot: string;
  private readonly known = new Map<string, string>();
  private names = 0;

  constructor(device: Device, weightRoot: string, widened: ReadonlySet<DType> = new Set()) {
    this.device = device;
    this.widened = widened;
    this.weightRoot = weightRoot;
  }

  /** Adds a node with one output and returns the output's name. A domain precedes the op with a colon. */
  add(op: string, inputs: readonly string[], attributes: NodeAttrs = {}): string {
    return this.addMany(op, 1, inputs, attributes)[0]!;
  }

  addMany(op: string, count: number, inputs: readonly string[], attributes: NodeAttrs = {}): string[] {
    const outputs = Array.from({ length: count }, () => this.name("t"));
    const [opType, domain] = op.split(":").reverse();
    this.nodes.push({ opType: opType!, domain: domain ?? "", inputs, outputs, attributes });
    return outputs;
  }

  /** An int64 vector (or scalar, for a number), as ONNX wants its shapes and axes. */
  ints(values: readonly number[] | number): string {
    const list = typeof values === "number" ? [values] : values;
    const shape = typeof values === "number" ? [] : [list.length];
    return this.constant("int64", shape, new Uint8Array(BigInt64Array.from(list, BigInt).buffer));
  }

  scalar(value: number): string {
    return this.floats([value], []);
  }

  floats(values: readonly number[] | Float32Array, shape: Shape): string {
    return this.initializer(Float32Array.from(values), shape, "float32");
  }

  fill(value: number, count: number): string {
    return this.initializer(new Float32Array(count).fill(value), [count], "float32", `fill ${value} ${count}`);
  }

  initializer(data: ConstantData, shape: Shape, dtype: DType, key?: string): string {
    return this.constant(dtype, shape, new Uint8Array(data.buffer, data.byteOffset, data.byteLength), key);
  }

  /** Small constants are shared by value, large ones only by `key`. */
  private constant(dtype: DType, shape: Shape, data: Uint8Array, key?: string): string {
    const id = key ?? (data.length <= 64 ? `${dtype} ${shape} ${data}` : undefined);
    const before = id === undefined ? undefined : this.known.get(id);
    if (before) return before;
    const name = this.name("c");
    this.initializers.push({ name, elemType: ELEM_TYPE[dtype], shape, data });
    if (id !== undefined) this.known.set(id, name);
    return name;
  }

  graphInput(name: string, shape: Shape, dtype: DType): string {
    if (!this.known.has(`in ${name}`)) {
      this.known.set(`in ${name}`, name);
      this.inputs.push({ name, elemType: ELEM_TYPE[dtype], shape });
    }
    return name;
  }

  /** A weight that ONNX Runtime maps from its file, or, of a dtype that is to be widened, a float32 copy. */
  external(ref: WeightRef): string {
    const id = `file ${ref.file} ${ref.offset} ${ref.shape}`; // parts of one tensor may start at the same place
    if (this.widened.has(ref.dtype)) return this.initializer(readWidened(ref), ref.shape, "float32", id);
    const before = this.known.get(id);
    if (before) return before;
    const name = this.name("w");
    const data = { location: relative(this.weightRoot, ref.file), offset: ref.offset, length: ref.length };
    this.initializers.push({ name, elemType: ELEM_TYPE[ref.dtype], shape: ref.shape, data });
    this.known.set(id, name);
    return name;
  }

  cast(x: string, dtype: DType): string {
    return this.add("Cast", [x], { to: ELEM_TYPE[dtype] });
  }

  reshape(x: string, shape: Shape): string {
    return this.add("Reshape", [x, this.ints(shape)]);
  }

  transpose(x: string, perm: readonly number[]): string {
    return this.add("Transpose", [x], { perm });
  }

  slice(
    x: string,
    starts: readonly number[],
    ends: readonly number[],
    axes: readonly number[],
    steps?: readonly number[],
  ): string {
    const more = steps ? [this.ints(steps)] : [];
    return this.add("Slice", [x, this.ints(starts), this.ints(ends), this.ints(axes), ...more]);
  }

  /**
   * What `build` adds becomes a graph of its own within the graph, with float32 results of `shapes`. ONNX Runtime reuses memory
   * only between results of one size, and keeps it for that; what a frame takes it gives back at its end.
   */
  frame(shapes: readonly Shape[], build: () => readonly string[]): string[] {
    const start = this.nodes.length;
    const results = build();
    const then = liveNodes(this.nodes.splice(start), results); // sorted, as ONNX Runtime wants inner graphs
    const made = new Set(then.flatMap((n) => n.outputs));
    const read = then.flatMap((n) => [...n.inputs, ...(n.captures ?? [])]);
    const extents = shapes.map((shape) => this.ints(shape));
    const zeros = shapes.map(() => this.name("t"));
    const instead = extents.map((extent, i) => ({
      opType: "ConstantOfShape",
      domain: "",
      inputs: [extent],
      outputs: [zeros[i]!],
      attributes: {},
    }));
    const valuesOf = (names: readonly string[]): ValueProto[] =>
      names.map((name, i) => this.valueProto(name, shapes[i]!, "float32"));
    const outputs = shapes.map(() => this.name("t"));
    this.nodes.push({
      opType: "If",
      domain: "",
      inputs: [this.initializer(Uint8Array.of(1), [], "bool")],
      outputs,
      attributes: {
        then_branch: { graph: { nodes: then, outputs: valuesOf(results) } },
        else_branch: { graph: { nodes: instead, outputs: valuesOf(zeros) } },
      },
      captures: [...new Set(read.filter((name) => !made.has(name))), ...extents],
    });
    return outputs;
  }

  valueProto(name: string, shape: Shape, dtype: DType): ValueProto {
    return { name, elemType: ELEM_TYPE[dtype], shape };
  }

  private name(prefix: string): string {
    return `%${prefix}${this.names++}`; // "%": no clash with names of inputs and outputs
  }
}

/** Nodes that `outputs` depend on; lowering may add some for results that nobody reads. */
export function liveNodes<N extends Pick<NodeProto, "inputs" | "outputs" | "captures">>(
  nodes: readonly N[],
  outputs: readonly string[],
): N[] {
  const live = new Set(outputs);
  return nodes
    .reduceRight<N[]>((kept, n) => {
      if (n.outputs.some((o) => live.has(o))) {
        for (const i of [...n.inputs, ...(n.captures ?? [])]) live.add(i);
        kept.push(n);
      }
      return kept;
    }, [])
    .reverse();
}

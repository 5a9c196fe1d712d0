/** Collects ONNX nodes while ops are lowered. The one place that knows ONNX's type numbers. */
import { relative } from "node:path";
import { isHalf, type WeightRef } from "../core/leaves.ts";
import type { ConstantData } from "../core/op.ts";
import type { DType, Shape } from "../core/tensor.ts";
import { readWidened } from "../weights/read-at.ts";
import type { AttributeValue, InitializerProto, NodeProto, ValueProto } from "./proto.ts";

const ELEM_TYPE: Record<DType, number> = {
  float32: 1,
  uint8: 2,
  int8: 3,
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
  /** If set, float16 and bfloat16 weights are inputs, given as float32; these they are. */
  readonly wide: { name: string; ref: WeightRef }[] | undefined;
  /** Folder that locations of mapped weights are relative to. */
  private readonly weightRoot: string;
  private readonly known = new Map<string, string>();
  private readonly shared = new Map<string, readonly string[]>();
  private names = 0;

  constructor(device: Device, weightRoot: string, widened: ReadonlySet<DType> = new Set(), widenOnce = false) {
    this.device = device;
    this.widened = widened;
    this.wide = widenOnce ? [] : undefined;
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

  /** What `make` adds, once for each key: for nodes that several ops need of the same tensor. */
  once(key: string, make: () => readonly string[]): readonly string[] {
    const before = this.shared.get(key);
    if (before) return before;
    const names = make();
    this.shared.set(key, names);
    return names;
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

  /** `count` times the value; made in the run: as data they were most of a large model's bytes. */
  fill(value: number, count: number): string {
    return this.once(`fill ${value} ${count}`, () => [
      this.add("Expand", [this.scalar(value), this.extents([count])]),
    ])[0]!;
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

  /** An input, or a variable; the shape of an input counts as unknown, as for `extents`. */
  graphInput(name: string, shape: Shape, dtype: DType, { variable = false } = {}): string {
    if (!this.known.has(`in ${name}`)) {
      this.known.set(`in ${name}`, name);
      const told = variable || this.device !== "cpu" ? shape : undefined;
      this.inputs.push({ name, elemType: ELEM_TYPE[dtype], shape: told });
    }
    return name;
  }

  /** A weight that ONNX Runtime maps from its file, or, of a dtype that is to be widened, float32: a copy or an input. */
  external(ref: WeightRef): string {
    const id = `file ${ref.file} ${ref.offset} ${ref.shape}`; // parts of one tensor may start at the same place
    if (this.widened.has(ref.dtype)) return this.initializer(readWidened(ref), ref.shape, "float32", id);
    const before = this.known.get(id);
    if (before) return before;
    const name = this.name("w");
    this.known.set(id, name);
    if (this.wide && isHalf(ref.dtype)) {
      this.wide.push({ name, ref });
      this.inputs.push({ name, elemType: ELEM_TYPE.float32, shape: undefined });
      return name;
    }
    const data = { location: relative(this.weightRoot, ref.file), offset: ref.offset, length: ref.length };
    this.initializers.push({ name, elemType: ELEM_TYPE[ref.dtype], shape: ref.shape, data });
    return name;
  }

  cast(x: string, dtype: DType): string {
    return this.add("Cast", [x], { to: ELEM_TYPE[dtype] });
  }

  /**
   * A shape as ONNX Runtime can't know it before the run. Of results whose shape it knows it gives a dead one's memory only to one
   * of the same shape, and keeps it until the last of these is dead: several times what is live. What it doesn't know it gives back.
   */
  extents(shape: Shape): string {
    const ints = this.ints(shape);
    if (this.device !== "cpu") return ints; // GPUs do no arithmetic on int64
    const key = `extents ${shape}`;
    const before = this.known.get(key);
    if (before) return before;
    // how many numbers these are isn't known either, and so not even the rank: else ONNX Runtime would look for a dead result of
    // the same shape among all that there are, for each node
    const name = this.add("Slice", [ints, this.unknownZero(), this.ints([shape.length])]);
    this.known.set(key, name);
    return name;
  }

  /** Zero, but as the default of an input that is never fed. */
  private unknownZero(): string {
    const name = "%zero";
    if (!this.known.has(name)) {
      this.known.set(name, name);
      this.initializers.push({ name, elemType: ELEM_TYPE.int64, shape: [1], data: new Uint8Array(8) });
      this.inputs.push({ name, elemType: ELEM_TYPE.int64, shape: [1] });
    }
    return name;
  }

  reshape(x: string, shape: Shape): string {
    return this.add("Reshape", [x, this.extents(shape)]);
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

  valueProto(name: string, shape: Shape, dtype: DType): ValueProto {
    return { name, elemType: ELEM_TYPE[dtype], shape };
  }

  private name(prefix: string): string {
    return `%${prefix}${this.names++}`; // "%": no clash with names of inputs and outputs
  }
}

/** Nodes that `outputs` depend on; lowering may add some for results that nobody reads. */
export function liveNodes<N extends Pick<NodeProto, "inputs" | "outputs">>(
  nodes: readonly N[],
  outputs: readonly string[],
): N[] {
  const live = new Set(outputs);
  return nodes
    .reduceRight<N[]>((kept, n) => {
      if (n.outputs.some((o) => live.has(o))) {
        for (const i of n.inputs) live.add(i);
        kept.push(n);
      }
      return kept;
    }, [])
    .reverse();
}

/** An op is defined once: the shape of its result, its ONNX form and its vector-Jacobian product. */
import type { GraphBuilder } from "../onnx/builder.ts";
import { type Attrs, type DType, makeNode, type Operand, type Shape, type Tensor } from "./tensor.ts";

/** What a product with a weight W is for: x·Wᵀ, or the gradient dy·W to x. */
export type Int8Use = "forward" | "inputGrad";

export interface Spec {
  readonly shape: Shape;
  readonly dtype: DType;
}

export interface OpContext<A> {
  readonly attrs: A;
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
}

export interface Op<A extends Attrs = Attrs> {
  readonly name: string;
  /** Shapes and dtypes of the outputs; throws ShapeError. */
  infer(inputs: readonly Tensor[], attrs: A): Spec | readonly Spec[];
  /** Adds ONNX nodes that compute the outputs from the inputs' names; returns the outputs' names. */
  lower(g: GraphBuilder, inputs: readonly string[], ctx: OpContext<A>): string | readonly string[];
  /** Floating-point operations, two per multiply-add; left out where they are few beside the bytes that move. */
  flops?(ctx: OpContext<A>): number;
  /** Whether a CPU takes the 8-bit copy of inputs[1], if that is a weight that has one, and what for. */
  int8?(ctx: OpContext<A>): Int8Use | undefined;
  /** Bytes that computing takes on the CPU beside inputs and outputs; left out where they are few. */
  workspace?(ctx: OpContext<A>): number;
  /** Cotangents of the inputs from those of the outputs; undefined where an input gets none. */
  vjp?(ctx: OpContext<A>, dys: readonly (Tensor | undefined)[]): readonly (Tensor | undefined)[];
}

/** Registers nothing: returns a function that makes nodes of this op. */
export function defineOp<A extends Attrs>(op: Op<A>): (inputs: readonly Operand[], attrs: A) => readonly Tensor[] {
  return (operands, attrs) => {
    const inputs = operands.map(asTensor);
    const specs = op.infer(inputs, attrs);
    return makeNode(op, inputs, attrs, Array.isArray(specs) ? specs : [specs as Spec]).outputs;
  };
}

/** defineOp for ops with one output. */
export function defineOp1<A extends Attrs>(op: Op<A>): (inputs: readonly Operand[], attrs: A) => Tensor {
  const make = defineOp(op);
  return (inputs, attrs) => make(inputs, attrs)[0]!;
}

const constantOp: Op<{ data: ConstantData }> = {
  name: "constant",
  infer: () => {
    throw new Error("made by constant()");
  },
  lower: (g, _inputs, { attrs, outputs }) => g.initializer(attrs.data, outputs[0]!.shape, outputs[0]!.dtype),
};

export type ConstantData = Float32Array | Int32Array | Uint8Array;

/** A tensor baked into the graph. A number is a scalar; plain arrays are float32 unless `dtype` says int32 or bool. */
export function constant(data: number | readonly number[] | ConstantData, shape?: Shape, dtype?: DType): Tensor {
  const list = typeof data === "number" ? [data] : data;
  const type = dtype ?? (list instanceof Int32Array ? "int32" : list instanceof Uint8Array ? "bool" : "float32");
  const Kind = type === "int32" ? Int32Array : type === "bool" || type === "uint8" ? Uint8Array : Float32Array;
  const array = list instanceof Kind ? list : Kind.from(list as ArrayLike<number>);
  const dims = shape ?? (typeof data === "number" ? [] : [array.length]);
  return makeNode(constantOp, [], { data: array }, [{ shape: dims, dtype: type }]).outputs[0]!;
}

const asTensor = (x: Operand): Tensor => (typeof x === "number" ? constant(x) : x);

/** Leaves of a graph: what is fed at each run, what lives in the runtime, and what is mapped from a file. */
import type { Op } from "./op.ts";
import { type DType, makeNode, type Shape, type Tensor } from "./tensor.ts";

const noInfer = (): never => {
  throw new Error("leaves carry their shape");
};

export const inputOp: Op<{ name: string }> = {
  name: "input",
  infer: noInfer,
  lower: (g, _inputs, { attrs, outputs }) => g.graphInput(attrs.name, outputs[0]!.shape, outputs[0]!.dtype),
};

export const variableOp: Op<{ name: string }> = {
  name: "variable",
  infer: noInfer,
  lower: (g, _inputs, { attrs, outputs }) =>
    g.graphInput(attrs.name, outputs[0]!.shape, outputs[0]!.dtype, { variable: true }),
};

/** Where the bytes of a mapped weight lie. */
export interface WeightRef {
  /** Real path of the file (ONNX Runtime refuses symbolic links). */
  readonly file: string;
  /** Bytes from the start of the file. */
  readonly offset: number;
  readonly length: number;
  readonly dtype: DType;
  readonly shape: Shape;
  /** Folder of its copies in 8 bits, if a CPU is to make products with those (weights/int8.ts). */
  readonly int8?: string;
}

export const weightOp: Op<{ ref: WeightRef }> = {
  name: "weight",
  infer: noInfer,
  lower: (g, _inputs, { attrs }) => g.external(attrs.ref),
};

const leaf = <A extends Readonly<Record<string, unknown>>>(op: Op<A>, attrs: A, shape: Shape, dtype: DType): Tensor =>
  makeNode(op, [], attrs, [{ shape, dtype }]).outputs[0]!;

/** A tensor that every run is given under `name`. */
export const input = (name: string, shape: Shape, dtype: DType = "float32"): Tensor =>
  leaf(inputOp, { name }, shape, dtype);

/** A float32 tensor that stays in the runtime under `name`: written once, updated by programs. */
export const variable = (name: string, shape: Shape): Tensor => leaf(variableOp, { name }, shape, "float32");

/**
 * A weight mapped from a file, never copied through JavaScript. float16 and bfloat16 stay so in memory and are
 * widened to float32 anew at each use, or once per program if the runtime is told so.
 */
export const weight = (ref: WeightRef): Tensor =>
  leaf(weightOp, { ref }, ref.shape, isHalf(ref.dtype) ? "float32" : ref.dtype);

export const isHalf = (dtype: DType): boolean => dtype === "float16" || dtype === "bfloat16";

export const leafName = (t: Tensor): string => t.node.attrs.name as string;

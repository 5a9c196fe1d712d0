/** Floating-point operations of a graph by what they are for, from the counts that its ops declare. */
import { ancestors, type Tensor } from "../../packages/engine/src/core/tensor.ts";

const FAMILIES: Readonly<Record<string, string>> = {
  conv2d: "convolutions",
  conv2dInputGrad: "convolutions",
  conv2dWeightGrad: "convolutions",
  gemm: "matrix products",
  matmul: "matrix products",
  attention: "attention",
  attentionGrad: "attention",
};

/** FLOPs by family of all that `outputs` depend on; what is computed twice on purpose counts twice. */
export function flopsOf(outputs: readonly Tensor[]): Record<string, number> {
  const total: Record<string, number> = {};
  for (const node of ancestors(outputs)) {
    const flops = node.op.flops?.(node);
    if (flops === undefined) continue;
    const family = FAMILIES[node.op.name] ?? node.op.name;
    total[family] = (total[family] ?? 0) + flops;
  }
  return total;
}

/** Activations. On the CPU provider, ONNX Runtime's own fused kernels are two to four times faster than the chains. */
import { defineOp1 } from "../core/op.ts";
import type { Tensor } from "../core/tensor.ts";
import { add, cast, exp, greater, mul, sub, type Unary, unary } from "./arithmetic.ts";

export const sigmoid: Unary = unary("sigmoid", "Sigmoid", (_x, dy, y) => mul(dy, mul(y, sub(1, y))));
export const tanh: Unary = unary("tanh", "Tanh", (_x, dy, y) => mul(dy, sub(1, mul(y, y))));
/** d erf/dx = 2/√π · exp(−x²) */
export const erf: Unary = unary("erf", "Erf", (x, dy) => mul(dy, mul(2 / Math.sqrt(Math.PI), exp(mul(mul(x, -1), x)))));
export const relu: Unary = unary("relu", "Relu", (x, dy) => mul(dy, cast(greater(x, 0), "float32")));

/** x·σ(αx); dy/dx = σ + α·y·(1 − σ) */
const swish: (x: Tensor, alpha: number) => Tensor = (x, alpha) => swishOp([x], { alpha });
const swishOp = defineOp1<{ alpha: number }>({
  name: "swish",
  infer: ([x]) => x!,
  lower: (g, [x], { attrs: { alpha } }) => {
    if (g.device === "cpu") return g.add("com.microsoft:QuickGelu", [x!], { alpha: { float: alpha } });
    const scaled = alpha === 1 ? x! : g.add("Mul", [x!, g.scalar(alpha)]);
    return g.add("Mul", [x!, g.add("Sigmoid", [scaled])]);
  },
  vjp: ({ inputs: [x], outputs: [y], attrs: { alpha } }, [dy]) => {
    const s = sigmoid(alpha === 1 ? x! : mul(x!, alpha));
    const z = alpha === 1 ? y! : mul(y!, alpha);
    return [mul(dy!, add(s, sub(z, mul(z, s))))];
  },
});
/** SiLU, x·σ(x). */
export const silu: Unary = (x) => swish(x, 1);
/** x·σ(1.702x), the activation of OpenAI's CLIP. */
export const quickGelu: Unary = (x) => swish(x, 1.702);

/** GELU with the exact Φ (erf). dy/dx = Φ(x) + x·φ(x) */
export const gelu: Unary = (x) => geluOp([x], {});
const geluOp = defineOp1<Record<never, never>>({
  name: "gelu",
  infer: ([x]) => x!,
  lower: (g, [x]) => g.add("Gelu", [x!], { approximate: "none" }),
  vjp: ({ inputs: [x] }, [dy]) => {
    const cdf = mul(add(erf(mul(x!, Math.SQRT1_2)), 1), 0.5);
    const pdf = mul(exp(mul(mul(x!, -0.5), x!)), 1 / Math.sqrt(2 * Math.PI));
    return [mul(dy!, add(cdf, mul(x!, pdf)))];
  },
});

const K = Math.sqrt(2 / Math.PI);
/** GELU by tanh: x/2·(1 + tanh(√(2/π)(x + 0.044715x³))). */
export const geluTanh: Unary = (x) => geluTanhOp([x], {});
const geluTanhOp = defineOp1<Record<never, never>>({
  name: "geluTanh",
  infer: ([x]) => x!,
  lower: (g, [x]) => g.add("Gelu", [x!], { approximate: "tanh" }),
  vjp: ({ inputs: [x] }, [dy]) => {
    const x2 = mul(x!, x!);
    const t = tanh(mul(mul(x!, add(1, mul(x2, 0.044715))), K));
    const inner = mul(add(1, mul(x2, 3 * 0.044715)), K);
    return [mul(dy!, mul(0.5, add(add(1, t), mul(mul(x!, inner), sub(1, mul(t, t))))))];
  },
});

/** softplus, log(1 + eˣ); stable for large |x|. */
export const softplus: Unary = unary("softplus", "Softplus", (x, dy) => mul(dy, sigmoid(x)));

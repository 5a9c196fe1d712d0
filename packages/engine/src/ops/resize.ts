/** Resizing of (B, C, H, W) pictures and feature maps. */
import { constant, defineOp1 } from "../core/op.ts";
import type { Tensor } from "../core/tensor.ts";
import { matmul } from "./matmul.ts";
import { reshape } from "./movement.ts";
import { sum } from "./reduce.ts";

/** Every entry repeated `factor` times along both axes, as F.interpolate(mode="nearest"). */
export const resizeNearest: (x: Tensor, factor: number) => Tensor = (x, factor) => nearestOp([x], { factor });

const nearestOp = defineOp1<{ factor: number }>({
  name: "resizeNearest",
  infer: ([x], { factor }) => {
    const [b, c, h, w] = x!.shape as [number, number, number, number];
    return { shape: [b, c, h * factor, w * factor], dtype: x!.dtype };
  },
  lower: (g, [x], { attrs: { factor } }) =>
    g.add("Resize", [x!, "", g.floats([1, 1, factor, factor], [4])], {
      mode: "nearest",
      nearest_mode: "floor",
      coordinate_transformation_mode: "asymmetric",
    }),
  vjp: ({ inputs: [x], attrs: { factor } }, [dy]) => {
    const [b, c, h, w] = x!.shape as [number, number, number, number];
    return [sum(reshape(dy!, [b, c, h, factor, w, factor]), [3, 5])];
  },
});

/** Bilinear with half-pixel centres, as F.interpolate(mode="bilinear", align_corners=False); a matrix product for each side that changes. */
export function resizeBilinear(x: Tensor, [h, w]: readonly [number, number]): Tensor {
  const rows = x.shape[2] === h ? x : matmul(interpolation(x.shape[2]!, h), x);
  return x.shape[3] === w ? rows : matmul(rows, interpolation(x.shape[3]!, w), { transB: true });
}

/** (to, from) matrix of linear interpolation with half-pixel centres. */
function interpolation(from: number, to: number): Tensor {
  const m = new Float32Array(to * from);
  for (let i = 0; i < to; i++) {
    const at = Math.max(0, ((i + 0.5) * from) / to - 0.5);
    const low = Math.min(Math.floor(at), from - 1);
    const high = Math.min(low + 1, from - 1);
    m[i * from + low]! += 1 - (at - low);
    m[i * from + high]! += at - low;
  }
  return constant(m, [to, from]);
}

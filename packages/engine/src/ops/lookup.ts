/** Table look-ups. */
import { defineOp1 } from "../core/op.ts";
import { size } from "../core/shape.ts";
import type { Shape, Tensor } from "../core/tensor.ts";

/** Rows of a table: table (V, ...), int32 indices of any shape → (...indices, ...). Out-of-range indices fail the run. */
export const gather: (table: Tensor, indices: Tensor) => Tensor = (table, indices) => gatherOp([table, indices], {});

const gatherOp = defineOp1<Record<never, never>>({
  name: "gather",
  infer: ([table, indices]) => ({ shape: [...indices!.shape, ...table!.shape.slice(1)], dtype: table!.dtype }),
  lower: (g, [table, indices]) => g.add("Gather", [table!, indices!], { axis: 0 }),
  vjp: ({ inputs: [table, indices] }, [dy]) => [scatterRows(dy!, indices!, table!.shape), undefined],
});

/** A table of shape `shape`, zero but for the rows in use: row indices[i] gets the sum of its dy[i]. */
export const scatterRows: (dy: Tensor, indices: Tensor, shape: Shape) => Tensor = (dy, indices, shape) =>
  scatterOp([dy, indices], { shape });

const scatterOp = defineOp1<{ shape: Shape }>({
  name: "scatterRows",
  infer: ([dy], { shape }) => ({ shape, dtype: dy!.dtype }),
  lower: (g, [dy, indices], { attrs: { shape }, inputs }) => {
    const n = size(inputs[1]!.shape);
    const zeros = g.add("Expand", [g.scalar(0), g.extents(shape)]);
    const at = g.cast(g.reshape(indices!, [n, 1]), "int64");
    return g.add("ScatterND", [zeros, at, g.reshape(dy!, [n, ...shape.slice(1)])], { reduction: "add" });
  },
  vjp: ({ inputs: [, indices] }, [ddy]) => [gather(ddy!, indices!), undefined],
});

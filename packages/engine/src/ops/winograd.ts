/**
 * 3×3 convolutions with a quarter of the multiplications: Winograd's F(4×4, 3×3), from Lavin & Gray 2015 (arXiv:1509.09308).
 * Tiles of 6×6 pixels, two of which overlap, become 4×4 results: Y = Aᵀ[(G·g·Gᵀ) ⊙ (Bᵀ·d·B)]A, where the products ⊙ of all tiles
 * and channels are 36 matrix products.
 */
import type { Shape } from "../core/tensor.ts";
import type { GraphBuilder } from "../onnx/builder.ts";

type Matrix = readonly (readonly number[])[];

const B_T: Matrix = [
  [4, 0, -5, 0, 1, 0],
  [0, -4, -4, 1, 1, 0],
  [0, 4, -4, -1, 1, 0],
  [0, -2, -1, 2, 1, 0],
  [0, 2, -1, -2, 1, 0],
  [0, 4, 0, -5, 0, 1],
];
const G: Matrix = [
  [1 / 4, 0, 0],
  [-1 / 6, -1 / 6, -1 / 6],
  [-1 / 6, 1 / 6, -1 / 6],
  [1 / 24, 1 / 12, 1 / 6],
  [1 / 24, -1 / 12, 1 / 6],
  [0, 0, 1],
];
const A_T: Matrix = [
  [1, 1, 1, 1, 1, 0],
  [0, 1, -1, 2, -2, 0],
  [0, 1, 1, 4, 4, 0],
  [0, 1, -1, 8, -8, 1],
];

/** m·X·mᵀ as one matrix on the flattened X. */
const bothSides = (m: Matrix): Float32Array =>
  Float32Array.from(m.flatMap((p) => m.flatMap((q) => p.flatMap((a) => q.map((b) => a * b)))));

const PICTURE = bothSides(B_T);
const KERNEL = bothSides(G);
const KERNEL_TURNED = KERNEL.map((_, i) => KERNEL[i - (i % 9) + 8 - (i % 9)]!);
const RESULT = bothSides(A_T);

const TILE = 4;
const SPAN = 6;
const KERNEL_BYTES = 64e6;
const PICTURE_BYTES = 16e6;

export interface WinogradOptions {
  /** The gradient to the input instead: x has w's O channels, the result its C. */
  readonly transposed?: boolean;
  /** Transformed kernels, and transformed pictures, are held in parts of about this size. */
  readonly kernelBytes?: number;
  readonly pictureBytes?: number;
}

/** Bytes that `winograd` holds at a time beside x, w and the result. */
export function winogradBytes([b, , h, wd]: Shape, from: number, to: number): number {
  const kernel = Math.min(KERNEL_BYTES, 4 * SPAN ** 2 * from * to);
  const tiles = (b! * h! * wd!) / TILE ** 2;
  const band = (channels: number): number => Math.min(PICTURE_BYTES, 4 * SPAN ** 2 * channels * tiles);
  return kernel + 4 * b! * (from + to) * h! * wd! + 2 * band(from) + band(to);
}

/** x (B, C, H, W) with w (O, C, 3, 3), stride 1 and padding 1, H and W multiples of 4 → (B, O, H, W). */
export function winograd(
  g: GraphBuilder,
  [x, w, bias]: readonly string[],
  [b, , h, wd]: Shape,
  [o, c]: Shape,
  { transposed = false, kernelBytes = KERNEL_BYTES, pictureBytes = PICTURE_BYTES }: WinogradOptions = {},
): string {
  const [from, to] = transposed ? [o!, c!] : [c!, o!];
  const [rows, columns] = [h! / TILE, wd! / TILE];
  const kernels = parts(to, 4 * SPAN ** 2 * from, kernelBytes);
  const kernelOf = (part: Part): string => transformedKernels(g, w!, [o!, c!], part, transposed);
  const padded = g.add("Pad", [x!, g.ints([0, 0, 1, 1, 0, 0, TILE - 1, TILE - 1])]);
  // kernels are made once: for all bands at a time, or part by part for the one band
  const bands: Part[] =
    kernels.length === 1 ? parts(rows, 4 * SPAN ** 2 * from * b! * columns, pictureBytes) : [[0, rows]];
  let only: string | undefined;
  const results = bands.map(([top, count]) => {
    const lines = [top * TILE, (top + count + 1) * TILE] as const;
    const band = count === rows ? padded : g.slice(padded, [lines[0]], [lines[1]], [2]);
    const pictures = transformedPictures(g, band, [b!, from, count, columns]);
    if (kernels.length === 1) only ??= kernelOf(kernels[0]!);
    const products = kernels.map((part) =>
      g.add("com.microsoft:FusedMatMul", [only ?? kernelOf(part), pictures], { transA: Number(transposed) }),
    );
    const flat = g.reshape(joined(g, products, 1), [36, to * b! * count * columns]);
    const y = g.add("MatMul", [g.initializer(RESULT, [16, 36], "float32", "winograd result"), flat]);
    const back = b === 1 ? y : g.transpose(g.reshape(y, [16 * to, b!, count * columns]), [1, 0, 2]);
    return g.add("DepthToSpace", [g.reshape(back, [b!, 16 * to, count, columns])], { blocksize: TILE });
  });
  const result = joined(g, results, 2);
  return bias ? g.add("Add", [result, g.reshape(bias, [to, 1, 1])]) : result;
}

/** G·g·Gᵀ as (36, O, C), of a part of O; for the gradient of a part of C, and of the kernel turned around. */
function transformedKernels(
  g: GraphBuilder,
  w: string,
  [o, c]: [number, number],
  [start, n]: Part,
  transposed: boolean,
): string {
  const transform = transposed
    ? g.initializer(KERNEL_TURNED, [36, 9], "float32", "winograd kernel turned")
    : g.initializer(KERNEL, [36, 9], "float32", "winograd kernel");
  const part = n === (transposed ? c : o) ? w : g.slice(w, [start], [start + n], [Number(transposed)]);
  const [rows, columns] = transposed ? [o, n] : [n, c];
  const u = g.add("Gemm", [transform, g.reshape(part, [rows * columns, 9])], { transB: 1 });
  return g.reshape(u, [36, rows, columns]);
}

/** Bᵀ·d·B of a padded band of rows·4 + 4 lines, as (36, C, B·rows·columns). */
function transformedPictures(
  g: GraphBuilder,
  band: string,
  [b, c, rows, columns]: [number, number, number, number],
): string {
  // 4×4 blocks, each place in them a picture of its own; what tiles share with the next block is put behind
  const places = g.add("SpaceToDepth", [band], { blocksize: TILE });
  const blocks = g.reshape(places, [b, TILE, TILE, c, rows + 1, columns + 1]);
  const tiles = withNext(g, withNext(g, blocks, 2, 5, columns), 1, 4, rows);
  const flat = b === 1 ? tiles : g.transpose(g.reshape(tiles, [b, SPAN ** 2 * c, rows * columns]), [1, 0, 2]);
  const count = b * rows * columns;
  const v = g.add("MatMul", [
    g.initializer(PICTURE, [36, 36], "float32", "winograd picture"),
    g.reshape(flat, [36, c * count]),
  ]);
  return g.reshape(v, [36, c, count]);
}

/** The first two places of the next block behind the four of each: `place` is the axis of places, `at` that of blocks. */
function withNext(g: GraphBuilder, x: string, place: number, at: number, count: number): string {
  const own = g.slice(x, [0], [count], [at]);
  const next = g.slice(x, [0, 1], [SPAN - TILE, count + 1], [place, at]);
  return g.add("Concat", [own, next], { axis: place });
}

type Part = readonly [start: number, count: number];

/** Nearly equal parts of `all` things of `bytes` each. */
function parts(all: number, bytes: number, limit: number): Part[] {
  const n = Math.min(all, Math.ceil((all * bytes) / limit));
  const cut = (i: number): number => Math.round((i * all) / n);
  return Array.from({ length: n }, (_, i) => [cut(i), cut(i + 1) - cut(i)]);
}

const joined = (g: GraphBuilder, list: readonly string[], axis: number): string =>
  list.length === 1 ? list[0]! : g.add("Concat", list, { axis });

import type { Shape } from "./tensor.ts";

/** A tensor has another shape than the operation needs. */
export class ShapeError extends Error {
  override readonly name = "ShapeError";
  readonly code = "E_SHAPE";
}

export const size = (shape: Shape): number => shape.reduce((n, d) => n * d, 1);

export const sameShape = (a: Shape, b: Shape): boolean => a.length === b.length && a.every((d, i) => d === b[i]);

export const show = (shape: Shape): string => `(${shape.join(", ")})`;

/** The axis counted from the front. @throws ShapeError outside [-rank, rank) */
export function axisOf(axis: number, rank: number, op: string): number {
  if (!Number.isInteger(axis) || axis < -rank || axis >= rank)
    throw new ShapeError(`${op}: needed an axis in [${-rank}, ${rank}), found ${axis}. [E_SHAPE]`);
  return axis < 0 ? axis + rank : axis;
}

/** numpy's broadcasting of two shapes. */
export function broadcast(a: Shape, b: Shape, op: string): number[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const x = a[i - rank + a.length] ?? 1;
    const y = b[i - rank + b.length] ?? 1;
    if (x !== y && x !== 1 && y !== 1)
      throw new ShapeError(`${op}: shapes ${show(a)} and ${show(b)} do not broadcast. [E_SHAPE]`);
    return x === 1 ? y : x;
  });
}

export function expectRank(shape: Shape, rank: number, what: string): void {
  if (shape.length !== rank)
    throw new ShapeError(`${what}: needed ${rank} axes, found shape ${show(shape)}. [E_SHAPE]`);
}

export function expectShape(shape: Shape, needed: Shape, what: string): void {
  if (!sameShape(shape, needed))
    throw new ShapeError(`${what}: needed shape ${show(needed)}, found ${show(shape)}. [E_SHAPE]`);
}

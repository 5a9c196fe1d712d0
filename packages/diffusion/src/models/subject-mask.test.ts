import { constant, evaluate } from "@likeness/engine";
import { expect, test } from "vitest";
import { patchesOf, pixelsOf } from "./subject-mask.ts";

test("patches are cut row by row, with all channels of each, and put together again", async () => {
  const at = (c: number, y: number, x: number): number => 100 * c + 10 * y + x;
  const picture = Float32Array.from({ length: 2 * 36 }, (_, i) => at(Math.floor(i / 36), Math.floor(i / 6) % 6, i % 6));
  const cut = patchesOf(constant(picture, [1, 2, 6, 6]), 3);
  expect(cut.shape).toEqual([1, 4, 18]);
  const one = constant(picture.slice(0, 36), [1, 1, 6, 6]);
  const { cells, whole } = await evaluate({ cells: cut, whole: pixelsOf(patchesOf(one, 3), 3) });
  const third = [0, 1].flatMap((c) => [3, 4, 5].flatMap((y) => [0, 1, 2].map((x) => at(c, y, x))));
  expect([...cells.subarray(2 * 18, 3 * 18)]).toEqual(third);
  expect(whole).toEqual(picture.slice(0, 36));
});

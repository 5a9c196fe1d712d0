import { constant, counterRandom, evaluate, size } from "@likeness/engine";
import { expect, test } from "vitest";
import { lowRankProduct } from "./layers.ts";

test("a low-rank change with a scale for each of the batch is that of each alone", async () => {
  const random = counterRandom(1);
  const normal = (shape: readonly number[]) => constant(random.normal(size(shape)), shape);
  const [x, a, b] = [normal([2, 3, 5]), normal([5, 2]), normal([2, 4])];
  const found = await evaluate({
    both: lowRankProduct(x, { a, b, scale: constant([0.5, -2]) }),
    first: lowRankProduct(x, { a, b, scale: 0.5 }),
    second: lowRankProduct(x, { a, b, scale: -2 }),
  });
  const half = found.both.length / 2;
  for (let i = 0; i < 2 * half; i++) expect(found.both[i]).toBeCloseTo((i < half ? found.first : found.second)[i]!, 5);
});

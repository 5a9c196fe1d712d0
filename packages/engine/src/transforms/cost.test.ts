import { expect, test } from "vitest";
import { input } from "../core/leaves.ts";
import { add, matmul, reshape, silu, sum } from "../ops/index.ts";
import { costOf } from "./cost.ts";
import { checkpoint, grad } from "./grad.ts";

const MATRIX = 4 * 16 * 16;

test("results live from where they are made to where they are last read, a view as long as what it shows", () => {
  const x = input("x", [16, 16]);
  const y = matmul(x, x);
  const z = matmul(y, x); // x, y and z
  const flat = reshape(z, [256]);
  expect(costOf([silu(z)])).toEqual({ flops: 2 * 2 * 16 ** 3, int8Flops: 0, liveBytes: 3 * MATRIX, weightBytes: 0 });
  expect(costOf([flat]).liveBytes).toBe(3 * MATRIX);
  // y is held for the sum: x, y, z and silu(z)
  expect(costOf([add(silu(z), y)]).liveBytes).toBe(4 * MATRIX);
});

test("what is computed again isn't held, and counts twice", () => {
  const x = input("x", [16, 16]);
  const deep = (keep: <T>(build: () => T) => T) => {
    let h = x;
    for (let i = 0; i < 8; i++) {
      const before = h;
      h = keep(() => silu(matmul(silu(matmul(before, x)), x)));
    }
    return costOf(grad(sum(h), [x]));
  };
  const kept = deep((build) => build());
  const again = deep(checkpoint);
  expect(again.liveBytes).toBeLessThan(0.6 * kept.liveBytes);
  expect(again.flops / kept.flops).toBeGreaterThan(1.2);
});

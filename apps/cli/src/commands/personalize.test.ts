import { expect, test } from "vitest";
import { planLines } from "./personalize.ts";

test("a long job says what it needs; short memory what is done about it, or that nothing more can be", () => {
  const plan = { bytes: 5.74e9, flops: 3e13, seconds: 171, recompute: undefined, fits: true };
  expect(planLines(plan)).toEqual(["Needs 5.7 GB of memory and about 02:51 (minutes:seconds)"]);
  expect(planLines({ ...plan, seconds: undefined })).toEqual([]);
  expect(planLines({ ...plan, recompute: 200 })).toEqual([
    "Needs 5.7 GB of memory and about 02:51 (minutes:seconds)",
    "Memory is short: results are computed again instead of kept, which takes longer",
  ]);
  const [, short] = planLines({ ...plan, recompute: Number.POSITIVE_INFINITY, fits: false });
  expect(short).toMatch(/^Memory is short: needs 5\.7 GB of memory even so, \d+\.\d GB are free$/);
});

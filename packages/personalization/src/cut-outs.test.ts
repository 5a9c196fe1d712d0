import { expect, test } from "vitest";
import { cutOuts, MOST_CUT_OUTS } from "./cut-outs.ts";

test("the subject stays, the background becomes the colour that the words name, edges are mixed", () => {
  const planes = Float32Array.from({ length: 12 }, (_, i) => i / 12); // 3 planes of 2x2
  const mask = Uint8Array.of(255, 0, 51, 0);
  const all = cutOuts(planes, mask, 99);
  expect(all).toHaveLength(MOST_CUT_OUTS);
  expect(new Set(all.map(({ where }) => where)).size).toBe(MOST_CUT_OUTS);
  const [red] = cutOuts(planes, mask, 1);
  expect(red!.where).toBe("on a red background");
  const colour = [214, 48, 49].map((x) => x / 127.5 - 1);
  for (const [k, c] of colour.entries()) {
    const found = [...red!.planes.subarray(4 * k, 4 * k + 4)];
    const own = [...planes.subarray(4 * k, 4 * k + 4)];
    expect(found).toEqual([own[0]!, c, 0.2 * own[2]! + 0.8 * c, c].map((x) => expect.closeTo(x, 5)));
  }
  expect(cutOuts(planes, mask, 0)).toEqual([]);
});

import { expect, test } from "vitest";
import { noiseLevels } from "./denoiser.ts";

test("min-SNR weights: of ε down to γ/SNR, of v never below what keeps a start without signal trained", () => {
  const alphas = Float32Array.of(0.99, 0.5, 0); // SNR 99, 1 and 0
  const of = (gamma: number | null, target: "epsilon" | "v_prediction", steps: number[]): number[] => [
    ...noiseLevels(steps, alphas, gamma, target).weight,
  ];
  expect(of(5, "epsilon", [0, 1])).toEqual([expect.closeTo(5 / 99, 4), 1]);
  expect(of(5, "v_prediction", [0, 1, 2])).toEqual([expect.closeTo(5 / 100, 4), 1, 1]);
  expect(of(null, "v_prediction", [0, 1, 2])).toEqual([1, 1, 1]);
});

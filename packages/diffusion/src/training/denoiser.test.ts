import { expect, test } from "vitest";
import { noiseLevels, timestepAt } from "./denoiser.ts";

test("min-SNR weights: of ε down to γ/SNR, of v never below what keeps a start without signal trained", () => {
  const alphas = Float32Array.of(0.99, 0.5, 0); // SNR 99, 1 and 0
  const of = (gamma: number | null, target: "epsilon" | "v_prediction", steps: number[]): number[] => [
    ...noiseLevels(steps, alphas, gamma, target).weight,
  ];
  expect(of(5, "epsilon", [0, 1])).toEqual([expect.closeTo(5 / 99, 4), 1]);
  expect(of(5, "v_prediction", [0, 1, 2])).toEqual([expect.closeTo(5 / 100, 4), 1, 1]);
  expect(of(null, "v_prediction", [0, 1, 2])).toEqual([1, 1, 1]);
});

test("timesteps: uniform at spread 1, closer to the middle and symmetric below, never outside", () => {
  const quantiles = [0, 0.1, 0.25, 0.5, 0.75, 0.9, 1 - 1e-12];
  const of = (spread: number): number[] => quantiles.map((u) => timestepAt(u, 1000, spread));
  expect(of(1)).toEqual([0, 100, 250, 500, 750, 900, 999]);
  // odds 1/9 and 1/3 to the power of 1/2: 1 in 4 and 1 in 2.732
  expect(of(0.5)).toEqual([0, 250, 366, 500, 633, 750, 999]);
});

import { expect, test } from "vitest";
import { UNet2DConditionConfig } from "../config/unet.ts";
import { attentionMatrices } from "./unet-2d-condition.ts";

const parameters = (config: UNet2DConditionConfig): number =>
  attentionMatrices(config).reduce((n, { dIn, dOut }) => n + dIn * dOut, 0);

test("Stable Diffusion 1.x has the paper's 96 matrices of 715,946 parameters on average", () => {
  const config = UNet2DConditionConfig.parse({ cross_attention_dim: 768 });
  expect(attentionMatrices(config)).toHaveLength(96);
  expect(parameters(config)).toBe(68_730_880);
  expect(Math.floor(parameters(config) / 96)).toBe(715_946);
});

test("Stable Diffusion 2.x has 96 matrices of 75,120,640 parameters", () => {
  const config = UNet2DConditionConfig.parse({ cross_attention_dim: 1024, attention_head_dim: [5, 10, 20, 20] });
  expect(attentionMatrices(config)).toHaveLength(96);
  expect(parameters(config)).toBe(75_120_640);
});

import { attentionMatrices, UNet2DConditionConfig } from "@likeness/diffusion";
import {
  counterRandom,
  input,
  size,
  startRuntime,
  type Tensor,
  Variables,
  variable,
  view,
  type Weights,
} from "@likeness/engine";
import { expect, test } from "vitest";
import { EncoderConfig } from "./config.ts";
import { sharedTrunk, tokenEmbedder } from "./encoder.ts";
import { hypernetwork } from "./hypernetwork.ts";

/** A view that makes every weight that is asked for, and keeps their shapes. */
function recorder(): { weights: Weights; shapes: Map<string, readonly number[]> } {
  const shapes = new Map<string, readonly number[]>();
  const weights = view({
    has: () => true,
    get: (key, shape) => {
      shapes.set(key, shape);
      return variable(key, shape);
    },
  });
  return { weights, shapes };
}

/** The whole tuning-encoder on features of the given sizes. */
function build(
  w: Weights,
  config: EncoderConfig,
  unet: UNet2DConditionConfig,
  { clip, patches, mid }: { clip: number; patches: number; mid: number },
  b: number,
) {
  const width = unet.block_out_channels.at(-1)!;
  const f = sharedTrunk(w.at("trunk"), config, {
    patches: input("patches", [b, patches * patches, clip]),
    mid: input("mid", [b, width, mid, mid]),
    timestep: input("t", [b]),
  });
  const v = tokenEmbedder(w.at("token_embedder"), f, unet.cross_attention_dim);
  return { f, v, factors: hypernetwork(w.at("hypernetwork"), config, f, attentionMatrices(unet)) };
}

const sd1 = UNet2DConditionConfig.parse({ cross_attention_dim: 768 });

test("at Stable Diffusion 1.5's size: 8 x 8 map of 512, 96 pairs, about 49M weights", () => {
  const { weights, shapes } = recorder();
  const { f, v, factors } = build(weights, EncoderConfig.parse({}), sd1, { clip: 1280, patches: 16, mid: 8 }, 2);
  expect(f.shape).toEqual([2, 512, 8, 8]);
  expect(v.shape).toEqual([2, 768]);
  expect(factors).toHaveLength(96);
  for (const [i, { dIn, dOut }] of attentionMatrices(sd1).entries()) {
    expect(factors[i]!.a.shape).toEqual([2, dIn, 4]);
    expect(factors[i]!.b.shape).toEqual([2, 4, dOut]);
  }
  const millions = (prefix: string): number =>
    [...shapes].reduce((n, [key, shape]) => n + (key.startsWith(prefix) ? size(shape) : 0), 0) / 1e6;
  expect(millions("trunk.")).toBeGreaterThan(15);
  expect(millions("trunk.")).toBeLessThan(20);
  expect(millions("token_embedder.")).toBeCloseTo(3.0, 0);
  expect(millions("")).toBeGreaterThan(45);
  expect(millions("")).toBeLessThan(52);
  expect(shapes.get("hypernetwork.heads.a.320.weight")).toEqual([4 * 320, 512]);
  expect(shapes.get("hypernetwork.heads.b.1280.weight")).toEqual([4 * 1280, 512]);
  expect(shapes.get("hypernetwork.queries")).toEqual([96, 512]);
});

test("at the pocket model's size: 1.5 to 2.5M weights; a 4 x 4 middle block is brought to the grid", () => {
  const unet = UNet2DConditionConfig.parse({
    block_out_channels: [64, 128, 128],
    down_block_types: ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    up_block_types: ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    layers_per_block: 1,
    attention_head_dim: 4,
    cross_attention_dim: 160,
    norm_num_groups: 16,
  });
  const config = EncoderConfig.parse({
    ...{ width: 128, trunk_blocks: 1, norm_groups: 16, decoder_layers: 2, decoder_heads: 4, decoder_inner: 384 },
  });
  const { weights, shapes } = recorder();
  const { f } = build(weights, config, unet, { clip: 160, patches: 8, mid: 4 }, 1);
  expect(f.shape).toEqual([1, 128, 8, 8]);
  const count = [...shapes.values()].reduce((n, shape) => n + size(shape), 0);
  expect(count).toBeGreaterThan(1.5e6);
  expect(count).toBeLessThan(2.5e6);
});

const toy = UNet2DConditionConfig.parse({
  block_out_channels: [16, 32],
  down_block_types: ["CrossAttnDownBlock2D", "DownBlock2D"],
  up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D"],
  cross_attention_dim: 24,
  attention_head_dim: 2,
  norm_num_groups: 4,
});
const small = EncoderConfig.parse({
  ...{ width: 64, grid: 4, trunk_blocks: 1, norm_groups: 4, decoder_layers: 2, decoder_heads: 4, decoder_inner: 64 },
});

test("untrained: no offsets, A of deviation 1/√in, v near its start; all depend on the picture and on the matrix", async () => {
  const bias = counterRandom(9).normal(24);
  const variables = new Variables({
    seed: 1,
    start: (key) => (key === "token_embedder.fc2.bias" ? bias : undefined),
  });
  const { v, factors } = build(variables.weights(), small, toy, { clip: 16, patches: 8, mid: 4 }, 2);
  const runtime = await startRuntime({ inProcess: true });
  await variables.load(runtime);
  const outputs = Object.fromEntries(
    factors.flatMap(
      ({ a, b }, i) =>
        [
          [`a${i}`, a],
          [`b${i}`, b],
        ] as [string, Tensor][],
    ),
  ); // prettier-ignore
  const program = await runtime.compile({ outputs: { v, ...outputs } });
  const random = counterRandom(5);
  const found = await program.run({
    patches: random.normal(2 * 64 * 16),
    mid: random.normal(2 * 32 * 16),
    t: Float32Array.of(250, 250),
  });
  await program.release();
  attentionMatrices(toy).forEach(({ dIn }, i) => {
    expect(found[`b${i}`]!.every((x) => x === 0)).toBe(true);
    const a = found[`a${i}`] as Float32Array;
    const deviation = Math.sqrt(a.reduce((s, x) => s + x * x, 0) / a.length);
    expect(deviation * Math.sqrt(dIn)).toBeGreaterThan(0.6);
    expect(deviation * Math.sqrt(dIn)).toBeLessThan(1.6);
    expect(a.subarray(0, dIn * 4)).not.toEqual(a.subarray(dIn * 4)); // two pictures
  });
  expect(found.a0).not.toEqual(found.a1);
  for (let i = 0; i < 48; i++) expect(Math.abs(found.v![i]! - bias[i % 24]!)).toBeLessThan(0.05);
});

/** The dual path and the tuning loss against diffusers' modules and torch's gradients: fixtures/make/tuning.py. */
import { attentionMatrices, loadModel, resnetConvolutions } from "@likeness/diffusion";
import { concat, constant, evaluate, grad, type Tensor } from "@likeness/engine";
import { FIXTURES, type Golden, readGolden, relativeError } from "@likeness/engine/testing";
import { expect, test } from "vitest";
import { diffusionLoss } from "../src/method/losses.ts";
import { personalText } from "../src/method/personal-text.ts";
import { personalUNet } from "../src/method/personal-unet.ts";
import { hardEmbedding, tuningLoss } from "../src/tuning.ts";

const golden: Golden = readGolden("tuning");
const settings = JSON.parse(golden.metadata.settings!) as {
  alpha: number;
  rank: number;
  scale: number;
  conv_rank: number;
  conv_scale: number;
  anchor_v: number;
  anchor_w: number;
  placeholder: number;
};
const model = loadModel(`${FIXTURES}/models/sd1`);
const matrices = attentionMatrices(model.unet.config);
const at = (key: string): Tensor => golden.tensor(`dual/${key}`);
const pairs = (a: string, b: string) => matrices.map(({ path }) => ({ a: at(`${a}/${path}`), b: at(`${b}/${path}`) }));
const length = golden.shape("dual/ids").at(-1)!;
const mask = constant(
  Float32Array.from({ length }, (_, i) => (i === settings.placeholder ? 1 : 0)),
  [1, length],
);
const ids = golden.ints("dual/ids");
const hardTokenId = golden.ints("dual/hard_id")[0]!;

/** One row for both samples. */
const twice = (row: Tensor): Tensor => concat([row, row], 0);

test("all 36 matrices are the golden file's", () => {
  const keys = golden.keys.filter((k) => k.startsWith("dual/A/")).map((k) => k.slice("dual/A/".length));
  expect(matrices.map((m) => m.path).sort()).toEqual(keys.sort());
});

test("text states of the soft and the hard prompt; they agree exactly before the placeholder", async () => {
  const { weights, config } = model.textEncoder;
  const prompt = { ids: constant(ids, [1, length]), mask };
  const found = await evaluate({
    soft: personalText(weights, config, prompt, at("v")),
    hard: personalText(weights, config, prompt, hardEmbedding(model, hardTokenId)),
  });
  expect(relativeError(found.soft, golden.floats("dual/C"))).toBeLessThan(1e-5);
  expect(relativeError(found.hard, golden.floats("dual/C_h"))).toBeLessThan(1e-5);
  const before = settings.placeholder * config.hidden_size;
  expect(found.soft.subarray(0, before)).toEqual(found.hard.subarray(0, before));
  expect(found.soft.subarray(before)).not.toEqual(found.hard.subarray(before));
});

test.each([
  [settings.alpha, "out"],
  [1, "out_personal"],
  [0, "vanilla"],
])("the UNet's output at alpha %d", async (alpha, key) => {
  const y = personalUNet(model, {
    sample: at("z_t"),
    timestep: at("t"),
    softContext: twice(at("C")),
    hardContext: twice(at("C_h")),
    factors: pairs("A", "B"),
    scale: settings.scale,
    alpha,
  });
  expect(relativeError((await evaluate({ y })).y, golden.floats(`dual/${key}`))).toBeLessThan(1e-5);
});

test("tuning loss, and its gradients by v and all factors", async () => {
  const [v, factors] = [at("v"), pairs("A", "B")];
  const { loss, diffusion } = tuningLoss(
    model,
    { v, factors, v0: at("v0"), factors0: pairs("A0", "B0") },
    {
      ids: twice(constant(ids, [1, length])),
      mask: twice(mask),
      sample: at("z_t"),
      target: at("noise"),
      timestep: at("t"),
    },
    {
      alphaBlend: settings.alpha,
      rank: settings.rank,
      loraAlpha: settings.scale * settings.rank,
      hardTokenId,
      embeddingAnchor: settings.anchor_v,
      offsetAnchor: settings.anchor_w,
    },
  );
  const leaves = [v, ...factors.flatMap(({ a, b }) => [a, b])];
  const keys = ["dv", ...matrices.flatMap(({ path }) => [`dA/${path}`, `dB/${path}`])];
  const gradients = Object.fromEntries(grad(loss, leaves).map((g, i) => [keys[i]!, g]));
  const found: Record<string, Float32Array> = await evaluate({ loss, diffusion, ...gradients } as Record<
    string,
    Tensor
  >);
  expect(relativeError(found.loss!, golden.floats("dual/loss"))).toBeLessThan(1e-5);
  expect(relativeError(found.diffusion!, golden.floats("dual/loss/diffusion"))).toBeLessThan(1e-5);
  const errors = keys.map((key) => [key, relativeError(found[key]!, golden.floats(`dual/${key}`))] as const);
  expect(errors.filter(([, error]) => !(error < 2e-5))).toEqual([]); // torch's own float32 is up to 7e-6 off float64
});

test("with changes of all convolutions: the output, the loss, and its gradients by v and their factors", async () => {
  const paths = resnetConvolutions(model).map(({ path }) => path);
  const keys = golden.keys.filter((k) => k.startsWith("conv/a/")).map((k) => k.slice("conv/a/".length));
  expect([...paths].sort()).toEqual(keys.sort());
  const convolutions = paths.map((path) => ({
    a: golden.tensor(`conv/a/${path}`),
    b: golden.tensor(`conv/b/${path}`),
  }));
  const v = at("v");
  const { weights, config } = model.textEncoder;
  const prompt = { ids: constant(ids, [1, length]), mask };
  const out = personalUNet(model, {
    sample: at("z_t"),
    timestep: at("t"),
    softContext: twice(personalText(weights, config, prompt, v)),
    hardContext: twice(at("C_h")),
    factors: pairs("A", "B"),
    scale: settings.scale,
    convolutions: { factors: convolutions, scale: settings.conv_scale },
    alpha: settings.alpha,
  });
  const diffusion = diffusionLoss(at("noise"), out);
  const leaves = [v, ...convolutions.flatMap(({ a, b }) => [a, b])];
  const named = ["dv", ...paths.flatMap((path) => [`da/${path}`, `db/${path}`])];
  const gradients = Object.fromEntries(grad(diffusion, leaves).map((g, i) => [named[i]!, g]));
  const found = (await evaluate({ out, diffusion, ...gradients } as Record<string, Tensor>)) as Record<
    string,
    Float32Array
  >;
  const errors = ["out", "diffusion", ...named].map(
    (key) => [key, relativeError(found[key]!, golden.floats(`conv/${key}`))] as const,
  );
  expect(errors.filter(([, error]) => !(error < 2e-5))).toEqual([]);
});

/** Every model against diffusers and transformers, on toy folders with random weights: whole tensors. */
import { join } from "node:path";
import { constant, evaluate, grad, mean, mul, openWeights, square, sub, type Tensor } from "@likeness/engine";
import { FIXTURES, type Golden, readGolden, relativeError } from "@likeness/engine/testing";
import { describe, expect, test } from "vitest";
import {
  CLIPConfig,
  clipTextModel,
  clipVisionModel,
  contrastiveLoss,
  decode,
  denoise,
  embedTokens,
  encode,
  expectAllRead,
  guided,
  imageEmbeds,
  loadModel,
  logitScale,
  logitsPerText,
  pooledText,
  readConfig,
  textEmbeds,
  UNet2DConditionConfig,
  unet2DConditionModel,
  unetEncoder,
} from "../src/index.ts";

const folder = (name: string): string => join(FIXTURES, "models", name);

/** Max abs difference relative to the output's scale: the project's bar for float32 parity. */
const BAR = 1e-4;

async function expectGolden(golden: Golden, outputs: Record<string, Tensor>): Promise<void> {
  const found = await evaluate(outputs);
  for (const [key, tensor] of Object.entries(outputs)) {
    expect(tensor.shape, key).toEqual(golden.shape(key));
    expect(relativeError(found[key]!, golden.floats(key)), key).toBeLessThan(BAR);
  }
}

describe.each(["sd1", "sd2"])("%s", (kind) => {
  const golden = readGolden(`models-${kind}`);
  const model = loadModel(folder(kind));
  const { unet, vae, textEncoder: text, imageEncoder: vision } = model;

  const inputs = {
    sample: golden.tensor("unet/sample"),
    timestep: golden.tensor("unet/timestep"),
    encoderHiddenStates: golden.tensor("unet/context"),
  };

  test("UNet2DConditionModel: output and middle block", async () => {
    const out = unet2DConditionModel(unet.weights, unet.config, inputs);
    await expectGolden(golden, { "unet/out": out, "unet/mid": unetEncoder(unet.weights, unet.config, inputs).mid });
  });

  test.each([undefined, 0, 4, Number.POSITIVE_INFINITY])(
    "UNet2DConditionModel: gradients, recompute %s",
    async (recompute) => {
      const keys = golden.keys.filter((k) => k.startsWith("unet/grad/")).map((k) => k.slice(10));
      const leaves = new Map(
        keys.filter((k) => k.endsWith("weight")).map((k) => [k, unet.files.get(k, golden.shape(`unet/grad/${k}`))]),
      );
      const weights = { ...unet.weights };
      const at = (prefix: string): typeof weights => ({
        prefix,
        get: (key, shape, init) => leaves.get(prefix + key) ?? unet.weights.get(prefix + key, shape, init),
        has: (key) => unet.weights.has(prefix + key),
        at: (name) => at(`${prefix}${name}.`),
        lowRank: () => [],
      });
      const out = unet2DConditionModel(at(""), unet.config, inputs, { recompute });
      const loss = mean(square(sub(out, golden.tensor("unet/target"))));
      const wrt = keys.map((k) => leaves.get(k) ?? (k === "sample" ? inputs.sample : inputs.encoderHiddenStates));
      const outputs = Object.fromEntries(grad(loss, wrt).map((g, i) => [`unet/grad/${keys[i]}`, g]));
      await expectGolden(golden, { "unet/loss": loss, ...outputs });
    },
  );

  test("AutoencoderKL: moments and picture", async () => {
    const { mean: mu, logvar } = encode(vae.weights, vae.config, golden.tensor("vae/pixels"));
    const decoded = decode(vae.weights, vae.config, golden.tensor("vae/latents"));
    await expectGolden(golden, { "vae/mean": mu, "vae/logvar": logvar, "vae/decoded": decoded });
  });

  test("CLIPTextModel: all hidden states, final norm, pooled", async () => {
    const states = clipTextModel(text.weights, text.config, {
      inputsEmbeds: embedTokens(text.weights, text.config, golden.tensor("text/ids")),
    });
    const hidden = Object.fromEntries(states.hiddenStates.map((h, i) => [`text/hidden_states/${i}`, h]));
    const pooled = pooledText(states.lastHiddenState, golden.tensor("text/eos"));
    await expectGolden(golden, { ...hidden, "text/last_hidden_state": states.lastHiddenState, "text/pooled": pooled });
  });

  test("CLIPVisionModelWithProjection: tokens, patches, pooled, embeds", async () => {
    const v = clipVisionModel(vision!.weights, vision!.config, golden.tensor("vision/pixels"));
    await expectGolden(golden, {
      "vision/last_hidden_state": v.lastHiddenState,
      "vision/patches": v.patches,
      "vision/pooled": v.pooled,
      "vision/image_embeds": imageEmbeds(vision!.weights, vision!.config, v.pooled),
    });
  });

  test("StableDiffusionPipeline: guidance, negative prompt, every DDIM step, picture", async () => {
    const { steps, guidance_scale: g } = JSON.parse(golden.metadata.picture!) as {
      steps: number;
      guidance_scale: number;
    };
    const trajectory = golden.floats("picture/trajectory");
    const size = golden.floats("picture/latents0").length;
    const context = [
      golden.floats("picture/negative_embeds"),
      golden.floats("picture/negative_embeds"),
      golden.floats("picture/prompt_embeds"),
    ];
    const joined = Float32Array.from(context.flatMap((c) => [...c]));
    const [b, c, h, w] = golden.shape("picture/latents0") as [number, number, number, number];
    const [, length, width] = golden.shape("picture/prompt_embeds") as [number, number, number];
    const last = await denoise({
      plan: model.scheduler("ddim").setTimesteps(steps),
      latents: golden.floats("picture/latents0"),
      predict: async (z, t) => {
        const y = unet2DConditionModel(unet.weights, unet.config, {
          sample: constant(Float32Array.from([...z, ...z]), [2 * b, c, h, w]),
          timestep: constant(new Float32Array(2 * b).fill(t)),
          encoderHiddenStates: constant(joined, [2 * b, length, width]),
        });
        const { out } = await evaluate({ out: y });
        return guided(out.subarray(0, size), out.subarray(size), { scale: g });
      },
      onStep: ({ step, latents }) => {
        const wanted = trajectory.subarray((step - 1) * size, step * size);
        expect(relativeError(latents, wanted), `step ${step}`).toBeLessThan(BAR);
      },
    });
    expect(relativeError(last, golden.floats("picture/latents"))).toBeLessThan(BAR);
    const z = mul(constant(last, [b, c, h, w]), 1 / vae.config.scaling_factor);
    await expectGolden(golden, { "picture/picture": decode(vae.weights, vae.config, z) });
  });

  test("every key of the folder is read", () => {
    expectAllRead(model);
  });
});

test("float16 weights are widened at use", async () => {
  const golden = readGolden("models-sd1");
  const path = folder("sd1-fp16");
  const config = readConfig(UNet2DConditionConfig, join(path, "unet", "config.json"));
  const weights = openWeights([join(path, "unet", "diffusion_pytorch_model.fp16.safetensors")]).weights();
  const inputs = {
    sample: golden.tensor("unet/sample"),
    timestep: golden.tensor("unet/timestep"),
    encoderHiddenStates: golden.tensor("unet/context"),
  };
  await expectGolden(golden, { "unet/out_fp16": unet2DConditionModel(weights, config, inputs) });
});

test("CLIPModel: embeds, logits, contrastive loss and its gradients", async () => {
  const golden = readGolden("models-clip");
  const config = readConfig(CLIPConfig, join(folder("clip"), "config.json"));
  const files = openWeights([join(folder("clip"), "model.safetensors")]);
  const w = files.weights();
  const leaves = new Map(
    golden.keys.filter((k) => k.startsWith("grad/")).map((k) => [k.slice(5), files.get(k.slice(5), golden.shape(k))]),
  );
  const at = (prefix: string): typeof w => ({
    prefix,
    get: (key, shape, init) => leaves.get(prefix + key) ?? w.get(prefix + key, shape, init),
    has: (key) => w.has(prefix + key),
    at: (name) => at(`${prefix}${name}.`),
    lowRank: () => [],
  });
  const v = at("");
  const { lastHiddenState } = clipTextModel(v, config.text_config, {
    inputsEmbeds: embedTokens(v, config.text_config, golden.tensor("ids")),
  });
  const text = textEmbeds(
    v,
    config.text_config,
    config.projection_dim,
    pooledText(lastHiddenState, golden.tensor("eos")),
  );
  const image = imageEmbeds(
    v,
    { ...config.vision_config, projection_dim: config.projection_dim },
    clipVisionModel(v, config.vision_config, golden.tensor("pixels")).pooled,
  );
  const logits = logitsPerText(text, image, logitScale(v, config));
  const loss = contrastiveLoss(logits);
  const gradients = Object.fromEntries(
    grad(loss, [...leaves.values()]).map((g, i) => [`grad/${[...leaves.keys()][i]}`, g]),
  );
  await expectGolden(golden, { logits_per_text: logits, loss, ...gradients });
});

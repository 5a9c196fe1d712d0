/**
 * A full-size tuning-encoder with its start values, as pre-training begins with them: for measuring, not for pictures.
 *
 *     node --import tsx bench/sd15/make-encoder.ts [--model DIR] [--image-encoder DIR] [--out DIR]
 */
import { parseArgs } from "node:util";
import { loadModel } from "../../packages/diffusion/src/index.ts";
import { input, leafName, startRuntime, Variables } from "../../packages/engine/src/index.ts";
import { writeEncoder } from "../../packages/personalization/src/encoder-file.ts";
import { EncoderConfig } from "../../packages/personalization/src/method/config.ts";
import { predictConcept } from "../../packages/personalization/src/method/personal-unet.ts";

const { values } = parseArgs({
  options: {
    model: { type: "string", default: "data/sd-parity/sd15" },
    "image-encoder": { type: "string", default: "data/sd-parity/vit-h" },
    out: { type: "string", default: "data/sd-parity/tuning-encoder" },
  },
});
const model = loadModel(values.model, { imageEncoder: values["image-encoder"] });
const config = EncoderConfig.parse({});
const side = model.resolution;
const variables = new Variables({ seed: 15 });
predictConcept(model, variables.weights(), config, {
  pixels: input("pixels", [1, 3, side, side]),
  sample: input("z", [1, model.unet.config.in_channels, side / model.scaleFactor, side / model.scaleFactor]),
  timestep: input("t", [1]),
});
const runtime = await startRuntime();
await variables.load(runtime);
const all = variables.all();
const names = all.map(leafName);
const read = await runtime.read(names);
await runtime.close();
writeEncoder(
  values.out,
  config,
  model,
  all,
  names.map((name) => read[name]!),
);
const million = all.reduce((n, p) => n + p.shape.reduce((a, b) => a * b, 1), 0) / 1e6;
console.log(`${values.out}: ${million.toFixed(1)} million parameters`);

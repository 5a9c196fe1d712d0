/**
 * A full-size tuning-encoder with its start values, as pre-training begins with them: for measuring, not for pictures.
 *
 *     node --import tsx bench/sd15/make-encoder.ts [--model DIR] [--image-encoder DIR] [--out DIR]
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { loadModel } from "../../packages/diffusion/src/index.ts";
import {
  input,
  leafName,
  startRuntime,
  toFloat16,
  Variables,
  writeSafetensors,
} from "../../packages/engine/src/index.ts";
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
const config = EncoderConfig.parse({ base: model.fingerprint, base_name: model.name });
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
const read = await runtime.read(all.map(leafName));
await runtime.close();
mkdirSync(values.out, { recursive: true });
const tensors = all.map(
  (p) => [leafName(p), { dtype: "F16", shape: p.shape, data: toFloat16(read[leafName(p)]!) }] as const,
);
writeSafetensors(join(values.out, "tuning_encoder.safetensors"), Object.fromEntries(tensors), { format: "pt" });
writeFileSync(join(values.out, "config.json"), `${JSON.stringify(config, null, 2)}\n`);
const million = all.reduce((n, p) => n + p.shape.reduce((a, b) => a * b, 1), 0) / 1e6;
console.log(`${values.out}: ${million.toFixed(1)} million parameters`);

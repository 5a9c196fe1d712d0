import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { loadModel, readTrainingConfig } from "@likeness/diffusion";
import { expect, test } from "vitest";
import { findEncoder } from "../src/encoder-file.ts";
import { readEvaluationConfig } from "../src/evaluation/config.ts";
import { readPretrainConfig } from "../src/pretrain.ts";

const root = fileURLToPath(new URL("../../../", import.meta.url));
const folder = join(root, "models/pocket/training");
const configs = readdirSync(folder).filter((name) => name.endsWith(".json"));
const settings = ["codebook", "contrastive", "eq4-only", "none"];

test.each(configs)("the pocket model's %s is a config", (name) => {
  const read = /tuning-encoder/.test(name)
    ? readPretrainConfig
    : /evaluation/.test(name)
      ? readEvaluationConfig
      : readTrainingConfig;
  expect(read(join(folder, name)).model).toBe(/judge/.test(name) ? "models/pocket-judge" : "models/pocket");
});

test("the pocket model's tuning-encoder is of its UNet, and its report is of them", () => {
  const model = loadModel(join(root, "models/pocket"));
  expect(findEncoder(model)?.config.base).toBe(model.fingerprint);
  const { out } = readEvaluationConfig(join(folder, "6-evaluation.json"));
  expect(readFileSync(join(root, out), "utf8")).toContain(`Model ${model.fingerprint},`);
});

test("figure 4's four encoders differ in their regularisation alone, and the evaluation has a row of each", () => {
  const read = settings.map((name) => readPretrainConfig(join(folder, "figure-4", `${name}.json`)));
  const rest = read.map(
    ({
      out: _,
      run: __,
      contrastive_weight: c,
      embedding_weight: e,
      offset_weight: o,
      codebook_weight: b,
      ...same
    }) => ({
      same,
      on: [c, e, o, b].map((w) => w > 0),
    }),
  );
  for (const { same } of rest) expect(same).toEqual(rest[0]!.same);
  expect(rest.map((r) => r.on.map(Number).join(""))).toEqual(["0111", "1110", "0110", "0000"]);
  const { methods } = readEvaluationConfig(join(folder, "6-evaluation.json"));
  const rows = methods.flatMap((m) => m.encoder ?? []);
  expect(rows.sort()).toEqual(read.map((c) => c.out!).sort());
});

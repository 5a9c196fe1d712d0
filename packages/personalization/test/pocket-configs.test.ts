import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { readTrainingConfig } from "@likeness/diffusion";
import { expect, test } from "vitest";
import { readEvaluationConfig } from "../src/evaluation/config.ts";
import { readPretrainConfig } from "../src/pretrain.ts";

const folder = fileURLToPath(new URL("../../../models/pocket/training", import.meta.url));
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

/**
 * Compares steps of sampling, guidance scales and where guidance stops on subjects of the validation split: what the base model
 * draws for 500 prompts, and taught subjects after twelve steps of tuning. Writes docs/results/pocket-guidance.md; what is measured is
 * kept in runs/pocket-guidance.
 *
 *     node --import tsx packages/world/src/main.ts --evaluation --split validation --count 24 --seed 6 --out data/world/validation-24.safetensors
 *     node --import tsx scripts/pocket-guidance.ts
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { SAMPLING } from "./pocket-sampling.ts";

const RUN = "runs/pocket-guidance";
const REPORT = "docs/results/pocket-guidance.md";
/** Each differs from the first, the product's, in what it names. */
const SETTINGS = [
  {},
  { guidance_scale: 4 },
  { guidance_scale: 6 },
  { guidance_stop: 1 },
  { guidance_stop: 0.7 },
  { guidance_stop: 0.5 },
  { steps: 25 },
  { steps: 25, guidance_stop: 1 },
];

interface Measured {
  readonly backbone: Readonly<Record<"name" | "scene" | "place" | "look", number>>;
  readonly methods: readonly { readonly top5: number; readonly prompt: number }[];
}

function measure(sampling: typeof SAMPLING): Measured {
  const { steps, guidance_scale: scale, guidance_stop: stop } = sampling;
  const path = join(RUN, `${steps}-steps-${scale}-until-${stop}.json`);
  const config = {
    ...{ model: "models/pocket", set: "data/world/validation-24.safetensors", judge: "models/pocket-judge" },
    ...{ run: RUN, out: path.replace(/json$/, "md"), seed: 1, images: 1, sheet_subjects: 0 },
    sampling,
    methods: [{ method: "date", mask: "plain", conv_rank: 0 }],
  };
  writeFileSync(path, JSON.stringify(config, null, 2));
  const args = ["apps/cli/bin/likeness.js", "evaluate", path, "--json"];
  const { status, stdout } = spawnSync("node", args, { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
  if (status !== 0) process.exit(status ?? 1);
  return JSON.parse(stdout) as Measured;
}

mkdirSync(RUN, { recursive: true });
const rows = SETTINGS.map((changes) => {
  const sampling = { ...SAMPLING, guidance_alpha: 1, ...changes }; // as when it was measured
  const { backbone: b, methods } = measure(sampling);
  const { top5, prompt } = methods[0]!;
  const shares = [b.name, b.place, b.look, b.scene, top5, prompt, top5 * prompt];
  const { steps, guidance_scale: scale, guidance_stop: stop } = sampling;
  return `| ${[steps, scale, stop, ...shares.map((x) => `${(100 * x).toFixed(1)}%`)].join(" | ")} |`;
});
const report = `# Guidance of the pocket model

Written by \`node --import tsx scripts/pocket-guidance.ts\`: the base model on 500 prompts about trained subjects, and 24 subjects of the validation split after
twelve steps with a mask on plain backgrounds, ten prompts each. The product's setting is the first. All with guidance rescaled by ${SAMPLING.guidance_rescale}.

| steps | guidance | in the first | subject | place | look | places and looks | taught: top-5 | prompt | top-5 × prompt |
|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
${rows.join("\n")}
`;
writeFileSync(REPORT, report);
console.log(report);

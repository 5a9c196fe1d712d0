/** `likeness pull`: a base model of the hub into the Hugging Face cache. */
import { type PullPlan, pull } from "@likeness/diffusion";
import { LikenessError } from "@likeness/engine/errors";
import { defineCommand } from "../args/command.ts";
import type { Bar } from "../console/progress.ts";

const REDRAW = 200; // ms: bytes come in thousands of pieces

export default defineCommand({
  name: "pull",
  summary:
    "Fetches a base model from the Hugging Face hub into the cache that Python shares; called again, it goes on.",
  positional: { name: "ORG/NAME", description: "the model's name on the hub" },
  flags: {
    revision: { type: "string", hint: "NAME", description: 'branch, tag or commit; by default "main"' },
    variant: {
      type: "string",
      hint: "NAME",
      description: "files of another precision, such as fp16, where there are any",
    },
    include: {
      type: "string",
      hint: "GLOB",
      description: "files that match, instead of a diffusers model's",
      multiple: true,
    },
  },
  examples: [
    "likeness pull stable-diffusion-v1-5/stable-diffusion-v1-5",
    "HF_ENDPOINT=https://hub.example.org likeness pull org/name --revision fp16 --variant fp16",
  ],
  async run(name, { revision, variant, include }, { signal, progress, print, json }) {
    if (revision !== undefined && name.includes("@"))
      throw new LikenessError("E_USAGE", {
        what: "--revision",
        where: "likeness pull",
        needed: "one revision",
        found: `another in ${JSON.stringify(name)}`,
      });
    let bar: Bar | undefined;
    let plan: PullPlan | undefined;
    let drawn = 0;
    const pulled = await pull(revision === undefined ? name : `${name}@${revision}`, {
      ...{ variant, include, signal },
      onWait: () => progress.note("Another process is pulling this model; waiting for it."),
      onStart: (p) => {
        plan = p;
        if (p.present < p.bytes) bar = progress.bar("Pulling", p.bytes, { unit: "B", start: p.present });
      },
      onBytes: (bytes, file) => {
        if (bytes < plan!.bytes && performance.now() - drawn < REDRAW) return;
        drawn = performance.now();
        bar?.update(bytes, { file: `${file}/${plan!.files.length}` });
      },
    });
    bar?.end();
    const { folder, commit, files, fetched } = pulled;
    print(json ? { path: folder, commit, files: files.map((f) => f.name), fetched } : folder);
  },
});

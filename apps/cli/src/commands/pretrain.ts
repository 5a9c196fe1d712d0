/** `likeness pretrain`: pre-trains the tuning-encoder as a config says. */
import { pretrain, readPretrainConfig } from "@likeness/personalization";
import { defineCommand } from "../args/command.ts";
import { expectFile } from "../paths.ts";
import { DEVICE, RESUME } from "./shared-flags.ts";
import { withTrainingBars } from "./training-bars.ts";

export default defineCommand({
  name: "pretrain",
  summary: "Pre-trains the tuning-encoder of a base model as a config says.",
  positional: { name: "CONFIG.json", description: "config of the run", aliases: ["config"] },
  flags: { resume: RESUME, device: DEVICE },
  examples: ["likeness pretrain models/pocket/training/4-tuning-encoder.json --resume latest"],
  async run(path, options, context) {
    const config = readPretrainConfig(expectFile("config", path));
    await withTrainingBars(config, options, context, (runtime, hooks) => pretrain(runtime, config, hooks));
  },
});

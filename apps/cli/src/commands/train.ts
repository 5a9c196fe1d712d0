/** `likeness train`: trains a part of a base model as a config says. */
import { readTrainingConfig, runTraining } from "@likeness/diffusion";
import { defineCommand } from "../args/command.ts";
import { expectFile } from "../paths.ts";
import { DEVICE, RESUME } from "./shared-flags.ts";
import { withTrainingBars } from "./training-bars.ts";

export default defineCommand({
  name: "train",
  summary: "Trains a part of a base model (autoencoder, clip, unet, or the judge of its evaluation) as a config says.",
  positional: { name: "CONFIG.json", description: "config of the run", aliases: ["config"] },
  flags: { resume: RESUME, device: DEVICE },
  examples: ["likeness train models/pocket/training/1-autoencoder.json --resume latest"],
  async run(path, options, context) {
    const config = readTrainingConfig(expectFile("config", path));
    await withTrainingBars(config, options, context, (runtime, hooks) => runTraining(runtime, config, hooks));
  },
});

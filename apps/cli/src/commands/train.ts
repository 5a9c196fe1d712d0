/** `likeness train`: trains a part of a base model as a config says. */
import { readTrainingConfig, runTraining } from "@likeness/diffusion";
import { type Device, startRuntime } from "@likeness/engine";
import { defineCommand } from "../args/command.ts";
import type { Bar } from "../console/progress.ts";
import { expectFile } from "../paths.ts";
import { DEVICE, RESUME } from "./shared-flags.ts";

export default defineCommand({
  name: "train",
  summary: "Trains a part of a base model (autoencoder, clip or unet) as a config says.",
  positional: { name: "CONFIG.json", description: "config of the run", aliases: ["config"] },
  flags: { resume: RESUME, device: DEVICE },
  examples: ["likeness train models/pocket/training/1-autoencoder.json --resume latest"],
  async run(path, { resume, device }, { signal, progress, print, json }) {
    const config = readTrainingConfig(expectFile("config", path));
    const runtime = await startRuntime({ device: device as Device });
    let [latents, steps]: (Bar | undefined)[] = [];
    try {
      const step = await runTraining(runtime, config, {
        resume: resume === "latest",
        signal,
        onCached: (done, total) => {
          latents ??= progress.bar("Latents", total, { unit: "img", start: done });
          latents.update(done);
        },
        onStep: ({ step, steps: total, loss, lr }) => {
          steps ??= progress.bar("Steps", total, { start: step });
          steps.update(step, { loss: loss!, lr });
        },
      });
      signal.throwIfAborted();
      print(json ? { step, steps: config.steps, model: config.model, run: config.run } : config.model);
    } finally {
      await runtime.close();
    }
  },
});

/** What `train` and `pretrain` share: a runtime, two progress bars, the result's line. */
import type { RunHooks } from "@likeness/diffusion";
import { type Device, type Runtime, startRuntime } from "@likeness/engine";
import type { Context } from "../args/command.ts";
import type { Bar } from "../console/progress.ts";

interface Run {
  readonly steps: number;
  readonly model: string;
  readonly run: string;
  /** Folder of what is trained, if it isn't the model's. */
  readonly out?: string | undefined;
}

/** Runs a training with bars for cached latents and for steps, and prints the folder that it was written to (or a record with --json). */
export async function withTrainingBars(
  { steps, model, run, out }: Run,
  { resume, device }: { readonly resume?: string | undefined; readonly device: string },
  { signal, progress, print, json }: Context,
  start: (runtime: Runtime, hooks: RunHooks) => Promise<number>,
): Promise<void> {
  const runtime = await startRuntime({ device: device as Device });
  let [latents, bar]: (Bar | undefined)[] = [];
  try {
    const step = await start(runtime, {
      resume: resume === "latest",
      signal,
      onCached: (done, total) => {
        latents ??= progress.bar("Latents", total, { unit: "img", start: done });
        latents.update(done);
      },
      onStep: (event) => {
        bar ??= progress.bar("Steps", event.steps, { start: event.step });
        bar.update(event.step, { loss: event.loss!, lr: event.lr });
      },
    });
    signal.throwIfAborted();
    print(json ? { step, steps, model, run, ...(out !== undefined && { out }) } : (out ?? model));
  } finally {
    await runtime.close();
  }
}

/** `--int8`, for commands that make many passes of the UNet. */
import { prepareInt8, type StableDiffusionModel } from "@likeness/diffusion";
import { LikenessError } from "@likeness/engine";
import type { Bar, Progress } from "./console/progress.ts";

export const INT8 = {
  type: "boolean",
  description:
    "multiply by the UNet's weights in 8 bits: faster on a CPU, not quite the same; makes copies of them in the cache folder once",
} as const;

/** @throws LikenessError E_USAGE for --int8 beside another device than the CPU */
export function expectInt8OnCpu({ int8, device }: { readonly int8: boolean; readonly device: string }): void {
  if (int8 && device !== "cpu")
    throw new LikenessError("E_USAGE", {
      what: "--int8",
      where: `--device ${device}`,
      needed: "--device cpu",
      found: device,
      next: "A GPU is faster without it.",
    });
}

interface Copying {
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

/** Makes the copies that a model opened with --int8 needs and that aren't there yet. @throws the signal's reason */
export async function makeCopies(model: StableDiffusionModel, { progress, signal }: Copying): Promise<void> {
  let bar: Bar | undefined;
  await prepareInt8(model, {
    signal,
    onProgress: (done, total) => {
      bar ??= progress.bar("Weights in 8 bits", total);
      bar.update(done);
    },
  });
}

/** `--int8`, for commands that make many passes of the UNet. */
import { prepareInt8, type StableDiffusionModel } from "@likeness/diffusion";
import { LikenessError } from "@likeness/engine";
import type { Bar, Progress } from "./console/progress.ts";

export const INT8 = {
  type: "boolean",
  description:
    "multiply by the UNet's weights in 8 bits: faster on a CPU, not quite the same; makes copies of them in the cache folder once",
} as const;

/** Makes what --int8 needs and isn't there yet. @throws the signal's reason, or LikenessError E_USAGE for another device */
export async function makeCopies(
  model: StableDiffusionModel,
  { device, gradients, progress, signal }: Int8Preparation,
): Promise<void> {
  if (device !== "cpu")
    throw new LikenessError("E_USAGE", {
      what: "--int8",
      where: `--device ${device}`,
      needed: "--device cpu",
      found: device,
      next: "A GPU is faster without it.",
    });
  let bar: Bar | undefined;
  await prepareInt8(model, {
    gradients,
    signal,
    onProgress: (done, total) => {
      bar ??= progress.bar("Weights in 8 bits", total);
      bar.update(done);
    },
  });
}

interface Int8Preparation {
  readonly device: string;
  readonly gradients: boolean;
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

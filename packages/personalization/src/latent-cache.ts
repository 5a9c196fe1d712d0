/** Latents of a data set, kept beside a run: resuming it needn't encode the pictures again. */
import { existsSync, mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { encodeAll, type PictureFile, type StableDiffusionModel } from "@likeness/diffusion";
import { type Runtime, readFloats, readSafetensorsHeader, writeSafetensors } from "@likeness/engine";

export const LATENTS_FILE = "latents.safetensors";

/** Scaled latents of all pictures of the given tensors, (N, C, h, w) flat each; from the run's folder if they are there. */
export async function cachedLatents(
  runtime: Runtime,
  { vae }: StableDiffusionModel,
  data: PictureFile,
  tensors: readonly string[],
  run: string,
  onProgress: (done: number, total: number) => void,
): Promise<Float32Array[]> {
  const path = join(run, LATENTS_FILE);
  const from = JSON.stringify([...vae.files.files, data.header].map((f) => stamp(f.path)));
  if (existsSync(path)) {
    const header = readSafetensorsHeader(path);
    if (header.metadata.made_from === from && tensors.every((t) => header.tensors.has(t)))
      return tensors.map((t) => readFloats(header, t));
  }
  const found: Float32Array[] = [];
  for (const [i, tensor] of tensors.entries())
    found.push(
      await encodeAll(runtime, vae.weights, vae.config, data, {
        tensor,
        onProgress: (n) => onProgress(i * data.count + n, tensors.length * data.count),
      }),
    );
  mkdirSync(run, { recursive: true });
  const entries = tensors.map((t, i) => [t, { dtype: "F32", shape: [found[i]!.length], data: found[i]! }] as const);
  writeSafetensors(path, Object.fromEntries(entries), { made_from: from });
  return found;
}

/** Path, size and time of a file: another VAE or other pictures make other latents. */
const stamp = (path: string): readonly [string, number, number] => {
  const { size, mtimeMs } = statSync(path);
  return [path, size, mtimeMs];
};

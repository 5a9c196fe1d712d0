/** Latents in files: one tensor `latents` (N, C, h, w) in float32, before the scheduler's scaling or after the last step. */
import { readFloats, readSafetensorsHeader, SafetensorsError, writeSafetensors } from "@likeness/engine";

/** @throws SafetensorsError if the file hasn't a tensor `latents` of this shape */
export function readLatents(path: string, shape: readonly number[]): Float32Array {
  const header = readSafetensorsHeader(path);
  const entry = header.tensors.get("latents");
  const show = (s: readonly number[]): string => `(${s.join(", ")})`;
  if (entry?.shape.join() === shape.join()) return readFloats(header, "latents");
  const found = entry ? show(entry.shape) : "no such tensor";
  throw new SafetensorsError(path, {
    what: '"latents"',
    needed: `shape ${show(shape)}`,
    found,
    next: "It follows from --num-images, --height and --width.",
  });
}

export function writeLatents(path: string, data: Float32Array, shape: readonly number[]): void {
  writeSafetensors(path, { latents: { dtype: "F32", shape, data } });
}

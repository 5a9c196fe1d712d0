/** Numbers that take long to make, kept in a run's folder. */
import { existsSync } from "node:fs";
import { readFloats, readSafetensorsHeader, writeSafetensors } from "@likeness/engine";

/** The tensor's name in the file; older runs' files have it, whatever is in them. */
const KEY = "latents";

/**
 * Numbers made once and kept in a file beside the checkpoint, such as latents or vectors of pictures.
 * @param path of the file, a .safetensors
 * @param source what they are made from, as a fingerprint: with another one than the file's they are made again
 */
export async function cachedFloats(
  path: string,
  source: string,
  make: () => Promise<Float32Array>,
): Promise<Float32Array> {
  if (existsSync(path)) {
    const header = readSafetensorsHeader(path);
    if (header.metadata.source === source) return readFloats(header, KEY);
  }
  const floats = await make();
  writeSafetensors(path, { [KEY]: { dtype: "F32", shape: [floats.length], data: floats } }, { source });
  return floats;
}

/** Telling base models apart without reading all of them. */
import { createHash } from "node:crypto";
import { closeSync, openSync, readFileSync, readSync, statSync } from "node:fs";
import { readSafetensorsHeader } from "@likeness/engine";

/** Header and 64 samples of 4 KiB of each file: cheap, and different for models of one architecture. */
export function fingerprint(paths: readonly string[]): string {
  const hash = createHash("sha256");
  for (const path of paths) {
    const { tensors } = readSafetensorsHeader(path);
    hash.update(JSON.stringify([...tensors].map(([k, t]) => [k, t.dtype, t.shape])));
    hash.update(String(statSync(path).size));
    for (const chunk of samples(path)) hash.update(chunk);
  }
  return hash.digest("hex").slice(0, 16);
}

function samples(path: string): Buffer[] {
  const { size } = statSync(path);
  if (size < 1 << 20) return [readFileSync(path)];
  const file = openSync(path, "r");
  try {
    return Array.from({ length: 64 }, (_, i) => {
      const chunk = Buffer.alloc(4096);
      readSync(file, chunk, 0, 4096, Math.floor(((size - 4096) * i) / 63));
      return chunk;
    });
  } finally {
    closeSync(file);
  }
}

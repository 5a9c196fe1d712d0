/** Where tests of the WebGPU provider find a GPU, or a program that plays one. */
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";

/**
 * Reads LIKENESS_WEBGPU: "1" for the GPU of this machine, or a folder with Vulkan's loader and SwiftShader (Chromium's).
 * Runtimes that are started afterwards in a child process use it, and refuse nodes that would run on the CPU.
 * @returns why there is nothing to test on; undefined if there is
 */
export function webgpuMissing(): string | undefined {
  const where = process.env.LIKENESS_WEBGPU;
  if (!where) {
    const reason = "LIKENESS_WEBGPU isn't set, see docs/gpu.md";
    console.info(`Tests on WebGPU are skipped: ${reason}`);
    return reason;
  }
  process.env.LIKENESS_NO_FALLBACK = "1";
  if (where === "1") return undefined;
  const driver = join(where, "vk_swiftshader_icd.json");
  if (!existsSync(driver)) throw new Error(`LIKENESS_WEBGPU: needed 1 or a folder with ${driver}, found none.`);
  process.env.VK_ICD_FILENAMES = driver;
  process.env.LD_LIBRARY_PATH = [where, process.env.LD_LIBRARY_PATH].filter(Boolean).join(delimiter);
  return undefined;
}

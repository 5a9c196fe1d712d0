/** The installed ONNX Runtime: loaded when first needed, and which of its execution providers are really there. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import type * as Ort from "onnxruntime-node";

const require = createRequire(import.meta.url);
let loaded: typeof Ort | undefined;

/** @throws Error if its binary doesn't load on this machine */
export function onnxruntime(): typeof Ort {
  loaded ??= require("onnxruntime-node") as typeof Ort;
  return loaded;
}

export interface InstalledDevice {
  readonly name: string;
  /** False for providers that this build knows but whose library was not installed. */
  readonly present: boolean;
}

const root = (): string => dirname(dirname(require.resolve("onnxruntime-node")));

export const onnxruntimeVersion = (): string =>
  (JSON.parse(readFileSync(join(root(), "package.json"), "utf8")) as { version: string }).version;

export function installedDevices(): InstalledDevice[] {
  const folder = join(root(), "bin", "napi-v6", process.platform, process.arch);
  const libraries = existsSync(folder) ? readdirSync(folder) : [];
  return onnxruntime()
    .listSupportedBackends()
    .map(({ name, bundled }) => ({
      name,
      present: bundled || libraries.some((f) => f.includes(`onnxruntime_providers_${name}`)),
    }));
}

/** Execution providers that programs can be compiled for. */
export const devices = (): string[] =>
  installedDevices()
    .filter((d) => d.present)
    .map((d) => d.name);

/** For the tests of pulling: a cache of its own for each test, and a hub that it serves. */
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach } from "vitest";
import { type Pulled, type PullOptions, pull } from "../src/hub/pull.ts";
import { FakeHub, type HubOptions, sha256 } from "./fake-hub.ts";
import { hubModel } from "./hub-model.ts";

export const UNET = "unet/diffusion_pytorch_model.safetensors";
export const unet = hubModel[UNET] as Buffer;

export let cache: string;
export let hub: FakeHub;

/** Each test has a `cache` of its own, and ends the `hub` that it serves. */
export function useHub(): void {
  beforeEach(() => {
    cache = mkdtempSync(join(tmpdir(), "likeness-pull-"));
  });
  afterEach(async () => {
    await hub.stop();
    rmSync(cache, { recursive: true });
  });
}

export const serve = async (
  files: Readonly<Record<string, Buffer | string>> = hubModel,
  options?: HubOptions,
): Promise<void> => {
  hub = await new FakeHub(files, options).start();
};
export const env = (more: Record<string, string> = {}): Record<string, string> => ({
  ...{ HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: cache, HF_HOME: join(cache, "home") },
  ...more,
});
export const get = (options: PullOptions = {}, name: string = "org/name"): Promise<Pulled> =>
  pull(name, { env: env(), delays: [5, 5, 5], ...options });
export const repo = (): string => join(cache, "models--org--name");
export const blob = (content: Buffer): string => join(repo(), "blobs", sha256(content));

/** All files and links below a folder, by relative path. */
export const tree = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort();

/** `likeness pull` from outside: results, progress, Ctrl-C and resumption; what was pulled is found by its name. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadModel } from "@likeness/diffusion";
import { FIXTURES } from "@likeness/engine/testing";
import { afterEach, beforeEach, expect, test } from "vitest";
import { FakeHub, type HubOptions, sha256 } from "../../../packages/diffusion/test/fake-hub.ts";
import { findModel } from "../src/paths.ts";
import { type Ended, endOf, type LikenessProcess, startLikeness } from "./likeness.ts";

const toy = join(FIXTURES, "models", "sd1");
const files: Record<string, Buffer> = Object.fromEntries(
  readdirSync(toy, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .map((path) => [path.slice(toy.length + 1), readFileSync(path)]),
);
const UNET = "unet/diffusion_pytorch_model.safetensors";

let home: string;
let hub: FakeHub;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "likeness-cli-pull-"));
});
afterEach(async () => {
  await hub.stop();
  rmSync(home, { recursive: true });
  delete process.env.HF_HOME;
});

const serve = async (options?: HubOptions): Promise<void> => {
  hub = await new FakeHub(files, options).start();
};

const start = (...args: string[]): LikenessProcess => {
  const env = { HF_HOME: home, HF_ENDPOINT: hub.endpoint, HF_TOKEN: "", NO_PROXY: "127.0.0.1" };
  return startLikeness(args, { cwd: home, env });
};
const likeness = (...args: string[]): Promise<Ended> => endOf(start(...args));

test("a model is pulled, its folder printed, and found by its name", async () => {
  await serve();
  const { code, out, err } = await likeness("pull", "org/name");
  const folder = join(home, "hub/models--org--name/snapshots", hub.commit);
  expect({ code, out }).toEqual({ code: 0, out: `${folder}\n` });
  expect(err).toMatch(
    /^Pulling: 100%\|█{20}\| ([\d.]+[kM])\/\1 \[00:0\d<00:00, [\d.]+[kMG]?B\/s, file=(\d+)\/\2\]\n$/m,
  );
  process.env.HF_HOME = home;
  expect(findModel("org/name")).toBe(folder);
  expect(loadModel(findModel("org/name")).fingerprint).toBe(loadModel(toy).fingerprint);
  const again = await likeness("pull", "org/name", "--json");
  expect(again.err).toBe("");
  expect(JSON.parse(again.out)).toMatchObject({ path: folder, commit: hub.commit, fetched: 0 });
}, 60_000);

test("Ctrl-C ends it at once; the next pull goes on from the same byte", async () => {
  await serve({ pause: 15 });
  const blob = join(home, "hub/models--org--name/blobs", sha256(files[UNET]!));
  const child = start("pull", "org/name");
  const ended = endOf(child);
  const part = `${blob}.incomplete`;
  while (!existsSync(part) || statSync(part).size < 40_000) await new Promise((resolve) => setTimeout(resolve, 5));
  child.kill("SIGINT");
  expect((await ended).code).toBe(130);
  const kept = statSync(part).size;
  expect(kept).toBeLessThan(files[UNET]!.length);
  expect((await likeness("pull", "org/name")).code).toBe(0);
  expect(hub.bytesAsked(UNET).at(-1)!.range).toBe(`bytes=${kept}-`);
  expect(readFileSync(blob)).toEqual(files[UNET]);
}, 60_000);

test.each<[string, string[], string]>([
  ["no name", ["pull"], "likeness: ORG/NAME (likeness pull): needed the model's name on the hub, found none."],
  ["a path", ["pull", "../x"], 'likeness: model: needed ORG/NAME or ORG/NAME@REVISION, found "../x".'],
  ["two revisions", ["pull", "a/b@c", "--revision", "d"], "likeness: --revision (likeness pull): needed one revision"],
  ["nothing there", ["pull", "a/b"], "likeness: model (http://"],
])(
  "%s: one line, exit code 2, nothing written",
  async (_name, args, message) => {
    await serve();
    const { code, out, err } = await likeness(...args);
    expect({ code, out, lines: err.split("\n").length }).toEqual({ code: 2, out: "", lines: 2 });
    expect(err.startsWith(message)).toBe(true);
    expect(readdirSync(home)).toEqual([]);
  },
  60_000,
);

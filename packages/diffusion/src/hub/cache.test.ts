import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { findSnapshot, hubCache, hubOffline, parseRepoName, readRef, repoFolder, repoOfSnapshot } from "./cache.ts";

const cache = mkdtempSync(join(tmpdir(), "likeness-hub-"));
afterAll(() => rmSync(cache, { recursive: true }));

const OLD = "a".repeat(40);
const NEW = "b".repeat(40);
const repo = join(cache, "models--org--name");
const put = (path: string, text: string): void => {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
};
put(join(repo, "refs", "main"), NEW);
put(join(repo, "refs", "refs", "pr", "1"), OLD);
put(join(repo, "refs", "gone"), "c".repeat(40));
put(join(repo, "refs", "odd"), "../../elsewhere");
put(join(repo, "blobs", "e"), "{}");
for (const commit of [OLD, NEW]) {
  mkdirSync(join(repo, "snapshots", commit), { recursive: true });
  symlinkSync("../../blobs/e", join(repo, "snapshots", commit, "model_index.json"));
}

test.each<[string, string | undefined, string?]>([
  ["org/name", "org/name", "main"],
  ["org/name@fp16", "org/name", "fp16"],
  ["stabilityai/stable-diffusion-2-1-base@refs/pr/1", "stabilityai/stable-diffusion-2-1-base", "refs/pr/1"],
  [`org/na.me_1@${OLD}`, "org/na.me_1", OLD],
  ["name", undefined],
  ["a/b/c", undefined],
  ["./models", undefined],
  ["../models", undefined],
  ["org/a--b", undefined],
  ["org/name@../x", undefined],
  ["org/name@", undefined],
])("%s is a name on the hub: %s at %s", (text, id, revision) =>
  expect(parseRepoName(text)).toEqual(id === undefined ? undefined : { id, revision }),
);

test.each<[string, Record<string, string>, string]>([
  ["nothing", {}, join(homedir(), ".cache", "huggingface", "hub")],
  ["XDG_CACHE_HOME", { XDG_CACHE_HOME: "/x" }, "/x/huggingface/hub"],
  ["HF_HOME", { XDG_CACHE_HOME: "/x", HF_HOME: "/h" }, "/h/hub"],
  ["an empty HF_HOME", { XDG_CACHE_HOME: "/x", HF_HOME: "" }, "/x/huggingface/hub"],
  ["HF_HUB_CACHE", { HF_HOME: "/h", HF_HUB_CACHE: "/c" }, "/c"],
  ["the old name", { HF_HOME: "/h", HUGGINGFACE_HUB_CACHE: "/o" }, "/o"],
  ["a home folder", { HF_HOME: "~/h" }, join(homedir(), "h", "hub")],
  ["a variable", { HF_HUB_CACHE: "$DISK/c", DISK: "/d" }, "/d/c"],
])("the cache's place by %s", (_name, env, place) => expect(hubCache(env)).toBe(place));

test.each([
  ["1", true],
  ["ON", true],
  ["0", false],
  ["", false],
])("HF_HUB_OFFLINE=%s forbids the network: %s", (value, off) =>
  expect(hubOffline({ HF_HUB_OFFLINE: value })).toBe(off),
);

test("a branch, a pull request, a commit and no revision each find their snapshot", () => {
  const at = (commit: string): string => join(repo, "snapshots", commit);
  const find = (text: string): string | undefined => findSnapshot(parseRepoName(text)!, cache);
  expect(find("org/name")).toBe(at(NEW));
  expect(find("org/name@refs/pr/1")).toBe(at(OLD));
  expect(find(`org/name@${OLD}`)).toBe(at(OLD));
});

test("what the cache does not hold is not found", () => {
  const find = (text: string): string | undefined => findSnapshot(parseRepoName(text)!, cache);
  expect(find("org/other")).toBeUndefined();
  expect(find("org/name@none")).toBeUndefined();
  expect(find("org/name@gone")).toBeUndefined(); // its snapshot was removed
  expect(find(`org/name@${"d".repeat(40)}`)).toBeUndefined();
});

test("a reference that holds no commit leads nowhere", () => {
  expect(readRef(repoFolder("org/name", cache), "odd")).toBeUndefined();
});

test("a snapshot's folder knows its model", () => {
  expect(repoOfSnapshot(join(repo, "snapshots", NEW))).toBe("org/name");
  expect(repoOfSnapshot(repo)).toBeUndefined();
});

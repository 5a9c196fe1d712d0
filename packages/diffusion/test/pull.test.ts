/** Pulling from a server that behaves like the hub: which files, where they lie, and one pull at a time. */
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { hostname } from "node:os";
import { dirname, join } from "node:path";
import { FIXTURES } from "@likeness/engine/testing";
import { describe, expect, test } from "vitest";
import { findSnapshot } from "../src/hub/cache.ts";
import type { Pulled, PullOptions } from "../src/hub/pull.ts";
import { selectFiles } from "../src/hub/select.ts";
import { sha256 } from "./fake-hub.ts";
import { hubModel } from "./hub-model.ts";
import { cache, get, hub, repo, serve, tree, UNET, useHub } from "./pull-setup.ts";

useHub();

const PARTS = [
  "feature_extractor/preprocessor_config.json",
  "model_index.json",
  "scheduler/scheduler_config.json",
  "text_encoder/config.json",
  "text_encoder/model.safetensors",
  "tokenizer/merges.txt",
  "tokenizer/special_tokens_map.json",
  "tokenizer/tokenizer_config.json",
  "tokenizer/vocab.json",
  "unet/config.json",
  UNET,
  "vae/config.json",
  "vae/diffusion_pytorch_model.safetensors",
];

test("the parts that are needed, in the layout of the Hugging Face cache", async () => {
  await serve();
  const { folder, commit, files, fetched } = await get();
  expect(folder).toBe(join(repo(), "snapshots", hub.commit));
  expect(tree(folder)).toEqual(PARTS);
  for (const name of PARTS) {
    expect(readFileSync(join(folder, name))).toEqual(Buffer.from(hubModel[name]!));
    expect(readlinkSync(join(folder, name))).toMatch(/^(\.\.\/)+blobs\/[0-9a-f]+$/);
  }
  expect(readFileSync(join(repo(), "refs/main"), "utf8")).toBe(commit);
  expect(files.map((f) => f.name).sort()).toEqual(PARTS);
  const contents = new Map(files.map((f) => [f.etag, f.size]));
  expect(contents.size).toBe(PARTS.length - 3); // two equal configs, "{}" three times
  expect(fetched).toBe([...contents.values()].reduce((a, b) => a + b));
  expect(findSnapshot({ id: "org/name", revision: "main" }, cache)).toBe(folder);
  expect(tree(join(repo(), "blobs")).sort()).toEqual([...contents.keys()].sort());
});

test("what suits the model, where its folder says so", async () => {
  await serve({ ...hubModel, "generation_config.json": '{"guidance_scale": 5}' });
  expect(tree((await get()).folder)).toEqual(PARTS.toSpliced(1, 0, "generation_config.json"));
});

test("all parts of a model of ours, and nothing beside them", () => {
  const pocket = join(FIXTURES, "../models/pocket");
  const names = tree(pocket);
  const beside = /^(README\.md$|examples\/|training\/|world\/)/;
  expect(selectFiles(names, { id: "likeness/pocket" }).sort()).toEqual(names.filter((name) => !beside.test(name)));
});

test("blobs, links and references are those that huggingface_hub makes (which reads ours: see the maker)", async () => {
  const golden = JSON.parse(readFileSync(new URL("../../../fixtures/hub-layout.json", import.meta.url), "utf8"));
  const maker = readFileSync(new URL("../../../fixtures/make/hub_layout.py", import.meta.url));
  expect(sha256(maker)).toBe(golden.sha256);
  await serve();
  await get({ include: golden.patterns });
  const found = tree(cache).map((name) => {
    const path = join(cache, name);
    if (lstatSync(path).isSymbolicLink()) return [name, `-> ${readlinkSync(path)}`];
    return [name, name.includes("/blobs/") ? `${statSync(path).size} bytes` : readFileSync(path, "utf8")];
  });
  expect(Object.fromEntries(found)).toEqual(golden.layout);
});

test("a second pull fetches nothing, and a new commit what has changed", async () => {
  await serve();
  const first = await get();
  hub.seen.length = 0;
  expect(await get()).toEqual({ ...first, fetched: 0 });
  expect(hub.seen.filter((s) => s.method === "GET")).toHaveLength(1);
  await hub.stop();
  await serve({ ...hubModel, "unet/config.json": '{"b": 3}' }, { commit: "f".repeat(40) });
  const second = await get();
  expect(second.fetched).toBe(8);
  expect(readFileSync(join(repo(), "refs/main"), "utf8")).toBe("f".repeat(40));
  expect(existsSync(first.folder)).toBe(true);
});

test("revisions: a branch gets its own name, a commit none", async () => {
  await serve(hubModel, { branches: ["main", "fp16", "refs/pr/1"] });
  await get({}, "org/name@refs/pr/1");
  await get({}, `org/name@${hub.commit}`);
  expect(tree(join(repo(), "refs"))).toEqual(["refs/pr/1"]);
});

const weightsOf = ({ files }: Pulled): string[] => files.map((f) => f.name).filter((name) => /safetensors/.test(name));

describe("which weights", () => {
  test.each<[string, PullOptions, string[]]>([
    [
      "a variant, where there is one",
      { variant: "fp16" },
      [
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.fp16.safetensors",
      ],
    ],
    [
      "a pattern",
      { include: ["v1-5*", "unet/*.non_ema.*"] },
      ["v1-5-pruned.safetensors", "unet/diffusion_pytorch_model.non_ema.safetensors"],
    ],
  ])("%s", async (_name, options, weights) => {
    await serve();
    expect(weightsOf(await get(options)).sort()).toEqual(weights.sort());
  });

  test.each<[string, string[], string | undefined]>([
    [
      "plain",
      ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"],
      undefined,
    ],
    ["new variant", ["model.fp16-00001-of-00001.safetensors", "model.safetensors.index.fp16.json"], "fp16"],
    ["old variant", ["model-00001-of-00001.bf16.safetensors", "model.safetensors.bf16.index.json"], "bf16"],
  ])("shards with their index: %s", async (_name, shards, variant) => {
    const own = shards.map((name) => `text_encoder/${name}`);
    const others = [
      "model.q8.safetensors",
      "model.safetensors.index.q8.json",
      "pytorch_model.bin.index.json",
      "tf_model.h5",
    ];
    const all = [...own, ...others.map((name) => `text_encoder/${name}`)];
    await serve({ "model_index.json": "{}", ...Object.fromEntries(all.map((name, i) => [name, `content ${i}`])) });
    expect(weightsOf(await get({ variant })).sort()).toEqual(own.sort());
  });
});

describe("two at a time", () => {
  const lock = (): string => join(cache, ".locks", "models--org--name", "pull.lock");

  test("the second waits, and fetches nothing", async () => {
    await serve(hubModel, { pause: 2 });
    let waited = 0;
    const both = await Promise.all([get({ onWait: () => waited++ }), get({ onWait: () => waited++ })]);
    expect(waited).toBe(1);
    expect(both.map((p) => p.fetched > 0).sort()).toEqual([false, true]);
    expect(hub.bytesAsked(UNET).filter((s) => s.server === "cdn")).toHaveLength(1);
    expect(tree(join(cache, ".locks"))).toEqual([]);
  });

  test("a lock whose process has gone, or that nobody has touched for a minute, is nobody's", async () => {
    await serve();
    for (const owner of [
      JSON.stringify({ pid: 2 ** 22 + 1, host: hostname() }),
      "",
      JSON.stringify({ pid: 1, host: "other" }),
    ]) {
      mkdirSync(dirname(lock()), { recursive: true });
      writeFileSync(lock(), owner);
      if (!owner.includes(hostname())) utimesSync(lock(), new Date(), Date.now() / 1000 - 61);
      await get();
      expect(existsSync(lock())).toBe(false);
    }
  });
});

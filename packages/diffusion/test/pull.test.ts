/** Pulling from a server that behaves like the hub, and misbehaves like a network. */
import {
  appendFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:http";
import { connect } from "node:net";
import { hostname, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { findSnapshot } from "../src/hub/cache.ts";
import { type Pulled, type PullOptions, pull } from "../src/hub/pull.ts";
import { FakeHub, type Fault, type HubOptions, sha256 } from "./fake-hub.ts";
import { hubModel } from "./hub-model.ts";

const UNET = "unet/diffusion_pytorch_model.safetensors";
const unet = hubModel[UNET] as Buffer;

let cache: string;
let hub: FakeHub;
beforeEach(() => {
  cache = mkdtempSync(join(tmpdir(), "likeness-pull-"));
});
afterEach(async () => {
  await hub.stop();
  rmSync(cache, { recursive: true });
});

const serve = async (
  files: Readonly<Record<string, Buffer | string>> = hubModel,
  options?: HubOptions,
): Promise<void> => {
  hub = await new FakeHub(files, options).start();
};
const env = (more: Record<string, string> = {}): Record<string, string> => ({
  ...{ HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: cache, HF_HOME: join(cache, "home") },
  ...more,
});
const get = (options: PullOptions = {}, name: string = "org/name"): Promise<Pulled> =>
  pull(name, { env: env(), delays: [5, 5, 5], ...options });
const repo = (): string => join(cache, "models--org--name");
const blob = (content: Buffer): string => join(repo(), "blobs", sha256(content));

/** All files and links below a folder, by relative path. */
const tree = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort();

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

describe("what a network does", () => {
  const broken: [string, Fault[], (string | undefined)[]][] = [
    [
      "drops the connection twice",
      [
        { kind: "drop", after: 100_000 },
        { kind: "drop", after: 70_000 },
      ],
      [undefined, "bytes=100000-", "bytes=170000-"],
    ],
    [
      "is busy, then drops",
      [
        { kind: "status", status: 503 },
        { kind: "drop", after: 40_000 },
      ],
      [undefined, undefined, "bytes=40000-"],
    ],
    ["falls silent", [{ kind: "silence" }], [undefined, undefined]],
    ["asks to wait", [{ kind: "status", status: 429, headers: { "retry-after": "0" } }], [undefined, undefined]],
    ["lets a link expire", [{ kind: "status", status: 403 }], [undefined, undefined]],
    ["knows no ranges", [{ kind: "drop", after: 100_000 }, { kind: "ignoreRange" }], [undefined, "bytes=100000-"]],
    [
      "cannot satisfy a range",
      [
        { kind: "drop", after: 100_000 },
        { kind: "status", status: 416 },
      ],
      [undefined, "bytes=100000-", undefined],
    ],
  ];
  test.each(broken)("%s", async (_name, faults, ranges) => {
    await serve();
    hub.faults.set(UNET, [...faults]);
    const { folder } = await get({ timeout: faults[0]!.kind === "silence" ? 1500 : 30_000 });
    expect(readFileSync(join(folder, UNET))).toEqual(unet);
    const asked = hub.bytesAsked(UNET).filter((s) => s.server === "cdn");
    expect(asked.map((s) => s.range)).toEqual(ranges);
    for (const { range, ifRange } of asked) if (range) expect(ifRange).toBe(`"cdn-${unet.length}"`);
  });

  test("stays away: what has come is kept, and the next pull goes on from there", async () => {
    await serve();
    hub.faults.set(UNET, [{ kind: "drop", after: 123_456 }, ...Array(4).fill({ kind: "status", status: 500 })]);
    await expect(get()).rejects.toThrow(/no answer from the hub .*: found .* answered 500\. .*what has come is kept/);
    expect(statSync(`${blob(unet)}.incomplete`).size).toBe(123_456);
    expect(existsSync(join(repo(), "snapshots"))).toBe(false); // nothing that looks whole
    expect(existsSync(join(repo(), "refs"))).toBe(false);
    hub.seen.length = 0;
    const starts: number[] = [];
    const { folder, fetched } = await get({ onStart: ({ bytes, present }) => starts.push(bytes - present) });
    expect(hub.bytesAsked(UNET).at(-1)!.range).toBe("bytes=123456-");
    expect(starts).toEqual([fetched]);
    expect(readFileSync(join(folder, UNET))).toEqual(unet);
  });

  test("always starts over and breaks off: given up", async () => {
    await serve();
    const fault = (): Fault[] => [{ kind: "drop", after: 1000 }];
    hub.faults.set(UNET, Array(50).fill(0).flatMap(fault));
    hub.files.set(UNET, unet);
    await expect(get({ delays: [1, 1] })).resolves.toBeDefined(); // every try adds 1000 bytes: goes on
    rmSync(repo(), { recursive: true });
    hub.faults.set(
      UNET,
      Array(50)
        .fill(0)
        .flatMap((): Fault[] => [{ kind: "content", content: unet.subarray(0, 1000) }]),
    );
    await expect(get({ delays: [1, 1] })).rejects.toThrow("broke off after 1000 of 300000 bytes");
  });

  test("Ctrl-C in the middle keeps what has come", async () => {
    await serve(hubModel, { pause: 2 });
    const controller = new AbortController();
    const onBytes = (): void => {
      if (existsSync(`${blob(unet)}.incomplete`) && statSync(`${blob(unet)}.incomplete`).size > 30_000)
        controller.abort(new Error("interrupted"));
    };
    await expect(get({ signal: controller.signal, onBytes })).rejects.toThrow("interrupted");
    const kept = statSync(`${blob(unet)}.incomplete`).size;
    expect(kept).toBeGreaterThan(30_000);
    expect(kept).toBeLessThan(unet.length);
    expect(tree(join(cache, ".locks"))).toEqual([]);
    await get();
    expect(hub.bytesAsked(UNET).at(-1)!.range).toBe(`bytes=${kept}-`);
  });

  test("bytes go up to all of them", async () => {
    await serve();
    hub.faults.set(UNET, [{ kind: "drop", after: 100_000 }]);
    const seen: number[] = [];
    let total = 0;
    await get({ onStart: ({ bytes }) => void (total = bytes), onBytes: (bytes) => seen.push(bytes) });
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
    expect(seen.at(-1)).toBe(total);
  });
});

describe("content that is not what its hash says", () => {
  const other = Buffer.alloc(unet.length, 7);

  test("is refused and not kept", async () => {
    await serve();
    hub.faults.set(UNET, [{ kind: "content", content: other }]);
    await expect(get()).rejects.toThrow(
      `${UNET} (${hub.endpoint}/org/name/resolve/${hub.commit}/${UNET}): needed content of sha256 ${sha256(unet)}, found ${sha256(other)}. Nothing of it was kept.`,
    );
    expect(existsSync(blob(unet))).toBe(false);
    expect(existsSync(`${blob(unet)}.incomplete`)).toBe(false);
    await get();
  });

  test("nor is one that is longer, or a small file that git would name otherwise", async () => {
    await serve();
    hub.faults.set(UNET, [{ kind: "content", content: Buffer.concat([unet, other]) }]);
    await expect(get()).rejects.toThrow(/found more than 300000 bytes.*\[E_HASH\]/);
    expect(existsSync(`${blob(unet)}.incomplete`)).toBe(false);
    rmSync(repo(), { recursive: true });
    hub.faults.set("tokenizer/vocab.json", [{ kind: "content", content: Buffer.from('{"a": 1}') }]);
    await expect(get()).rejects.toThrow(
      /tokenizer\/vocab\.json .*needed content of hash [0-9a-f]{40}, found [0-9a-f]{40}/,
    );
  });

  test("left by an earlier try is fetched again from the start", async () => {
    await serve();
    mkdirSync(dirname(blob(unet)), { recursive: true });
    writeFileSync(`${blob(unet)}.incomplete`, other.subarray(0, 50_000));
    const { folder } = await get();
    expect(readFileSync(join(folder, UNET))).toEqual(unet);
    appendFileSync(blob(unet), "cut or grown: not the size that it should be");
    await get();
    expect(readFileSync(blob(unet))).toEqual(unet);
  });
});

describe("the token", () => {
  const HF_TOKEN = "hf_secret";

  test.each(["HF_TOKEN", "HF_TOKEN_PATH", "HF_HOME"])("from %s goes to the hub and to nobody else", async (place) => {
    await serve(hubModel, { token: HF_TOKEN });
    mkdirSync(join(cache, "home"));
    const path = join(cache, "home", place === "HF_HOME" ? "token" : "elsewhere");
    writeFileSync(path, `${HF_TOKEN}\n`);
    const more = { HF_TOKEN: { HF_TOKEN }, HF_TOKEN_PATH: { HF_TOKEN_PATH: path }, HF_HOME: {} }[place]!;
    await get({ env: env(more as Record<string, string>) });
    expect(new Set(hub.seen.map((s) => `${s.server} ${s.authorization}`))).toEqual(
      new Set([`hub Bearer ${HF_TOKEN}`, "cdn undefined"]),
    );
  });

  test("with odd characters is refused, and not shown", async () => {
    await serve();
    const error = await get({ env: env({ HF_TOKEN: "hf_se\ncret" }) }).catch((e: Error) => e);
    expect(String(error)).toContain("HF_TOKEN: needed a token: one word of plain characters");
    expect(String(error)).not.toContain("cret\n");
    expect(String(error)).not.toContain("hf_se");
  });
});

describe("one clear line", () => {
  const huge = (name: string): Record<string, string> => (name === UNET ? { "x-linked-size": "4000000000000000" } : {});
  const etag = (name: string): Record<string, string> => (name === UNET ? { "x-linked-etag": '"../../../evil"' } : {});
  const onlyPickles = { "model_index.json": "{}", "unet/config.json": "{}", "unet/diffusion_pytorch_model.bin": "x" };
  const onlyFp16 = { "model_index.json": "{}", "unet/diffusion_pytorch_model.fp16.safetensors": "x" };
  test.each<
    [
      string,
      string,
      RegExp,
      { files?: typeof hubModel; hub?: HubOptions; pull?: PullOptions; env?: Record<string, string> },
    ]
  >([
    ["a name that is none", "name", /^model: needed ORG\/NAME or ORG\/NAME@REVISION, found "name"\..*\[E_USAGE\]$/, {}],
    ["a name that leads elsewhere", "../name", /needed ORG\/NAME/, {}],
    ["a revision that leads elsewhere", "org/name@../../x", /needed ORG\/NAME/, {}],
    [
      "no such model",
      "org/none",
      /^model \(http:.*\/org\/none\): needed one that is there and may be read, found none \(401\)\. Check its name; a private model needs HF_TOKEN\. \[E_HUB\]$/,
      {},
    ],
    [
      "no such revision",
      "org/name@v9",
      /^revision \(.*\): needed a branch, a tag or a commit of the model, found "v9"\. Check --revision\./,
      {},
    ],
    [
      "a gated model",
      "org/name",
      /^gated model \(.*\/org\/name\): needed an account that has accepted its terms, found no token\. Accept them on its page, and set HF_TOKEN\./,
      { hub: { gated: true } },
    ],
    [
      "a wrong token",
      "org/name",
      /Check its name, and whether the token may read it\./,
      { hub: { token: "x" }, env: { HF_TOKEN: "y" } },
    ],
    [
      "offline",
      "org/name",
      /^HF_HUB_OFFLINE: needed the network, found it forbidden\. Unset it to fetch the model\. \[E_OFFLINE\]$/,
      { env: { HF_HUB_OFFLINE: "1" } },
    ],
    [
      "an endpoint that is none",
      "org/name",
      /^HF_ENDPOINT: needed an address that begins with http/,
      { env: { HF_ENDPOINT: "hub.example" } },
    ],
    [
      "nobody there",
      "org/name",
      /^no answer from the hub \(http:\/\/127\.0\.0\.1:1\): found 127\.0\.0\.1:1: ECONNREFUSED.*Is the network there\?/,
      { env: { HF_ENDPOINT: "http://127.0.0.1:1" } },
    ],
    [
      "no such variant",
      "org/name",
      /^variant "q4" \(org\/name\): needed one that the model has, found "fp16", "non_ema"\./,
      { pull: { variant: "q4" } },
    ],
    [
      "a pattern without files",
      "org/name",
      /^--include \(org\/name\): needed files that match "\*\.gguf", found none among 24\./,
      { pull: { include: ["*.gguf"] } },
    ],
    [
      "pickles by pattern",
      "org/name",
      /^--include \(org\/name\): needed safe files, found v1-5-pruned\.ckpt\. A pickle can run any code/,
      { pull: { include: ["*.ckpt"] } },
    ],
    [
      "pickles only",
      "org/name",
      /^unet weights \(org\/name\): needed a \.safetensors, found diffusion_pytorch_model\.bin\. A pickle can run any code/,
      { files: onlyPickles },
    ],
    [
      "one variant only",
      "org/name",
      /needed a plain \.safetensors, found variants only: fp16\. Add --variant fp16\./,
      { files: onlyFp16 },
    ],
    [
      "no diffusers model",
      "org/name",
      /needed a diffusers model with model_index\.json, found lora\.safetensors\. Fetch single files with --include "lora\.safetensors"\./,
      { files: { "lora.safetensors": "x" } },
    ],
    [
      "a file name that leads elsewhere",
      "org/name",
      /^file name on the server: needed a path inside the model's folder, found "unet\/\.\.\/\.\.\/x\.json"\..*do not trust/,
      { files: { ...hubModel, "unet/../../x.json": "x" } },
    ],
    ["an absolute file name", "org/name", /^file name on the server/, { files: { ...hubModel, "/etc/x.json": "x" } }],
    ["a back slash", "org/name", /^file name on the server/, { files: { ...hubModel, "unet\\..\\x.json": "x" } }],
    [
      "a hash that leads elsewhere",
      "org/name",
      /^etag \(unet.*\): needed the sha256 or git hash of the file's content, found "\\"\.\.\/\.\.\/\.\.\/evil\\""/,
      { hub: { headers: etag } },
    ],
    [
      "a disk that is too small",
      "org/name",
      /^disk \(.*\): needed 4000000\.0 GB, found [\d.]+ GB free\. Make room, or set HF_HOME.*\[E_DISK\]$/,
      { hub: { headers: huge } },
    ],
    [
      "no hub behind it",
      "org/name",
      /^commit \(.*\): needed 40 hexadecimal digits, found "x"\. Does HF_ENDPOINT point to a Hugging Face hub\?/,
      { hub: { commit: "x" } },
    ],
  ])("%s", async (_name, name, message, { files, hub: options, pull: more, env: variables }) => {
    await serve(files, options);
    const error = await get({ ...more, env: env(variables) }, name).catch((e: Error) => e);
    expect((error as Error).message).toMatch(message);
    expect(tree(cache)).toEqual([]);
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

test("a proxy is used, except for hosts that need none", async () => {
  await serve(hubModel, { token: "hf_secret" });
  const tunnels: string[] = [];
  const headers: string[] = [];
  const proxy = createServer();
  proxy.on("connect", (request, socket, head) => {
    tunnels.push(request.url!);
    headers.push(JSON.stringify(request.headers));
    const [host, port] = request.url!.split(":");
    const far = connect(Number(port), host, () => {
      socket.write("HTTP/1.1 200 OK\r\n\r\n");
      far.write(head);
      far.pipe(socket).pipe(far);
    });
    for (const end of [far, socket]) end.on("error", () => {});
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  const { port } = proxy.address() as { port: number };
  const variables = env({ HTTP_PROXY: `http://127.0.0.1:${port}`, HF_TOKEN: "hf_secret" });
  await get({ env: variables });
  expect(tunnels).toContain(new URL(hub.endpoint).host);
  expect(tunnels.length).toBeGreaterThan(1); // the CDN's too
  expect(headers.join()).not.toContain("hf_secret");
  tunnels.length = 0;
  rmSync(repo(), { recursive: true });
  await get({ env: { ...variables, NO_PROXY: "127.0.0.1" } });
  expect(tunnels).toEqual([]);
  proxy.closeAllConnections();
  proxy.close();
});

/** Pulling from a server that misbehaves like a network; and what it gets to know: the token, through a proxy. */
import { appendFileSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { type Fault, sha256 } from "./fake-hub.ts";
import { hubModel } from "./hub-model.ts";
import { blob, cache, env, get, hub, repo, serve, tree, UNET, unet, useHub } from "./pull-setup.ts";

useHub();

describe("what a network does", () => {
  // where each request starts, at most: what had come but wasn't read when a connection broke is asked for again
  const broken: [string, Fault[], (number | undefined)[]][] = [
    [
      "drops the connection twice",
      [
        { kind: "drop", after: 100_000 },
        { kind: "drop", after: 70_000 },
      ],
      [undefined, 100_000, 170_000],
    ],
    [
      "is busy, then drops",
      [
        { kind: "status", status: 503 },
        { kind: "drop", after: 40_000 },
      ],
      [undefined, undefined, 40_000],
    ],
    ["falls silent", [{ kind: "silence" }], [undefined, undefined]],
    ["asks to wait", [{ kind: "status", status: 429, headers: { "retry-after": "0" } }], [undefined, undefined]],
    ["lets a link expire", [{ kind: "status", status: 403 }], [undefined, undefined]],
    ["knows no ranges", [{ kind: "drop", after: 100_000 }, { kind: "ignoreRange" }], [undefined, 100_000]],
    [
      "cannot satisfy a range",
      [
        { kind: "drop", after: 100_000 },
        { kind: "status", status: 416 },
      ],
      [undefined, 100_000, undefined],
    ],
  ];
  test.each(broken)("%s", async (_name, faults, starts) => {
    await serve();
    hub.faults.set(UNET, [...faults]);
    const { folder } = await get({ timeout: faults[0]!.kind === "silence" ? 1500 : 30_000 });
    expect(readFileSync(join(folder, UNET))).toEqual(unet);
    const asked = hub.bytesAsked(UNET).filter((s) => s.server === "cdn");
    expect(asked).toHaveLength(starts.length);
    let before = 0;
    for (const [i, { range, ifRange }] of asked.entries()) {
      const most = starts[i];
      expect(range === undefined).toBe(most === undefined);
      if (range === undefined || most === undefined) continue;
      const start = Number(/^bytes=(\d+)-$/.exec(range)![1]);
      expect(start).toBeGreaterThan(before);
      expect(start).toBeLessThanOrEqual(most);
      before = start;
      expect(ifRange).toBe(`"cdn-${unet.length}"`);
    }
  });

  test("stays away: what has come is kept, and the next pull goes on from there", async () => {
    await serve();
    hub.faults.set(UNET, [{ kind: "drop", after: 123_456 }, ...Array(4).fill({ kind: "status", status: 500 })]);
    await expect(get()).rejects.toThrow(/no answer from the hub .*: found .* answered 500\. .*what has come is kept/);
    const kept = statSync(`${blob(unet)}.incomplete`).size;
    expect(kept).toBeGreaterThan(0);
    expect(kept).toBeLessThanOrEqual(123_456);
    expect(existsSync(join(repo(), "snapshots"))).toBe(false); // nothing that looks whole
    expect(existsSync(join(repo(), "refs"))).toBe(false);
    hub.seen.length = 0;
    const starts: number[] = [];
    const { folder, fetched } = await get({ onStart: ({ bytes, present }) => starts.push(bytes - present) });
    expect(hub.bytesAsked(UNET).at(-1)!.range).toBe(`bytes=${kept}-`);
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

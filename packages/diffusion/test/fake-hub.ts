/** A local server that behaves like the Hugging Face hub: an API, small files from itself, large ones from a CDN on another port. */
import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

/** What goes wrong with the next request for a file's bytes. */
export type Fault =
  | { readonly kind: "drop"; readonly after: number }
  | { readonly kind: "status"; readonly status: number; readonly headers?: Record<string, string> }
  | { readonly kind: "content"; readonly content: Buffer }
  | { readonly kind: "ignoreRange" }
  | { readonly kind: "silence" };

export interface Seen {
  readonly server: "hub" | "cdn";
  readonly method: string;
  readonly path: string;
  readonly range: string | undefined;
  readonly ifRange: string | undefined;
  readonly authorization: string | undefined;
}

export interface HubOptions {
  readonly id?: string;
  readonly commit?: string;
  readonly branches?: readonly string[];
  /** Without it, 401. */
  readonly token?: string;
  readonly gated?: boolean;
  /** Milliseconds between pieces of 16 KiB. */
  readonly pause?: number;
  /** Changes what the hub says about a file. */
  readonly headers?: (name: string) => Record<string, string>;
}

export const sha256 = (content: Buffer): string => createHash("sha256").update(content).digest("hex");
export const gitHash = (content: Buffer): string =>
  createHash("sha1").update(`blob ${content.length}\0`).update(content).digest("hex");

/** Kept apart by git-lfs, and so on the CDN. */
const isLarge = (name: string): boolean => name.endsWith(".safetensors") || name.endsWith(".bin");
const etagOf = (name: string, content: Buffer): string => (isLarge(name) ? sha256(content) : gitHash(content));

export class FakeHub {
  readonly files: Map<string, Buffer>;
  readonly seen: Seen[] = [];
  /** By file name, used up one by one. */
  readonly faults: Map<string, Fault[]> = new Map();
  readonly commit: string;
  readonly #options: HubOptions;
  readonly #hub: Server;
  readonly #cdn: Server;

  constructor(files: Readonly<Record<string, Buffer | string>>, options: HubOptions = {}) {
    this.files = new Map(Object.entries(files).map(([name, content]) => [name, Buffer.from(content)]));
    this.commit = options.commit ?? "0123456789abcdef0123456789abcdef01234567";
    this.#options = { id: "org/name", branches: ["main"], ...options };
    this.#hub = createServer((request, response) => void this.#answer(request, response));
    this.#cdn = createServer((request, response) => {
      this.#note("cdn", request);
      void this.#send(decodeURIComponent(request.url!.slice(1).split("?")[0]!), request, response);
    });
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#hub.address() as AddressInfo).port}`;
  }

  async start(): Promise<this> {
    for (const server of [this.#hub, this.#cdn])
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return this;
  }

  async stop(): Promise<void> {
    for (const server of [this.#hub, this.#cdn]) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  }

  /** Requests for a file's bytes. */
  bytesAsked(name: string): Seen[] {
    return this.seen.filter(
      (s) => s.method === "GET" && s.path.split("?")[0]!.endsWith(`/${encodeURIComponent(name)}`),
    );
  }

  #note(server: "hub" | "cdn", { method, url, headers }: IncomingMessage): void {
    const { range, authorization, "if-range": ifRange } = headers;
    this.seen.push({
      server,
      method: method!,
      path: url!,
      range,
      ifRange: ifRange as string | undefined,
      authorization,
    });
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.#note("hub", request);
    const { id, branches, token, gated, headers } = this.#options;
    const refuse = (status: number, code: string): void => {
      response.writeHead(status, code ? { "x-error-code": code } : {}).end(request.method === "HEAD" ? "" : "{}");
    };
    if (gated && request.headers.authorization === undefined) return refuse(401, "GatedRepo");
    if (token !== undefined && request.headers.authorization !== `Bearer ${token}`) return refuse(401, "");
    const url = decodeURIComponent(request.url!);
    const [, api, revision] = /^\/api\/models\/([^/]+\/[^/]+)\/revision\/([^?]+)/.exec(url) ?? [];
    if (api !== undefined) {
      if (api !== id) return refuse(401, "RepoNotFound");
      if (![...branches!, this.commit].includes(revision!)) return refuse(404, "RevisionNotFound");
      return void response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(this.#info()));
    }
    if (url.startsWith(`/api/models/${id}/tree/`))
      return void response.writeHead(200).end(JSON.stringify(this.#tree()));
    const [, repo, at, name] = /^\/([^/]+\/[^/]+)\/resolve\/([^/]+)\/([^?]+)/.exec(url) ?? [];
    if (repo !== id) return refuse(404, "RepoNotFound");
    if (![...branches!, this.commit].includes(at!)) return refuse(404, "RevisionNotFound");
    const content = this.files.get(name!);
    if (!content) return refuse(404, "EntryNotFound");
    const common = { "x-repo-commit": this.commit, ...headers?.(name!) };
    if (!isLarge(name!)) return this.#send(name!, request, response, common);
    const { port } = this.#cdn.address() as AddressInfo;
    response
      .writeHead(302, {
        location: `http://127.0.0.1:${port}/${encodeURIComponent(name!)}?signature=secret`,
        "x-linked-etag": `"${etagOf(name!, content)}"`,
        "x-linked-size": String(content.length),
        ...common,
      })
      .end();
  }

  #info(): object {
    const siblings = [...this.files].map(([rfilename, content]) => ({
      rfilename,
      size: content.length,
      blobId: gitHash(content),
      ...(isLarge(rfilename) && { lfs: { sha256: sha256(content), size: content.length, pointerSize: 134 } }),
    }));
    return { id: this.#options.id, sha: this.commit, siblings };
  }

  /** What huggingface_hub asks for; likeness doesn't. */
  #tree(): object[] {
    return [...this.files].map(([path, content]) => ({
      ...{ type: "file", path, size: content.length, oid: gitHash(content) },
      ...(isLarge(path) && { lfs: { oid: sha256(content), size: content.length, pointerSize: 134 } }),
    }));
  }

  async #send(
    name: string,
    { method, headers }: IncomingMessage,
    response: ServerResponse,
    extra: Record<string, string> = {},
  ): Promise<void> {
    const fault = method === "GET" ? this.faults.get(name)?.shift() : undefined;
    if (fault?.kind === "silence") return;
    if (fault?.kind === "status") return void response.writeHead(fault.status, fault.headers).end();
    const content = fault?.kind === "content" ? fault.content : this.files.get(name)!;
    // the CDN's own etag is another than the hub's
    const etag = isLarge(name) ? `"cdn-${content.length}"` : `"${etagOf(name, content)}"`;
    const [, from] = /^bytes=(\d+)-$/.exec(headers.range ?? "") ?? [];
    const same = headers["if-range"] === undefined || headers["if-range"] === etag;
    const ranged = from !== undefined && same && fault?.kind !== "ignoreRange";
    const start = ranged ? Number(from) : 0;
    if (start >= content.length && start > 0)
      return void response.writeHead(416, { "content-range": `bytes */${content.length}` }).end();
    const body = content.subarray(start);
    response.writeHead(ranged ? 206 : 200, {
      etag,
      "content-length": body.length,
      ...(ranged && { "content-range": `bytes ${start}-${content.length - 1}/${content.length}` }),
      ...extra,
    });
    if (method === "HEAD") return void response.end();
    const end = fault?.kind === "drop" ? Math.min(fault.after, body.length) : body.length;
    for (let i = 0; i < end; i += 16384) {
      response.write(body.subarray(i, Math.min(end, i + 16384)));
      if (this.#options.pause) await new Promise((resolve) => setTimeout(resolve, this.#options.pause));
      if (response.destroyed) return;
    }
    if (fault?.kind !== "drop") return void response.end();
    await new Promise((resolve) => setTimeout(resolve, 20)); // so that what was sent arrives
    response.destroy();
  }
}

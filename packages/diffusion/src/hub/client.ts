/** Requests to the hub: redirects without the token, retries, and refusals in words. */
import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { LikenessError } from "@likeness/engine/errors";
import type { Dispatcher } from "undici";
import { refusal } from "./refusal.ts";
import type { HubSettings } from "./settings.ts";

export interface Answer {
  readonly status: number;
  readonly url: string;
  header(name: string): string | undefined;
  readonly body: Readable & { text(): Promise<string>; dump(): Promise<void> };
}

export interface HubClient {
  readonly endpoint: string;
  /** A JSON document of the hub. */
  json(path: string): Promise<unknown>;
  /** Headers alone, from the hub itself: what it says about a file that a CDN holds is not looked up there. */
  head(path: string): Promise<Answer>;
  /** A file's bytes, wherever the hub sends us. One try: whoever reads them tries again, from where they broke off. */
  get(path: string, headers: Readonly<Record<string, string>>): Promise<Answer>;
  close(): Promise<void>;
}

export interface ClientOptions {
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds of silence after which a connection counts as broken. */
  readonly timeout?: number | undefined;
  /** Milliseconds before each further try. */
  readonly delays?: readonly number[] | undefined;
}

const REDIRECTS = 10;

/** A connection that broke, or a server that is busy: worth another try. */
export class Interrupted extends Error {
  override readonly name = "Interrupted";
  /** Milliseconds that the server asked us to wait, if it did. */
  readonly wait: number;
  constructor(message: string, wait: number = 0) {
    super(message);
    this.wait = wait;
  }
}

export async function createClient(settings: HubSettings, options: ClientOptions = {}): Promise<HubClient> {
  const { signal, timeout = 30_000, delays = [500, 2000] } = options;
  const { endpoint, token } = settings;
  const { Agent, EnvHttpProxyAgent, request } = await import("undici"); // only who pulls pays for loading it
  const times = { connect: { timeout }, headersTimeout: timeout, bodyTimeout: timeout };
  const { httpProxy = "", httpsProxy = "", noProxy = "" } = settings;
  const proxied = httpProxy !== "" || httpsProxy !== "";
  const dispatcher: Dispatcher = proxied
    ? new EnvHttpProxyAgent({ ...times, httpProxy, httpsProxy, noProxy })
    : new Agent(times);

  async function once(method: "GET" | "HEAD", url: string, extra: Readonly<Record<string, string>>): Promise<Answer> {
    const trusted = sameOrigin(url, endpoint);
    const headers = {
      "user-agent": "likeness",
      "accept-encoding": "identity", // the bytes that the hash is about
      ...(trusted && token !== undefined && { authorization: `Bearer ${token}` }),
      ...extra,
    };
    try {
      const {
        statusCode,
        headers: got,
        body,
      } = await request(url, { method, headers, dispatcher, signal: signal ?? null });
      const header = (name: string): string | undefined => [got[name] ?? []].flat()[0];
      return { status: statusCode, url, header, body };
    } catch (error) {
      signal?.throwIfAborted();
      const { code, message } = error as NodeJS.ErrnoException;
      throw new Interrupted(`${new URL(url).host}: ${code ? `${code} ` : ""}${message}`);
    }
  }

  /** Follows redirects; the token goes to the hub's own origin only. */
  async function follow(
    method: "GET" | "HEAD",
    path: string,
    extra: Readonly<Record<string, string>>,
  ): Promise<Answer> {
    let url = `${endpoint}${path}`;
    for (let i = 0; i <= REDIRECTS; i++) {
      const answer = await once(method, url, extra);
      const location = answer.header("location");
      const stay = answer.status < 300 || answer.status >= 400 || location === undefined;
      if (stay || (method === "HEAD" && answer.header("x-linked-etag") !== undefined)) return checked(answer, path);
      await answer.body.dump();
      url = redirected(location, url);
    }
    const needed = `at most ${REDIRECTS} redirects`;
    throw new LikenessError("E_HUB", { what: "redirects", where: `${endpoint}${path}`, needed, found: "more" });
  }

  async function checked(answer: Answer, path: string): Promise<Answer> {
    const { status } = answer;
    if (status < 400 || status === 416) return answer;
    await answer.body.dump();
    const own = sameOrigin(answer.url, endpoint);
    // a CDN's 403 is a link that has expired: the hub gives another
    if (status >= 500 || status === 429 || status === 408 || (!own && status === 403)) {
      const seconds = Number(answer.header("retry-after"));
      const wait = Number.isFinite(seconds) ? Math.min(60, seconds) * 1000 : 0;
      throw new Interrupted(`${new URL(answer.url).host}: answered ${status}`, wait);
    }
    throw refusal(answer, { path, endpoint, token: token !== undefined });
  }

  const retried = <T>(work: () => Promise<T>): Promise<T> => retry(work, { delays, signal, endpoint });
  return {
    endpoint,
    json: (path) =>
      retried(async () => {
        const answer = await follow("GET", path, {});
        const text = await answer.body.text().catch((error: Error) => {
          throw new Interrupted(error.message);
        });
        try {
          return JSON.parse(text) as unknown;
        } catch {
          const next = "Does HF_ENDPOINT point to a Hugging Face hub?";
          throw new LikenessError("E_HUB", {
            what: "answer",
            where: answer.url,
            needed: "JSON",
            found: "other text",
            next,
          });
        }
      }),
    head: (path) =>
      retried(async () => {
        const answer = await follow("HEAD", path, {});
        await answer.body.dump();
        return answer;
      }),
    get: (path, headers) => follow("GET", path, headers),
    close: () => dispatcher.destroy(),
  };
}

const sameOrigin = (a: string, b: string): boolean => new URL(a).origin === new URL(b).origin;

/** @throws LikenessError E_HUB if the place is no web address */
function redirected(location: string, from: string): string {
  const url = URL.canParse(location, from) ? new URL(location, from) : undefined;
  if (url?.protocol === "https:" || (url?.protocol === "http:" && from.startsWith("http:"))) return url.href;
  const needed = from.startsWith("https:") ? "an https address" : "a web address";
  throw new LikenessError("E_HUB", { what: "redirect", where: from, needed, found: location });
}

interface RetryOptions {
  readonly delays: readonly number[];
  readonly signal?: AbortSignal | undefined;
  readonly endpoint: string;
  /** Whether something was won since the last try, so that counting starts again. */
  readonly advanced?: () => boolean;
}

/** Tries again after each Interrupted, until the delays are used up. @throws LikenessError E_HUB then */
export async function retry<T>(work: () => Promise<T>, options: RetryOptions): Promise<T> {
  const { delays, signal, endpoint, advanced = () => false } = options;
  for (let tries = 0; ; ) {
    try {
      return await work();
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof Interrupted)) throw error;
      if (advanced()) tries = 0;
      if (tries === delays.length)
        throw new LikenessError("E_HUB", {
          what: "no answer from the hub",
          where: endpoint,
          found: error.message,
          next: "Is the network there? Pull again: what has come is kept.",
        });
      await sleep(Math.max(delays[tries++]!, error.wait), undefined, signal ? { signal } : {});
    }
  }
}

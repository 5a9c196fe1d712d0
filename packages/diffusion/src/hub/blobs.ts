/** One file's bytes into the cache: resumed where they broke off, checked against their hash, then given their name. */
import { createHash } from "node:crypto";
import { constants, createReadStream } from "node:fs";
import { type FileHandle, mkdir, open, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { LikenessError } from "@likeness/engine/errors";
import { type Answer, type HubClient, Interrupted, retry } from "./client.ts";

export interface RemoteFile {
  /** "unet/config.json" */
  readonly name: string;
  /** On the hub: /ORG/NAME/resolve/COMMIT/NAME. */
  readonly path: string;
  /** Its content's hash: sha256 of a large file, git's sha1 of a small one. */
  readonly etag: string;
  /** In bytes. */
  readonly size: number;
}

export interface DownloadOptions {
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds before each further try; counting starts again when a file has grown. */
  readonly delays?: readonly number[] | undefined;
  /** Bytes of this file on the disk; the last one counts when the hash has been checked. */
  readonly onBytes?: ((bytes: number) => void) | undefined;
}

/** Where a blob grows: the name that huggingface_hub gave to unfinished files. */
export const partPath = (blob: string): string => `${blob}.incomplete`;

/** In bytes; 0 if there is no such file. */
export const sizeOf = async (path: string): Promise<number> => (await stat(path).catch(() => undefined))?.size ?? 0;

/**
 * Fetches a file to `blob`, going on from what an earlier try has left beside it.
 * @throws LikenessError E_HASH if the content is not what its hash says (nothing of it is kept); E_HUB if the hub stays
 * silent or refuses (what has come is kept)
 */
export async function downloadBlob(
  client: HubClient,
  file: RemoteFile,
  blob: string,
  options: DownloadOptions = {},
): Promise<void> {
  const part = partPath(blob);
  await mkdir(dirname(blob), { recursive: true });
  for (;;) {
    const resumed = (await sizeOf(part)) > 0;
    const whole = await fetchPart(client, file, part, options);
    const found = whole ? await contentHash(part, file, options.signal) : `more than ${file.size} bytes`;
    if (found === file.etag) break;
    await rm(part, { force: true });
    if (!resumed) throw wrongContent(client, file, found);
    // else the older bytes may have been the bad ones: once more, from the start
  }
  await rename(part, blob);
  options.onBytes?.(file.size);
}

/** Adds what the part lacks, over as many connections as it takes. @returns whether no more came than should */
async function fetchPart(
  client: HubClient,
  file: RemoteFile,
  part: string,
  options: DownloadOptions,
): Promise<boolean> {
  const { signal, delays = [1000, 2000, 4000, 8000, 16_000], onBytes } = options;
  const out = await open(part, constants.O_RDWR | constants.O_CREAT);
  let at = (await out.stat()).size;
  let best = at;
  let grown = false;
  let version: string | undefined; // of the representation that our bytes come from
  async function once(): Promise<boolean> {
    grown = false;
    if (at === file.size) return true;
    const range = { range: `bytes=${at}-`, ...(version !== undefined && { "if-range": version }) };
    const answer = await client.get(file.path, at > 0 && at < file.size ? range : {});
    if (!continues(answer, at, file.size)) {
      await out.truncate((at = 0));
      onBytes?.(0);
    }
    if (answer.status !== (at > 0 ? 206 : 200)) {
      await answer.body.dump();
      throw new Interrupted(`answered ${answer.status} to a request for bytes from ${at} on`);
    }
    const etag = answer.header("etag");
    if (etag?.startsWith('"')) version = etag; // a weak one doesn't vouch for bytes
    for await (const chunk of chunks(answer, signal)) {
      if (at + chunk.length > file.size) return false;
      await writeAll(out, chunk, at);
      at += chunk.length;
      grown ||= at > best; // only new ground counts: a server that always starts over and breaks off is given up
      best = Math.max(best, at);
      onBytes?.(Math.min(at, file.size - 1));
    }
    if (at < file.size) throw new Interrupted(`broke off after ${at} of ${file.size} bytes`);
    return true;
  }
  try {
    const whole = await retry(once, { delays, signal, endpoint: client.endpoint, advanced: () => grown });
    await out.sync();
    return whole;
  } finally {
    await out.close();
  }
}

/** Whether the answer's bytes follow on `at` bytes of a file of this size. */
function continues(answer: Answer, at: number, size: number): boolean {
  if (answer.status !== 206) return at === 0;
  const [, from, total] = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(answer.header("content-range") ?? "") ?? [];
  return Number(from) === at && (total === "*" || Number(total) === size);
}

/** The body, with a connection that breaks told apart from a disk that is full. */
async function* chunks({ body }: Answer, signal: AbortSignal | undefined): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of body) yield chunk as Buffer;
  } catch (error) {
    signal?.throwIfAborted();
    throw new Interrupted((error as Error).message);
  }
}

async function writeAll(out: FileHandle, chunk: Buffer, at: number): Promise<void> {
  for (let done = 0; done < chunk.length; )
    done += (await out.write(chunk, done, chunk.length - done, at + done)).bytesWritten;
}

/** The hash under which the hub would keep this content. */
async function contentHash(path: string, { etag, size }: RemoteFile, signal: AbortSignal | undefined): Promise<string> {
  const hash = createHash(etag.length === 64 ? "sha256" : "sha1");
  if (etag.length === 40) hash.update(`blob ${size}\0`); // git's header
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20, ...(signal && { signal }) }))
    hash.update(chunk as Buffer);
  return hash.digest("hex");
}

const wrongContent = ({ endpoint }: HubClient, { name, path, etag }: RemoteFile, found: string): LikenessError =>
  new LikenessError("E_HASH", {
    what: name,
    where: `${endpoint}${path}`,
    needed: `content of ${etag.length === 64 ? "sha256" : "hash"} ${etag}`,
    found,
    next: "Nothing of it was kept. Pull again; if it stays so, the server holds a damaged file.",
  });

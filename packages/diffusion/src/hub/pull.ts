/** Fetching a model into the Hugging Face cache, which Python shares. */
import { existsSync } from "node:fs";
import { copyFile, mkdir, readFile, readlink, rename, rm, statfs, symlink, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { brief, LikenessError } from "@likeness/engine/errors";
import { downloadBlob, partPath, type RemoteFile, sizeOf } from "./blobs.ts";
import {
  blobPath,
  type Environment,
  findSnapshot,
  parseRepoName,
  type RepoName,
  refPath,
  repoFolder,
  snapshotPath,
} from "./cache.ts";
import { type ClientOptions, createClient, type HubClient } from "./client.ts";
import { type Listing, listFiles } from "./listing.ts";
import { withLock } from "./lock.ts";
import type { SelectOptions } from "./select.ts";
import { type HubSettings, hubSettings } from "./settings.ts";

export interface PullOptions extends Omit<SelectOptions, "id">, ClientOptions {
  readonly env?: Environment | undefined;
  /** Called before the first byte is fetched: all bytes of the chosen files, and how many are there already. */
  readonly onStart?: ((plan: PullPlan) => void) | undefined;
  /** Bytes that are there, of all files, and the number of the file at work, from 1. */
  readonly onBytes?: ((bytes: number, file: number) => void) | undefined;
  /** Called once if another process is pulling the same model. */
  readonly onWait?: (() => void) | undefined;
}

export interface PullPlan {
  /** Each content once. */
  readonly files: readonly RemoteFile[];
  readonly bytes: number;
  readonly present: number;
}

export interface Pulled {
  /** The snapshot's folder. */
  readonly folder: string;
  readonly commit: string;
  readonly files: readonly RemoteFile[];
  /** Bytes that came over the network. */
  readonly fetched: number;
}

/**
 * Fetches a model of the hub: contents first, then the snapshot's links to them, then the branch's name for it; what is not
 * whole is never seen by a reader of the cache. Going on after an interruption is calling it again.
 * @param name "ORG/NAME" or "ORG/NAME@REVISION"
 * @throws LikenessError E_USAGE for a name that is none, E_OFFLINE, E_HUB, E_HASH or E_DISK
 */
export async function pull(name: string, options: PullOptions = {}): Promise<Pulled> {
  const repo = parseRepoName(name);
  if (!repo) {
    const next = "Names are written as on the hub's page.";
    throw new LikenessError("E_USAGE", {
      what: "model",
      needed: "ORG/NAME or ORG/NAME@REVISION",
      found: brief(name),
      next,
    });
  }
  const settings = hubSettings(options.env);
  if (settings.offline) throw offline(repo, settings.cache);
  const client = await createClient(settings, options);
  const lock = join(
    settings.cache,
    ".locks",
    relative(settings.cache, repoFolder(repo.id, settings.cache)),
    "pull.lock",
  );
  try {
    const listing = await listFiles(client, repo, options);
    await expectSpace(settings.cache, await missing(repoFolder(repo.id, settings.cache), listing));
    return await withLock(lock, options, () => fetchFiles(client, repo, settings, listing, options));
  } finally {
    await client.close();
  }
}

/** Each content once: several files may share one. */
const contentsOf = ({ files }: Listing): RemoteFile[] => [...new Map(files.map((f) => [f.etag, f])).values()];

/** Bytes of a file that are on the disk. */
async function presentBytes(repo: string, { etag, size }: RemoteFile): Promise<number> {
  const blob = blobPath(repo, etag);
  return (await sizeOf(blob)) === size ? size : Math.min(size, await sizeOf(partPath(blob)));
}

async function missing(repo: string, listing: Listing): Promise<number> {
  let bytes = 0;
  for (const file of contentsOf(listing)) bytes += file.size - (await presentBytes(repo, file));
  return bytes;
}

async function fetchFiles(
  client: HubClient,
  { id, revision }: RepoName,
  { cache }: HubSettings,
  listing: Listing,
  options: PullOptions,
): Promise<Pulled> {
  const repo = repoFolder(id, cache);
  const contents = contentsOf(listing);
  const bytes = contents.reduce((n, file) => n + file.size, 0);
  let present = bytes - (await missing(repo, listing));
  options.onStart?.({ files: contents, bytes, present });
  let fetched = 0;
  for (const [i, file] of contents.entries()) {
    options.signal?.throwIfAborted();
    const blob = blobPath(repo, file.etag);
    if (!existsSync(blob) || (await sizeOf(blob)) !== file.size) {
      let last = await presentBytes(repo, file);
      const onBytes = (n: number): void => {
        present += n - last;
        fetched += Math.max(0, n - last);
        last = n;
        options.onBytes?.(present, i + 1);
      };
      await downloadBlob(client, file, blob, { signal: options.signal, delays: options.delays, onBytes });
    }
    options.onBytes?.(present, i + 1);
  }
  const folder = snapshotPath(repo, listing.commit);
  for (const file of listing.files) await link(blobPath(repo, file.etag), join(folder, ...file.name.split("/")));
  if (revision !== listing.commit) await writeRef(refPath(repo, revision), listing.commit);
  return { folder, commit: listing.commit, files: listing.files, fetched };
}

/** @throws LikenessError E_DISK */
async function expectSpace(folder: string, bytes: number): Promise<void> {
  let at = folder;
  while (!existsSync(at)) at = dirname(at);
  const { bavail, bsize } = await statfs(at);
  const free = bavail * bsize;
  if (bytes <= free) return;
  const gb = (n: number): string => `${(n / 1e9).toFixed(1)} GB`;
  const next = "Make room, or set HF_HOME to a folder on a larger disk.";
  throw new LikenessError("E_DISK", {
    what: "disk",
    where: folder,
    needed: gb(bytes),
    found: `${gb(free)} free`,
    next,
  });
}

/** A relative symbolic link, so that the cache may be moved; a copy where the system allows no links. */
async function link(blob: string, path: string): Promise<void> {
  const target = relative(dirname(path), blob);
  if ((await readlink(path).catch(() => undefined)) === target) return;
  await mkdir(dirname(path), { recursive: true });
  const temp = `${path}.${process.pid}.tmp`;
  await rm(temp, { force: true });
  await symlink(target, temp).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "EPERM" && error.code !== "ENOTSUP") throw error;
    return copyFile(blob, temp);
  });
  await rename(temp, path);
}

async function writeRef(path: string, commit: string): Promise<void> {
  if ((await readFile(path, "utf8").catch(() => "")) === commit) return;
  await mkdir(dirname(path), { recursive: true });
  const temp = `${path}.${process.pid}.tmp`;
  await writeFile(temp, commit);
  await rename(temp, path);
}

function offline(repo: RepoName, cache: string): LikenessError {
  const folder = findSnapshot(repo, cache);
  const next = folder ? "The cache holds this model: use it by its name." : "Unset it to fetch the model.";
  return new LikenessError("E_OFFLINE", { what: "HF_HUB_OFFLINE", needed: "the network", found: "it forbidden", next });
}

/**
 * Reading of the Hugging Face cache: models--ORG--NAME/{blobs,refs,snapshots}, as Python's huggingface_hub lays it out.
 * No network here. Files in a snapshot are symbolic links into blobs/; whoever maps one resolves it first.
 */
import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

export type Environment = Readonly<Record<string, string | undefined>>;

/** A model on the hub, and which state of it. */
export interface RepoName {
  /** "ORG/NAME" */
  readonly id: string;
  /** A branch, a tag or a commit. */
  readonly revision: string;
}

/** "ORG/NAME" or "ORG/NAME@REVISION", "main" without one; undefined if the text is neither. */
export function parseRepoName(text: string): RepoName | undefined {
  const [, id, revision = "main"] = /^([\w-][\w.-]*\/[\w-][\w.-]*?)(?:@([\w-][\w./-]*))?$/.exec(text) ?? [];
  if (id === undefined || /\.\.|--/.test(id) || revision.includes("..")) return undefined;
  return { id, revision };
}

/** Where models are kept, by huggingface_hub's own environment variables. */
export function hubCache(env: Environment = process.env): string {
  const home = env.HF_HOME || join(env.XDG_CACHE_HOME || join(homedir(), ".cache"), "huggingface");
  return expand(env.HF_HUB_CACHE || env.HUGGINGFACE_HUB_CACHE || join(home, "hub"), env);
}

/** Whether the network is forbidden, by huggingface_hub's own environment variables. */
export const hubOffline = (env: Environment = process.env): boolean =>
  /^(1|on|yes|true)$/i.test(env.HF_HUB_OFFLINE || env.TRANSFORMERS_OFFLINE || "");

/** The folder of a model, there or not. */
export const repoFolder = (id: string, cache: string = hubCache()): string =>
  join(cache, `models--${id.replaceAll("/", "--")}`);

/** Where a model keeps the commit that a branch or a tag stands for, there or not. */
export const refPath = (repo: string, revision: string): string => join(repo, "refs", revision);

/** Where a model keeps the files of one commit, there or not. */
export const snapshotPath = (repo: string, commit: string): string => join(repo, "snapshots", commit);

/** Where a model keeps a file's content by its hash, there or not. */
export const blobPath = (repo: string, etag: string): string => join(repo, "blobs", etag);

/** The commit of a branch or a tag as it was last fetched; a full commit stands for itself. */
export function readRef(repo: string, revision: string): string | undefined {
  if (/^[0-9a-f]{40}$/.test(revision)) return revision;
  try {
    const commit = readFileSync(refPath(repo, revision), "utf8").trim();
    return /^[0-9a-f]{40}$/.test(commit) ? commit : undefined;
  } catch {
    return undefined;
  }
}

/** The folder with a model's files, if the cache holds it. */
export function findSnapshot({ id, revision }: RepoName, cache: string = hubCache()): string | undefined {
  const repo = repoFolder(id, cache);
  const commit = readRef(repo, revision);
  if (commit === undefined) return undefined;
  const snapshot = snapshotPath(repo, commit);
  return existsSync(snapshot) ? snapshot : undefined;
}

/** "ORG/NAME" of a snapshot's folder; undefined for any other folder. */
export function repoOfSnapshot(folder: string): string | undefined {
  const [, org, name] = /[\\/]models--([^\\/]+?)--([^\\/]+)[\\/]snapshots[\\/][^\\/]+[\\/]?$/.exec(folder) ?? [];
  return org === undefined ? undefined : `${org}/${name}`;
}

/** "~" and "$NAME" as a shell would read them: huggingface_hub does so too. */
const expand = (path: string, env: Environment): string =>
  path.replace(/^~(?=$|[\\/])/, homedir()).replace(/\$(?:\{(\w+)\}|(\w+))/g, (all, a, b) => env[a ?? b] ?? all);

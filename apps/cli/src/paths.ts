/** Checks of named files and folders, before any work is done. */
import { accessSync, constants, existsSync, readFileSync, type Stats, statSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { LikenessError } from "@likeness/engine/errors";

const refuse = (what: string, where: string, needed: string, found: string, next?: string): never => {
  throw new LikenessError("E_PATH", { what, where, needed, found, ...(next && { next }) });
};

/** What is at a path, if it can be seen. */
export function look(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch {
    return undefined; // not there, or below a file
  }
}

/** A file that is there. @throws LikenessError E_PATH */
export function expectFile(what: string, path: string): string {
  const info = look(path);
  if (!info) return refuse(what, path, "a file", "no such file", "Check the path.");
  if (!info.isFile()) refuse(what, path, "a file", info.isDirectory() ? "a folder" : "a special file");
  if (info.size === 0) refuse(what, path, "a file with content", "an empty file");
  return path;
}

/** A path at which a file can be made, folders on the way included. @throws LikenessError E_PATH */
export function expectNewFile(what: string, path: string, extension: string): string {
  if (look(path)?.isDirectory()) refuse(what, path, `a file name ending in ${extension}`, "a folder");
  if (!path.endsWith(extension)) refuse(what, path, `a file name ending in ${extension}`, "another name");
  expectWritable(what, dirname(resolve(path)));
  return path;
}

/** A folder that is there or can be made. @throws LikenessError E_PATH */
export function expectOutputFolder(what: string, path: string): string {
  expectWritable(what, resolve(path));
  return path;
}

function expectWritable(what: string, folder: string): void {
  let at = folder;
  while (!existsSync(at)) at = dirname(at);
  if (!statSync(at).isDirectory()) refuse(what, folder, "a folder", `${at}, which is a file`);
  try {
    accessSync(at, constants.W_OK);
  } catch {
    refuse(what, folder, "a folder that may be written", "one that may not");
  }
}

/**
 * The folder of a model in diffusers' layout, by path, or by Hugging Face id if Python's cache holds it.
 * @throws LikenessError E_MODEL
 */
export function findModel(model: string): string {
  const needed = "a diffusers folder, or the id of a model in the Hugging Face cache";
  const info = look(model);
  if (info?.isDirectory()) return model;
  if (!info && /^[\w-][\w.-]*\/[\w-][\w.-]*$/.test(model)) {
    const folder = join(hubCache(), `models--${model.replace("/", "--")}`);
    const main = join(folder, "refs", "main");
    const snapshot = existsSync(main) && join(folder, "snapshots", readFileSync(main, "utf8").trim());
    if (snapshot && existsSync(snapshot)) return snapshot;
  }
  const found = info ? "a file" : "neither";
  throw new LikenessError("E_MODEL", { what: "model", where: model, needed, found, next: "Check --model." });
}

/** Where huggingface_hub keeps models, by its own environment variables. */
export function hubCache(env: Readonly<Record<string, string | undefined>> = process.env): string {
  const cache = env.XDG_CACHE_HOME || join(homedir(), ".cache");
  return env.HF_HUB_CACHE || join(env.HF_HOME || join(cache, "huggingface"), "hub");
}

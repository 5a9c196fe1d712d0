/** Checks of named files and folders, before any work is done. */
import { accessSync, constants, existsSync, type Stats, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { findSnapshot, hubCache, hubOffline, parseRepoName } from "@likeness/diffusion/hub/cache";
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

/** A folder that is there. @throws LikenessError E_PATH */
export function expectFolder(what: string, path: string): string {
  const info = look(path);
  if (!info) return refuse(what, path, "a folder", "no such folder", "Check the path.");
  if (!info.isDirectory()) refuse(what, path, "a folder", "a file");
  return path;
}

/**
 * Where a model is: a diffusers folder or a .safetensors checkpoint by path, or a folder by the model's name on the
 * Hugging Face hub, if Python's cache holds it.
 * @throws LikenessError E_MODEL
 */
export function findModel(model: string, what: string = "model"): string {
  const info = look(model);
  const refuseModel = (found: string, next: string): never => {
    const needed = "a model folder, a .safetensors checkpoint, or the ORG/NAME of a model in the Hugging Face cache";
    throw new LikenessError("E_MODEL", { what, where: model, needed, found, next });
  };
  if (info?.isDirectory() || (info && /\.(safetensors|ckpt|bin|pt|pth)$/.test(model))) return model; // loadModel refuses pickles
  if (info) return refuseModel("a file of another kind", `Check --${what.replace(" ", "-")}.`);
  const name = parseRepoName(model);
  if (!name) return refuseModel("no such file or folder", `Check --${what.replace(" ", "-")}.`);
  const snapshot = findSnapshot(name);
  if (snapshot) return snapshot;
  const offline = hubOffline() ? ", without HF_HUB_OFFLINE" : "";
  return refuseModel(`none in ${hubCache()}`, `Fetch it${offline}: likeness pull ${model}`);
}

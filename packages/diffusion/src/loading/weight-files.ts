/** Which files hold a component's weights: whole or in shards, plain or a variant. Names as diffusers and transformers write them. */
import { existsSync, readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { brief, LikenessError } from "@likeness/engine";
import { z } from "zod";
import { parseConfig, readJson } from "../config/parse.ts";

export interface WeightFiles {
  readonly paths: readonly string[];
  /** "fp16" for NAME.fp16.safetensors; undefined for the plain file. */
  readonly variant: string | undefined;
}

export const PICKLE: RegExp = /\.(bin|ckpt|pt|pth)$/;

const ShardIndex = z.object({ weight_map: z.record(z.string(), z.string()) });

/**
 * The .safetensors of one component.
 * @param stem "diffusion_pytorch_model" or "model"
 * @param variant taken if it is there, else the plain files; without one, the plain files, else the only variant there
 * @throws LikenessError if there is none, if several are there and none is named, or if a shard is missing
 */
export function weightFiles(folder: string, stem: string, variant?: string): WeightFiles {
  const found = candidates(folder, stem);
  const named = variant === undefined ? undefined : found.get(variant);
  const chosen =
    named ?? found.get("") ?? (variant === undefined && found.size === 1 ? [...found.values()][0] : undefined);
  if (!chosen) return refuse(folder, stem, variant, [...found.keys()]);
  return { paths: chosen.whole ? [chosen.whole] : shards(folder, chosen.index!), variant: chosen.variant };
}

/** The variants of a component's weights that are there, "" for the plain files, in the order of their names. */
export const weightVariants = (folder: string, stem: string): string[] => [...candidates(folder, stem).keys()].sort();

interface Candidate {
  readonly variant: string | undefined;
  whole?: string;
  index?: string;
}

/** By variant, "" for the plain files. */
function candidates(folder: string, stem: string): Map<string, Candidate> {
  const found = new Map<string, Candidate>();
  const whole = new RegExp(`^${stem}(?:\\.([\\w.-]+))?\\.safetensors$`);
  // diffusers and transformers put the variant before ".json"; some repositories have it before ".safetensors"
  const index = new RegExp(`^${stem}(?:\\.([\\w.-]+))?\\.safetensors\\.index(?:\\.([\\w.-]+))?\\.json$`);
  for (const name of existsSync(folder) ? readdirSync(folder) : []) {
    const [asWhole, asIndex] = [whole.exec(name), index.exec(name)];
    const variant = asWhole?.[1] ?? asIndex?.[1] ?? asIndex?.[2];
    if (!(asWhole || asIndex) || /-\d+-of-\d+/.test(name) || !existsSync(join(folder, name))) continue;
    const candidate = found.get(variant ?? "") ?? { variant };
    candidate[asWhole ? "whole" : "index"] = join(folder, name);
    found.set(variant ?? "", candidate);
  }
  return found;
}

/** The files that an index names. @throws LikenessError if one isn't there, ConfigError if it is no index */
function shards(folder: string, index: string): string[] {
  const { weight_map } = parseConfig(ShardIndex, readJson(index), index);
  const names = [...new Set(Object.values(weight_map))].sort();
  for (const name of names) {
    const key = Object.keys(weight_map).find((k) => weight_map[k] === name)!;
    const fail = (found: string, next: string): never => {
      const what = `shard ${brief(name)}`;
      throw new LikenessError("E_MODEL", {
        what,
        where: index,
        needed: `the file that holds ${brief(key)}`,
        found,
        next,
      });
    };
    if (basename(name) !== name || !name.endsWith(".safetensors"))
      fail("a name that is no .safetensors file of this folder", "Don't trust this folder.");
    if (!existsSync(join(folder, name))) fail("none", "Fetch the model again: it is incomplete.");
  }
  return names.map((name) => join(folder, name));
}

function refuse(folder: string, stem: string, variant: string | undefined, others: readonly string[]): never {
  const pickle = existsSync(folder) ? readdirSync(folder).find((f) => PICKLE.test(f)) : undefined;
  const fail = (found: string, next: string): never => {
    const named = variant === undefined ? "" : ` or ${stem}.${variant}.safetensors`;
    const needed = `${stem}.safetensors${others.length ? named || ", or a variant by name" : named}`;
    throw new LikenessError("E_MODEL", { what: "weights", where: folder, needed, found, next });
  };
  if (others.length) return fail(`variants ${others.join(", ")}`, `Choose one: --variant ${others[0]}.`);
  if (pickle) return fail(pickle, PICKLE_REASON);
  return fail("none", "Fetch the model again with its weights.");
}

/** Why pickles are refused, and what to do instead. */
export const PICKLE_REASON: string =
  "A pickle can run any code when it is opened, so it isn't: take the model's .safetensors files, or convert it to .safetensors where nothing can be harmed.";

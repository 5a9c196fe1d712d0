/** Strict reading of config.json files: a key or a value that we don't implement is an error that names it. */
import { readFileSync } from "node:fs";
import { z } from "zod";

/** A config.json is missing, is no JSON, or asks for something that isn't implemented. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly code = "E_CONFIG";
  constructor(message: string) {
    super(`${message} [E_CONFIG]`);
  }
}

type Plain = string | number | boolean | null;

/** A key that must have one of these values, since others aren't implemented; the first is the default. */
export const only = <const T extends Plain>(first: T, ...others: readonly T[]): z.ZodDefault<z.ZodType<T>> =>
  (z.literal([first, ...others]) as unknown as z.ZodType<T>).default(first as never);

/** Keys that say where a file came from and change nothing. */
export const provenance = {
  _class_name: z.string().optional(),
  _diffusers_version: z.string().optional(),
  _name_or_path: z.string().optional(),
  _use_default_values: z.array(z.string()).optional(),
};

/** @throws ConfigError that names file, key, value and what is supported */
export function parseConfig<S extends z.ZodType>(schema: S, json: unknown, file: string): z.output<S> {
  const result = schema.safeParse(json);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  const key = issue.path.join(".");
  if (issue.code === "unrecognized_keys") {
    const name = [...issue.path, issue.keys[0]].join(".");
    throw new ConfigError(`${file}: "${name}" is a key that isn't implemented.`);
  }
  const found = issue.path.reduce<unknown>((at, k) => (at as Record<PropertyKey, unknown> | undefined)?.[k], json);
  throw new ConfigError(`${file}: "${key}": found ${JSON.stringify(found)}. ${issue.message}.`);
}

/** Reads and checks a JSON file. @throws ConfigError */
export function readConfig<S extends z.ZodType>(schema: S, file: string): z.output<S> {
  return parseConfig(schema, readJson(file), file);
}

/** Strings, which stay as they are, and the Infinity that Python writes into JSON, as in DPM-Solver's lambda_min_clipped. */
const PYTHON_INFINITY = /("(?:[^"\\]|\\.)*")|-?Infinity\b/g;

export function readJson(file: string): unknown {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch {
    throw new ConfigError(`${file}: needed a JSON file, found none. Is the folder a diffusers model?`);
  }
  try {
    return JSON.parse(text.replace(PYTHON_INFINITY, (found, quoted) => quoted ?? found.replace("Infinity", "1e999")));
  } catch (error) {
    throw new ConfigError(`${file}: needed JSON, found text that doesn't parse (${(error as Error).message}).`);
  }
}

/** From arguments to typed options; what isn't understood is an error that names it. */
import { brief, LikenessError } from "@likeness/engine/errors";
import type { Command, Flag, Flags } from "./command.ts";
import { nearest } from "./nearest.ts";

/** Flags that every command has. */
export const COMMON: Flags = {
  json: { type: "boolean", description: "progress and results as JSON, one object per line" },
  help: { type: "boolean", description: "show this text", aliases: ["h"] },
};

export interface Parsed {
  readonly input: string;
  readonly options: Readonly<Record<string, unknown>>;
  readonly help: boolean;
  readonly json: boolean;
}

export const kebab = (name: string): string => name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`);

/** @throws LikenessError E_USAGE */
export function parseArgs(command: Command, args: readonly string[]): Parsed {
  const flags: Flags = { ...command.flags, ...COMMON };
  const names = spellings(flags);
  for (const alias of command.positional?.aliases ?? []) names.set(alias, POSITIONAL);
  const given: Record<string, string[]> = {};
  const inputs: string[] = [];
  const rest = [...args];
  for (let arg = rest.shift(); arg !== undefined; arg = rest.shift()) {
    if (arg === "--") {
      inputs.push(...rest.splice(0));
      continue;
    }
    const match = /^--([^=]+)(?:=(.*))?$/s.exec(arg) ?? /^-([A-Za-z])(?:=(.*))?$/s.exec(arg);
    if (!match) {
      inputs.push(arg);
      continue;
    }
    const name = names.get(match[1]!.replaceAll("_", "-"));
    if (name === undefined) throw unknownFlag(command, arg.split("=")[0]!, names);
    const isSwitch = flags[name]?.type === "boolean";
    if (isSwitch && match[2] !== undefined) throw usage(command, arg.split("=")[0]!, "no value", brief(match[2]));
    const value = match[2] ?? (isSwitch ? "" : rest[0]?.startsWith("--") ? undefined : rest.shift());
    if (value === undefined) throw usage(command, arg, "a value", "none");
    if (name === POSITIONAL) inputs.push(value);
    else (given[name] ??= []).push(value);
  }
  const help = given.help !== undefined;
  return {
    input: help ? "" : one(command, inputs),
    help,
    json: given.json !== undefined,
    options: values(command, given, help),
  };
}

const POSITIONAL = "";

/** Every spelling → the flag's name in code. */
function spellings(flags: Flags): Map<string, string> {
  const names = new Map<string, string>();
  for (const [name, { aliases = [] }] of Object.entries(flags))
    for (const spelling of [kebab(name), ...aliases]) names.set(spelling, name);
  return names;
}

function one({ name, positional }: Command, inputs: readonly string[]): string {
  if (!positional) {
    if (inputs.length === 0) return "";
    throw new LikenessError("E_USAGE", { what: "arguments", where: name, needed: "none", found: brief(inputs[0]) });
  }
  const where = `likeness ${name}`;
  const needed = positional.description;
  if (inputs.length === 0)
    throw new LikenessError("E_USAGE", {
      what: positional.name,
      where,
      needed,
      found: "none",
      next: `See ${where} --help.`,
    });
  if (inputs.length > 1) {
    const next = "Put text with spaces in quotes.";
    throw new LikenessError("E_USAGE", {
      what: positional.name,
      where,
      needed: "one",
      found: `${brief(inputs[1])} too`,
      next,
    });
  }
  return inputs[0]!;
}

function values(command: Command, given: Readonly<Record<string, string[]>>, help: boolean): Record<string, unknown> {
  const options: Record<string, unknown> = {};
  for (const [name, flag] of Object.entries(command.flags)) {
    const texts = given[name];
    if (flag.type === "boolean") options[name] = texts !== undefined;
    else if (flag.type === "string" && flag.multiple) options[name] = texts ?? [];
    else if (texts) options[name] = parseValue(command, `--${kebab(name)}`, flag, texts.at(-1)!);
    else if (flag.required && !help) throw usage(command, `--${kebab(name)}`, flag.description, "none");
    else options[name] = flag.default;
  }
  return options;
}

function parseValue(command: Command, flag: string, spec: Exclude<Flag, { type: "boolean" }>, text: string): unknown {
  if (spec.type === "string") {
    const { choices } = spec;
    if (choices && !choices.includes(text)) throw usage(command, flag, `one of ${choices.join(", ")}`, brief(text));
    return text;
  }
  const { min = -Infinity, max = Infinity } = spec;
  const value = text.trim() === "" ? Number.NaN : Number(text);
  const whole = spec.type === "integer";
  if (Number.isFinite(value) && (!whole || Number.isSafeInteger(value)) && value >= min && value <= max) return value;
  const kind = whole ? "a whole number" : "a number";
  const range = [Number.isFinite(min) && `at least ${min}`, Number.isFinite(max) && `at most ${max}`].filter(Boolean);
  throw usage(
    command,
    flag,
    [kind, ...range].join(" of ").replace(/ of (at most)/, range.length > 1 ? " and $1" : " of $1"),
    brief(text),
  );
}

function usage({ name }: Command, what: string, needed: string, found: string): LikenessError {
  return new LikenessError("E_USAGE", { what, where: `likeness ${name}`, needed, found });
}

function unknownFlag({ name }: Command, flag: string, names: ReadonlyMap<string, string>): LikenessError {
  const near = nearest(
    flag.replace(/^-+/, "").replaceAll("_", "-"),
    [...names.keys()].filter((n) => n.length > 1),
  );
  const next = near ? `Did you mean --${near}?` : `See likeness ${name} --help.`;
  return new LikenessError("E_USAGE", { what: `unknown flag ${flag}`, where: `likeness ${name}`, next });
}

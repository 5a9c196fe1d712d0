/** Help texts, from the same data as the parser. */
import type { Command, Flag } from "./command.ts";
import { COMMON, kebab } from "./parse.ts";

/** Help of one command: usage, flags with defaults, examples. */
export function commandHelp({ name, summary, positional, flags, examples }: Command): string {
  const rows = Object.entries({ ...flags, ...COMMON }).map(([key, flag]) => [left(key, flag), right(flag)] as const);
  const all = positional ? [[positional.name, positional.description] as const, ...rows] : rows;
  const needed = Object.entries(flags).filter(([, flag]) => flag.required);
  const must = needed.map(([key, flag]) => `--${kebab(key)} ${flag.hint ?? "VALUE"}`);
  return [
    summary,
    "",
    `Usage: ${["likeness", name, positional?.name, ...must, "[flags]"].filter(Boolean).join(" ")}`,
    "",
    columns(all),
    ...(examples.length ? ["", "Examples:", ...examples.map((e) => `  ${e}`)] : []),
  ].join("\n");
}

/** Two columns, the left one as wide as it needs to be. */
export function columns(rows: readonly (readonly [left: string, right: string])[]): string {
  const width = Math.max(...rows.map(([l]) => l.length));
  return rows.map(([l, r]) => `  ${l.padEnd(width)}  ${r}`).join("\n");
}

function left(key: string, flag: Flag): string {
  const short = flag.aliases?.find((a) => a.length === 1);
  const value = flag.type === "boolean" ? "" : ` ${flag.hint ?? (flag.type === "string" ? "TEXT" : "N")}`;
  return `${short ? `-${short}, ` : ""}--${kebab(key)}${value}`;
}

function right(flag: Flag): string {
  const notes: string[] = [];
  if (flag.required) notes.push("needed");
  if (flag.type === "string" && flag.multiple) notes.push("may stand several times");
  if (flag.type === "string" && flag.choices) notes.push(flag.choices.join(", "));
  if (flag.type !== "boolean" && flag.default !== undefined) notes.push(`default: ${JSON.stringify(flag.default)}`);
  const long = flag.aliases?.filter((a) => a.length > 1).map((a) => `--${a}`) ?? [];
  if (long.length) notes.push(`also ${long.join(", ")}`);
  return `${flag.description}${notes.length ? ` (${notes.join("; ")})` : ""}`;
}

/** The command line: finds the command, runs it, turns errors into one line and an exit code. */
import { createRequire } from "node:module";
import { LikenessError } from "@likeness/engine/errors";
import type { Command, Context } from "./args/command.ts";
import { columns, commandHelp } from "./args/help.ts";
import { nearest } from "./args/nearest.ts";
import { parseArgs } from "./args/parse.ts";
import { COMMANDS } from "./commands/index.ts";
import { describeFailure } from "./console/failure.ts";
import { listenForInterrupt } from "./console/interrupt.ts";
import { createProgress } from "./console/progress.ts";

const { version } = createRequire(import.meta.url)("../package.json") as { version: string };

const overview = (): string =>
  [
    "likeness: one photo in, a named concept out.",
    "",
    "Usage: likeness COMMAND [flags]",
    "",
    columns(Object.entries(COMMANDS).map(([name, { summary }]) => [name, summary])),
    "",
    "likeness COMMAND --help tells the flags of a command. Results go to stdout, progress to stderr.",
    "Exit codes: 0 done, 1 a defect, 2 a bad input, 130 stopped by Ctrl-C.",
  ].join("\n");

/** Runs one command line and returns its exit code. */
async function main([name, ...args]: readonly string[]): Promise<number> {
  const interrupt = listenForInterrupt();
  let json = args.includes("--json");
  const progress = createProgress({ json });
  try {
    if (name === undefined || name === "help" || name === "--help" || name === "-h") return say(overview());
    if (name === "--version" || name === "-v") return say(version);
    const command = await find(name);
    const { input, options, help, json: asJson } = parseArgs(command, args);
    if (help) return say(commandHelp(command));
    json = asJson;
    const print = (result: string | object): number =>
      say(typeof result === "string" ? result : JSON.stringify(result));
    const context: Context = { signal: interrupt.signal, progress, json, print };
    await command.run(input, options as never, context);
    progress.close();
    return interrupt.exitCode() ?? Number(process.exitCode ?? 0);
  } catch (error) {
    progress.close();
    const stopped = interrupt.exitCode();
    if (stopped !== undefined) return stopped; // whatever failed, failed because of it
    const { exitCode, code, text } = describeFailure(error);
    process.stderr.write(json ? `${JSON.stringify({ event: "error", code, message: text })}\n` : `likeness: ${text}\n`);
    return exitCode;
  }
}

async function find(name: string): Promise<Command> {
  if (!Object.hasOwn(COMMANDS, name)) {
    const near = nearest(name, Object.keys(COMMANDS));
    const next = near ? `Did you mean ${near}?` : "See likeness --help.";
    throw new LikenessError("E_USAGE", { what: `unknown command ${JSON.stringify(name)}`, next });
  }
  return (await COMMANDS[name]!.load()).default;
}

function say(text: string): number {
  process.stdout.write(`${text}\n`);
  return 0;
}

// a reader that has seen enough (`likeness inspect FILE | head`) is no error
process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 1));
const exitCode = await main(process.argv.slice(2));
process.stdout.write("", () => process.exit(exitCode));

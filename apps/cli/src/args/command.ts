/** What a command is: its flags as data, from which parsing, help and types follow. */
import type { Progress } from "../console/progress.ts";

interface About {
  readonly description: string;
  /** Shown in the help in place of a value. */
  readonly hint?: string;
  /** Other spellings, in kebab-case; one letter for a short flag. */
  readonly aliases?: readonly string[];
  readonly required?: boolean;
}

interface TextFlag extends About {
  readonly type: "string";
  readonly default?: string;
  readonly choices?: readonly string[];
  /** May stand several times. */
  readonly multiple?: boolean;
}

interface NumberFlag extends About {
  readonly type: "number" | "integer";
  readonly default?: number;
  readonly min?: number;
  readonly max?: number;
}

interface SwitchFlag extends About {
  readonly type: "boolean";
}

export type Flag = TextFlag | NumberFlag | SwitchFlag;
/** Flags by their name in code: `guidanceScale` is `--guidance-scale` and `--guidance_scale`. */
export type Flags = Readonly<Record<string, Flag>>;

type Plain<F extends Flag> = F extends { type: "string" } ? string : number;
type ValueOf<F extends Flag> = F extends { type: "boolean" }
  ? boolean
  : F extends { multiple: true }
    ? readonly string[]
    : Plain<F> | (F extends { required: true } | { default: string | number } ? never : undefined);

export type Values<F extends Flags> = { readonly [K in keyof F]: ValueOf<F[K]> };

/** The one argument that has no flag. */
export interface Positional {
  readonly name: string;
  readonly description: string;
  /** Flag spellings of the same, in kebab-case. */
  readonly aliases?: readonly string[];
}

export interface Context {
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal;
  readonly progress: Progress;
  /** Machine-readable results and progress are asked for. */
  readonly json: boolean;
  /** Writes a result to stdout: a line of text, or in JSON mode an object. */
  print(result: string | object): void;
}

export interface Command<F extends Flags = Flags> {
  readonly name: string;
  readonly summary: string;
  readonly positional?: Positional;
  readonly flags: F;
  readonly examples: readonly string[];
  /** @param input the positional argument, "" for a command without one */
  run(input: string, options: Values<F>, context: Context): Promise<void>;
}

/** A command whose options have the types of its flags. */
export const defineCommand = <const F extends Flags>(command: Command<F>): Command => command;

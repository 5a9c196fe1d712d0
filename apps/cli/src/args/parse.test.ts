import { LikenessError } from "@likeness/engine/errors";
import { describe, expect, test } from "vitest";
import { defineCommand } from "./command.ts";
import { commandHelp } from "./help.ts";
import { parseArgs } from "./parse.ts";

const command = defineCommand({
  name: "draw",
  summary: "Draws.",
  positional: { name: "PROMPT", description: "what to draw", aliases: ["prompt"] },
  flags: {
    guidanceScale: { type: "number", default: 7.5, min: 0, max: 100, description: "guidance" },
    steps: { type: "integer", default: 30, min: 1, description: "steps", aliases: ["num-inference-steps"] },
    concept: { type: "string", multiple: true, description: "concepts" },
    kind: { type: "string", choices: ["ink", "oil"], description: "kind" },
    out: { type: "string", required: true, description: "folder", aliases: ["o"] },
    tiling: { type: "boolean", description: "tile" },
  },
  examples: [],
  run: async () => {},
});
const parse = (line: string): ReturnType<typeof parseArgs> => parseArgs(command, line.split(" "));
const problem = (line: string): string => {
  try {
    parse(line);
  } catch (error) {
    expect(error).toBeInstanceOf(LikenessError);
    return (error as Error).message;
  }
  throw new Error(`"${line}" was taken`);
};

describe("what is taken", () => {
  test("defaults, and what is given in each form", () => {
    expect(parse("cat --out=x").options).toEqual({
      ...{ guidanceScale: 7.5, steps: 30, concept: [], kind: undefined, out: "x", tiling: false },
    });
    const { input, options } = parse(
      "-o x --guidance_scale 3e0 --num_inference_steps=4 --concept a --concept b --tiling cat",
    );
    expect(input).toBe("cat");
    expect(options).toMatchObject({ guidanceScale: 3, steps: 4, concept: ["a", "b"], out: "x", tiling: true });
  });

  test("snake_case is kebab-case", () => {
    expect(parse("cat -o x --guidance_scale 2").options).toEqual(parse("cat -o x --guidance-scale 2").options);
  });

  test("the positional as a flag, after two dashes, or empty", () => {
    expect(parse("--prompt cat -o x").input).toBe("cat");
    expect(parse("-o x -- --cat").input).toBe("--cat");
    expect(parseArgs(command, ["", "-o", "x"]).input).toBe("");
  });

  test("help needs nothing else", () => {
    expect(parse("--help").help).toBe(true);
    expect(commandHelp(command)).toContain("--steps N");
    expect(commandHelp(command)).toContain("(default: 7.5)");
  });
});

test.each([
  ["cat -o x --stepz 3", "unknown flag --stepz (likeness draw). Did you mean --steps? [E_USAGE]"],
  [
    "cat -o x --guidance_sclae 3",
    "unknown flag --guidance_sclae (likeness draw). Did you mean --guidance-scale? [E_USAGE]",
  ],
  ["cat -o x --frobnicate", "unknown flag --frobnicate (likeness draw). See likeness draw --help. [E_USAGE]"],
  ["cat -o x --steps", "--steps (likeness draw): needed a value, found none. [E_USAGE]"],
  ["cat -o x --steps --tiling", "--steps (likeness draw): needed a value, found none. [E_USAGE]"],
  ["cat -o x --steps 1.5", '--steps (likeness draw): needed a whole number of at least 1, found "1.5". [E_USAGE]'],
  ["cat -o x --steps 0", '--steps (likeness draw): needed a whole number of at least 1, found "0". [E_USAGE]'],
  ["cat -o x --steps=", '--steps (likeness draw): needed a whole number of at least 1, found "". [E_USAGE]'],
  [
    "cat -o x --guidance-scale -1",
    '--guidance-scale (likeness draw): needed a number of at least 0 and at most 100, found "-1". [E_USAGE]',
  ],
  ["cat -o x --kind wax", '--kind (likeness draw): needed one of ink, oil, found "wax". [E_USAGE]'],
  ["cat -o x --tiling=no", '--tiling (likeness draw): needed no value, found "no". [E_USAGE]'],
  ["cat", "--out (likeness draw): needed folder, found none. [E_USAGE]"],
  ["-o x", "PROMPT (likeness draw): needed what to draw, found none. See likeness draw --help. [E_USAGE]"],
  ["a cat -o x", 'PROMPT (likeness draw): needed one, found "cat" too. Put text with spaces in quotes. [E_USAGE]'],
])("refused: %s", (line, text) => expect(problem(line)).toBe(text));

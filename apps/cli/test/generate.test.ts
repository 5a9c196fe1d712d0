/** `likeness generate` from outside, on toy models: the same latents as diffusers' pipelines, and what it refuses. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { multipliesBytes, readFloats, readSafetensorsHeader, writeSafetensors } from "@likeness/engine";
import { FIXTURES, readGolden, relativeError } from "@likeness/engine/testing";
import { readEvaluationConfig } from "@likeness/personalization";
import sharp from "sharp";
import { afterAll, beforeAll, expect, test } from "vitest";
import { sizeFrom } from "../src/images/init-image.ts";
import { readTexts } from "../src/images/png-text.ts";
import { type Ended, endOf, runLikeness, startLikeness } from "./likeness.ts";

const folder = mkdtempSync(join(tmpdir(), "likeness-generate-"));
afterAll(() => rmSync(folder, { recursive: true }));
const POCKET = fileURLToPath(new URL("../../../models/pocket", import.meta.url));
const golden = readGolden("pipelines");
const { prompt, negative } = JSON.parse(golden.metadata.defaults!) as { prompt: string; negative: string };

const likeness = (...args: string[]): Promise<Ended> => runLikeness(args, { cwd: folder });

const generate = (text: string, ...more: string[]): string[] => [
  ...["generate", text, "--model", join(FIXTURES, "models", "sd1"), "--negative-prompt", negative],
  ...["--steps", "5", "--seed", golden.metadata.seed!, "--out", "out", ...more],
];

let before: string[];
beforeAll(async () => {
  const pixels = Uint8Array.from(golden.ints("picture"));
  const picture = sharp(pixels, { raw: { width: 24, height: 16, channels: 3 } });
  writeFileSync(join(folder, "init.png"), await picture.png().toBuffer());
  writeFileSync(join(folder, "text.png"), "not a picture\n");
  const noise = { dtype: "F32", shape: [1, 4, 8, 8], data: new Float32Array(256) } as const;
  writeSafetensors(join(folder, "noise.safetensors"), { latents: noise });
  before = readdirSync(folder).sort();
});

test.each<[string, string, string[], string]>([
  ["image/two/dpm++-2m-sde", "24x16", ["--init-image", "init.png", "--strength", "0.7"], "DPM++ 2M SDE"],
  ["text/euler-a", "16x16", [], "Euler a"],
])("from the command line to diffusers' latents: %s", async (name, size, more, scheduler) => {
  const flags = ["--scheduler", scheduler, "--num-images", "2", "--save-latents", "last.safetensors", ...more];
  const made = await likeness(...generate(prompt, ...flags));
  expect(made).toMatchObject({ code: 0 });
  const latents = readFloats(readSafetensorsHeader(join(folder, "last.safetensors")), "latents");
  expect(relativeError(latents, golden.floats(name))).toBeLessThan(1e-4);
  const [first = "", second] = made.out.trim().split("\n");
  expect([first, second]).toEqual([join("out", "00001-5.png"), join("out", "00002-6.png")]);
  const { parameters } = readTexts(readFileSync(join(folder, first))) as { parameters: string };
  expect(parameters).toContain(`Sampler: ${scheduler}, CFG scale: 7.5, Seed: 5, Size: ${size}`);
  expect(parameters.includes("Denoising strength: 0.7")).toBe(more.length > 0);
  for (const made of ["out", "last.safetensors"]) rmSync(join(folder, made), { recursive: true });
});

test("steps and guidance are those that suit the model, unless a flag says otherwise", async () => {
  const parametersOf = async (...more: string[]): Promise<string> => {
    const made = await likeness("generate", "a red apple", "--model", POCKET, "--seed", "3", "--out", "suits", ...more);
    return (readTexts(readFileSync(join(folder, made.out.trim()))) as { parameters: string }).parameters;
  };
  const suits = readEvaluationConfig(join(POCKET, "training", "6-evaluation.json")).sampling; // what the report is of
  const { steps, guidance_scale: scale, guidance_rescale: rescale, guidance_stop: stop } = suits;
  const cfg = `CFG scale: ${scale}, CFG rescale: ${rescale}, CFG stop: ${stop},`;
  expect(await parametersOf()).toMatch(new RegExp(`Steps: ${steps}, .*${cfg}`));
  const flags = ["--steps=2", "--guidance-scale=3", "--guidance-rescale=0", "--guidance-stop=1"];
  const asked = await parametersOf(...flags);
  expect(asked).toMatch(/Steps: 2, .*CFG scale: 3, Seed/);
  rmSync(join(folder, "suits"), { recursive: true });
});

test.runIf(multipliesBytes() !== false)(
  "in 8 bits the same picture but for little, and the copies are made once",
  async () => {
    const env = { XDG_CACHE_HOME: join(folder, "cache") };
    const pocket = (...more: string[]): string[] => [
      ...["generate", "a red apple", "--model", POCKET, "--steps", "4", "--seed", "3", "--out", "bits", ...more],
    ];
    const pictures: Buffer[] = [];
    for (const [more, said] of [
      [[], false],
      [["--int8"], true],
      [["--int8"], false],
    ] as const) {
      const made = await runLikeness(pocket(...more), { cwd: folder, env });
      expect(made).toMatchObject({ code: 0 });
      expect(made.err.includes("Weights in 8 bits")).toBe(said);
      pictures.push(await sharp(join(folder, made.out.trim())).raw().toBuffer());
    }
    const [whole, first, second] = pictures as [Buffer, Buffer, Buffer];
    expect(second.equals(first)).toBe(true);
    const difference = whole.reduce((s, v, i) => s + Math.abs(v - first[i]!), 0) / whole.length;
    expect(difference).toBeGreaterThan(0);
    expect(difference).toBeLessThan(5); // of 255
    for (const made of ["bits", "cache"]) rmSync(join(folder, made), { recursive: true });
  },
);

test("Ctrl-C between two batches keeps the pictures that are done, whole", async () => {
  const flags = ["--steps", "200", "--num-images", "50", "--batch-size", "1", "--out", "many"];
  const child = startLikeness(generate(prompt, ...flags), { cwd: folder });
  const ended = endOf(child);
  await new Promise((r) => child.stdout.once("data", r));
  child.kill("SIGINT");
  expect((await ended).code).toBe(130);
  const kept = readdirSync(join(folder, "many"));
  expect(kept[0]).toBe("00001-5.png");
  expect(kept.length).toBeLessThan(50);
  for (const name of kept) expect((await sharp(join(folder, "many", name)).stats()).channels).toHaveLength(3);
  rmSync(join(folder, "many"), { recursive: true });
});

test("a prompt beyond the limit: one warning with what is cut off, as a line and as JSON", async () => {
  const { prompt: long } = (JSON.parse(golden.metadata.cases!) as { long: { prompt: string } }).long;
  const plain = await likeness(...generate(long, "--clip-skip", "1"));
  expect(plain.code).toBe(0);
  const cut = JSON.stringify(golden.metadata.cut);
  const warnings = plain.err.split("\n").filter((line) => line.startsWith("warning: "));
  expect(warnings).toEqual([`warning: of a prompt, 16 tokens are read; cut off: ${cut}`]);
  const { parameters } = readTexts(readFileSync(join(folder, plain.out.trim()))) as { parameters: string };
  expect(parameters).toContain("Clip skip: 2,"); // one more than diffusers counts
  const json = await likeness(...generate(long, "--json"));
  const events = json.err.trim().split("\n");
  expect(events.map((line) => JSON.parse(line) as object)).toContainEqual({
    ...{ event: "warning", text: `of a prompt, 16 tokens are read; cut off: ${cut}` },
  });
  rmSync(join(folder, "out"), { recursive: true });
});

test.each<[string, string[], string]>([
  ["an unknown scheduler", ["--scheduler", "heun"], "scheduler: needed one of ddpm, ddim, pndm, lms,"],
  ["more steps than LCM knows", ["--scheduler", "lcm", "--steps", "51"], "steps: needed a whole number in [1, 50]"],
  ["a side between two latents", ["--width", "17"], "--width (likeness generate): needed a multiple of 2 for sd1"],
  [
    "strength without a picture",
    ["--strength", "0.5"],
    "--strength (likeness generate): needed --init-image beside it",
  ],
  ["a picture that is none", ["--init-image", "text.png"], "picture (text.png): needed a PNG, JPEG or WebP picture"],
  [
    "no picture there",
    ["--init-image", "no.png"],
    "picture (no.png): needed a PNG, JPEG or WebP picture, found no such",
  ],
  [
    "a strength that leaves no step",
    ["--init-image", "init.png", "--strength", "0.1"],
    "strength: needed at least 1/5, so that one of 5 steps is made, found 0.1.",
  ],
  ["a strength of 2", ["--init-image", "init.png", "--strength", "2"], "--strength (likeness generate): needed"],
  [
    "noise beside a picture",
    ["--init-image", "init.png", "--latents", "noise.safetensors"],
    "--latents (likeness generate): needed noise or a picture to start from",
  ],
  ["a clip skip beyond the encoder", ["--clip-skip", "3"], "clip skip: needed a whole number from 0 to 2"],
  [
    "a concept's guidance without a concept",
    ["--guidance-alpha", "0.5"],
    "--guidance-alpha (likeness generate): needed --concept beside it",
  ],
  ["a clip skip beside a concept", ["--clip-skip", "1", "--concept", "noise.safetensors"], "--clip-skip (likeness"],
])("%s: one line, exit code 2, no file", async (_name, args, line) => {
  const { code, out, err } = await likeness(...generate(prompt, ...args));
  expect(err.slice(0, line.length + 10)).toBe(`likeness: ${line}`);
  expect(err.trim().split("\n")).toHaveLength(1);
  expect({ code, out }).toEqual({ code: 2, out: "" });
  expect(readdirSync(folder).sort()).toEqual(before);
});

test("help lists the schedulers", async () => {
  const { out } = await likeness("generate", "--help");
  expect(out).toMatch(/--scheduler NAME +ddpm, ddim, pndm, lms, lms-karras, euler, .*, unipc, lcm; by default/);
});

test.each([
  ["its own size", { width: 24, height: 16 }, {}, { width: 24, height: 16 }],
  ["rounded down", { width: 101, height: 77 }, {}, { width: 96, height: 72 }],
  ["at most twice the model's", { width: 4000, height: 3000 }, {}, { width: 128, height: 96 }],
  ["the other side in proportion", { width: 300, height: 100 }, { width: 96 }, { width: 96, height: 32 }],
  ["the other side, from the height", { width: 300, height: 100 }, { height: 40 }, { width: 120, height: 40 }],
  ["never less than a latent", { width: 400, height: 16 }, { width: 16 }, { width: 16, height: 8 }],
  ["both sides as asked", { width: 300, height: 100 }, { width: 64, height: 64 }, { width: 64, height: 64 }],
])("the size that follows from an init image: %s", (_name, init, asked, size) => {
  expect(sizeFrom(init, asked, 64, 8)).toEqual(size);
});

/** From photo to pictures through the command line, on toy models; and what a concept must not be used for. */
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadModel } from "@likeness/diffusion";
import { FIXTURES } from "@likeness/engine/testing";
import { readConcept } from "@likeness/personalization";
import sharp from "sharp";
import { afterAll, beforeAll, expect, test } from "vitest";
import { writeToyEncoder } from "../../../packages/personalization/test/toy-encoder.ts";
import { readTexts } from "../src/images/png-text.ts";
import { type Ended, runLikeness } from "./likeness.ts";

const toy = (name: string): string => join(FIXTURES, "models", name);
const folder = mkdtempSync(join(tmpdir(), "likeness-concept-"));
afterAll(() => rmSync(folder, { recursive: true }));

const likeness = (...args: string[]): Promise<Ended> => runLikeness(args, { cwd: folder });

const generate = (prompt: string, model: string, out: string): string[] => [
  ...["generate", prompt, "--model", toy(model), "--concept", "concept.safetensors"],
  ...["--steps", "2", "--num-images", "2", "--seed", "7", "--out", out],
];

beforeAll(async () => {
  const photo = sharp({ create: { width: 40, height: 30, channels: 3, background: "#c04020" } });
  writeFileSync(join(folder, "photo.png"), await photo.png().toBuffer());
  const options = ["--steps", "2", "--batch-size", "2", "--class-word", "fox", "--out", "concept.safetensors"];
  const made = await likeness("personalize", "photo.png", "--model", toy("sd1"), ...options);
  expect(made.err.trim().split("\n").at(-1), made.err).not.toMatch(/^likeness: /);
  expect(made).toMatchObject({ code: 0, out: "concept.safetensors\n" });
});

test("the same seed gives the same bytes, and the settings are in the picture", async () => {
  for (const out of ["one", "two"])
    expect(await likeness(...generate("a photo of <S*> on the beach", "sd1", out))).toMatchObject({ code: 0 });
  const names = readdirSync(join(folder, "one")).sort();
  expect(names).toEqual(["00001-7.png", "00002-8.png"]);
  for (const name of names) {
    const bytes = readFileSync(join(folder, "one", name));
    expect(bytes.equals(readFileSync(join(folder, "two", name))), name).toBe(true);
    const { parameters } = readTexts(bytes) as { parameters?: string };
    expect(parameters).toContain("a photo of <S*> on the beach\n");
    expect(parameters).toContain("Concept: concept.safetensors");
  }
});

test("--guidance-alpha takes the concept out of the unconditional half, by default as the model's generation_config.json says", async () => {
  const drawn = async (out: string, model: string, ...flags: string[]) => {
    const made = await likeness(...generate("a <S*> in the snow", "sd1", out), "--model", model, ...flags);
    expect(made).toMatchObject({ code: 0 });
    const bytes = readFileSync(join(folder, made.out.split("\n")[0]!));
    return { pixels: await sharp(bytes).raw().toBuffer(), said: readTexts(bytes).parameters };
  };
  const plain = await drawn("all", toy("sd1"));
  const half = await drawn("half", toy("sd1"), "--guidance-alpha", "0.5");
  expect(plain.said).not.toContain("CFG alpha");
  expect(half.said).toContain("CFG alpha: 0.5, ");
  expect(half.pixels.equals(plain.pixels)).toBe(false);
  cpSync(toy("sd1"), join(folder, "suited"), { recursive: true });
  writeFileSync(join(folder, "suited", "generation_config.json"), '{ "guidance_alpha": 0.5 }');
  const suited = await drawn("suits", "suited");
  expect(suited.said).toContain("CFG alpha: 0.5, ");
  expect(suited.pixels.equals(half.pixels)).toBe(true);
  const asked = await drawn("asked", "suited", "--guidance-alpha", "1");
  expect(asked.said).not.toContain("CFG alpha");
  expect(asked.pixels.equals(plain.pixels)).toBe(true);
});

test("a concept from an init image, at a size that the UNet can't halve", async () => {
  const flags = ["--init-image", "photo.png", "--width", "18", "--height", "14", "--scheduler", "euler-a"];
  const made = await likeness(...generate("a <S*> in the snow", "sd1", "odd"), ...flags);
  expect(made).toMatchObject({ code: 0 });
  const { width, height } = await sharp(join(folder, made.out.split("\n")[0]!)).metadata();
  expect([width, height]).toEqual([18, 14]);
});

test.each<[string, string[], RegExp]>([
  [
    "a concept for another base",
    generate("a <S*>", "sd2", "no"),
    /^likeness: concept .*needed one made for sd2 .*found one made for sd1 /,
  ],
  [
    "a prompt without the token",
    generate("a photo of a fox", "sd1", "no"),
    /^likeness: prompt: needed the concept's token <S\*>/,
  ],
])("%s: one line, exit code 2, no file", async (_name, args, line) => {
  const { code, out, err } = await likeness(...args);
  expect(err).toMatch(line);
  expect(err.trim().split("\n")).toHaveLength(1);
  expect({ code, out }).toEqual({ code: 2, out: "" });
  expect(readdirSync(folder)).not.toContain("no");
});

test("--paper steps on the whole photo at the paper's rate and share and the encoder's rank, on attention alone, but for what is given", async () => {
  const model = loadModel(toy("sd1"));
  writeToyEncoder(join(folder, "encoder"), model);
  const found = { optimizer: "muon", learning_rate: 0.04, embedding_learning_rate: 0.01, conv_rank: 3 };
  const path = join(folder, "encoder", "config.json");
  const config = { ...JSON.parse(readFileSync(path, "utf8")), alpha_blend: 0.5, tuning_rank: 5, masked_tuning: found };
  writeFileSync(path, JSON.stringify(config));
  const disc = Buffer.from(
    '<svg width="40" height="40"><rect width="40" height="40" fill="#fff"/><circle cx="20" cy="20" r="12" fill="#c00"/></svg>',
  );
  writeFileSync(join(folder, "disc.png"), await sharp(disc).png().toBuffer());
  const settings = async (...flags: string[]): Promise<object> => {
    const run = [
      "--model",
      toy("sd1"),
      "--encoder",
      "encoder",
      "--steps",
      "1",
      "--batch-size",
      "1",
      "--out",
      "p.safetensors",
    ];
    const made = await likeness("personalize", "disc.png", ...run, ...flags);
    expect(made, made.err).toMatchObject({ code: 0 });
    const { settings, alphaBlend, rank, convolutions } = readConcept(join(folder, "p.safetensors"), model);
    const { learning_rate, optimizer, mask } = settings;
    return { learning_rate, optimizer, mask, alphaBlend, rank, convRank: convolutions?.rank };
  };
  const best = { learning_rate: 0.04, optimizer: "muon", mask: true, alphaBlend: 0.5, rank: 5, convRank: 3 };
  const paper = {
    learning_rate: 0.002,
    optimizer: undefined,
    mask: false,
    alphaBlend: 0.25,
    rank: 2,
    convRank: undefined,
  };
  expect(await settings()).toEqual(best);
  expect(await settings("--rank", "3")).toEqual({ ...best, rank: 3 });
  expect(await settings("--conv-rank", "2")).toEqual({ ...best, convRank: 2 });
  expect(await settings("--conv-rank", "0")).toEqual({ ...best, convRank: undefined });
  expect(await settings("--paper")).toEqual(paper);
  expect(await settings("--paper", "--mask", "auto", "--alpha-blend", "0.75")).toEqual({
    ...paper,
    ...{ mask: true, alphaBlend: 0.75 },
  });
});

test("inspect knows a concept", async () => {
  const { code, out } = await likeness("inspect", "concept.safetensors");
  expect(code).toBe(0);
  expect(out).toMatch(/concept/i);
});

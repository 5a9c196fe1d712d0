/** LoRAs, embeddings and exports through the command line, on toy models. */
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { readFloats, readSafetensorsHeader, writeSafetensors } from "@likeness/engine";
import { relativeError } from "@likeness/engine/testing";
import sharp from "sharp";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readTexts } from "../src/images/png-text.ts";

const bin = fileURLToPath(new URL("../bin/likeness.js", import.meta.url));
const fixture = (name: string): string => fileURLToPath(new URL(`../../../fixtures/${name}`, import.meta.url));
const lora = (name: string): string => fixture(`adapters/${name}.safetensors`);
const folder = mkdtempSync(join(tmpdir(), "likeness-adapters-"));
afterAll(() => rmSync(folder, { recursive: true }));

async function likeness(...args: string[]): Promise<{ code: number | null; out: string; err: string }> {
  const child = spawn(process.execPath, [bin, ...args], { cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
  const ended = new Promise<number | null>((r) => child.once("close", r));
  const [out, err] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { code: await ended, out, err };
}

const common = (model: string, out: string): string[] => ["--model", fixture(`models/${model}`), "--out", out];

/** Latents after two steps with some flags; the picture's settings. */
async function generate(
  name: string,
  prompt: string,
  ...flags: string[]
): Promise<{ latents: Float32Array; parameters: string; err: string }> {
  const latents = join(folder, `${name}.safetensors`);
  const made = await likeness(
    ...["generate", prompt, ...common("sd1", name), "--steps", "2", "--seed", "7", "--save-latents", latents, ...flags],
  );
  expect(made, made.err).toMatchObject({ code: 0 });
  const { parameters } = readTexts(readFileSync(join(folder, made.out.trim()))) as { parameters: string };
  return { latents: readFloats(readSafetensorsHeader(latents), "latents"), parameters, err: made.err };
}

beforeAll(async () => {
  const photo = sharp({ create: { width: 40, height: 30, channels: 3, background: "#c04020" } });
  writeFileSync(join(folder, "photo.png"), await photo.png().toBuffer());
  writeFileSync(join(folder, "toy.pt"), "anything");
  const options = ["--steps", "2", "--batch-size", "2", "--class-word", "fox"];
  const made = await likeness("personalize", "photo.png", ...common("sd1", "duck.safetensors"), ...options);
  expect(made, made.err).toMatchObject({ code: 0 });
});

test("a LoRA's scale, two LoRAs, and the same LoRA in two layouts", async () => {
  const plain = await generate("plain", "a fox");
  const zero = await generate("zero", "a fox", "--lora", `${lora("layers-peft")}:0`);
  const peft = await generate("peft", "a fox", "--lora", `${lora("layers-peft")}:0.5`);
  const kohya = await generate("kohya", "a fox", "--lora", `${lora("layers-kohya")}:0.5`);
  const both = await generate(
    "both",
    "a fox",
    "--lora",
    `${lora("layers-peft")}:0.25`,
    "--lora",
    `${lora("layers-kohya")}:.25`,
  );
  expect(relativeError(zero.latents, plain.latents)).toBeLessThan(1e-5);
  expect(relativeError(peft.latents, plain.latents)).toBeGreaterThan(0.05);
  for (const { latents } of [kohya, both]) expect(relativeError(latents, peft.latents)).toBeLessThan(1e-4);
  expect(both.parameters).toContain('LoRA: "layers-peft:0.25 layers-kohya:0.25"');
});

test("embeddings by their own word and by another; with a concept beside a LoRA", async () => {
  const embedding = fixture("adapters/learned_embeds.safetensors");
  const own = await generate("own", "a fox and a <toy>", "--embedding", embedding);
  const named = await generate("named", "a fox and a thingummy7", "--embedding", `${embedding}:thingummy7`);
  const plain = await generate("plain-toy", "a fox and a <toy>");
  expect(named.latents).toEqual(own.latents);
  expect(relativeError(plain.latents, own.latents)).toBeGreaterThan(1e-3);
  expect(own.parameters).toContain("Embedding: <toy>");
  const concept = await generate(
    "concept",
    "a <S*> and a <toy>",
    "--concept",
    "duck.safetensors",
    "--embedding",
    embedding,
  );
  const more = await generate(
    ...(["more", "a <S*> and a <toy>", "--concept", "duck.safetensors", "--embedding", embedding] as const),
    ...["--lora", lora("convolutions-kohya")],
  );
  expect(relativeError(more.latents, concept.latents)).toBeGreaterThan(0.05);
});

test("keys that are left out are told on stderr, and so is a LoRA that changes nothing", async () => {
  const key = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q";
  const data = (n: number) => new Float32Array(n);
  writeSafetensors(join(folder, "zero-lora.safetensors"), {
    [`${key}.lora_down.weight`]: { dtype: "F32", shape: [2, 12], data: data(24).fill(1) },
    [`${key}.lora_up.weight`]: { dtype: "F32", shape: [12, 2], data: data(24) },
    "lora_unet_elsewhere.alpha": { dtype: "F32", shape: [], data: data(1) },
  });
  const { err } = await generate("told", "a fox", "--lora", "zero-lora.safetensors");
  expect(err).toContain(
    'zero-lora.safetensors: 1 of 3 keys are left out, such as "lora_unet_elsewhere.alpha": sd1 has no layer of this name',
  );
  expect(err).toContain("zero-lora.safetensors: all its up factors are zero: it changes nothing");
});

test("exported files make the same picture in another layout; the difference to the dual path is told", async () => {
  const made: Record<string, { latents: Float32Array }> = {};
  for (const [format, file, token] of [
    ["kohya", "duck.safetensors", "duck-emb"],
    ["cloneofsimo", "duck.safetensors", "<S*>"],
  ] as const) {
    const { code, out, err } = await likeness(
      "export",
      "duck.safetensors",
      "--format",
      format,
      ...common("sd1", format),
    );
    expect(code, err).toBe(0);
    expect(out).toMatch(
      /^Difference: without the dual path predictions differ by [\d.e-]+ % \(largest .*8 predictions, 4 DDIM steps from each of 2 noises, "a photo of <S\*>", 16x16, no guidance\.$/m,
    );
    expect(out).toMatch(/^Use: .+\.$/m);
    const embedding = format === "kohya" ? ["--embedding", join(format, "duck-emb.safetensors")] : [];
    made[format] = await generate(`from-${format}`, `a photo of ${token}`, "--lora", join(format, file), ...embedding);
  }
  expect(relativeError(made.kohya!.latents, made.cloneofsimo!.latents)).toBeLessThan(1e-4);
  const json = await likeness(
    "export",
    "duck.safetensors",
    "--format",
    "a1111",
    ...common("sd1", "a1111"),
    "--json",
    "--draws",
    "1",
  );
  const result = JSON.parse(json.out) as { files: string[]; flattening: Record<string, unknown> };
  expect(result.files).toEqual(
    ["models/Lora/duck.safetensors", "embeddings/duck-emb.safetensors", "models/Lora/duck.json"].map((f) =>
      join("a1111", f),
    ),
  );
  expect(result.flattening).toMatchObject({ draws: 1, steps: 4 });
});

test("inspect tells a LoRA's layers", async () => {
  const { out } = await likeness("inspect", lora("cloneofsimo"), "--model", fixture("models/sd1"));
  expect(out).toMatch(/unet: 54 of the 121 layers of sd1 \(to_q 12, /);
  expect(out).toContain("in prompts: <s1>");
});

const no = (model: string): string[] => ["generate", "a", ...common(model, "no")];
const toExport = (model: string, format: string): string[] => [
  "export",
  "duck.safetensors",
  "--format",
  format,
  ...common(model, "no"),
];
const toy = ["--embedding", lora("learned_embeds")];
// one of each kind of check; the readers' own tests have the other files
test.each<[string, string[], RegExp]>([
  [
    "a scale that is no number",
    [...no("sd1"), "--lora", `${lora("processors")}:x`],
    /needed a number after the file's colon, such as :0\.8, found "x"/,
  ],
  [
    "a LoRA for another base",
    [...no("sd2"), "--lora", lora("processors")],
    /^likeness: LoRA .*needed one for sd2.*\[E_LORA_BASE\]/,
  ],
  [
    "a pickle",
    [...no("sd1"), "--embedding", "toy.pt"],
    /^likeness: embedding \(toy\.pt\): .*found a pickle.*\[E_PICKLE\]/,
  ],
  ["a token twice", [...no("sd1"), ...toy, ...toy], /needed a new word, found "<toy>"/],
  ["export for another base", toExport("sd2", "kohya"), /needed one made for sd2/],
  [
    "export to an unknown format",
    toExport("sd1", "zip"),
    /needed one of diffusers, kohya, a1111, cloneofsimo, found "zip"/,
  ],
])("%s: one line, exit code 2, no file", async (_name, args, line) => {
  const before = readdirSync(folder).sort();
  const { code, out, err } = await likeness(...args);
  expect(err).toMatch(line);
  expect(err.trim().split("\n")).toHaveLength(1);
  expect({ code, out }).toEqual({ code: 2, out: "" });
  expect(readdirSync(folder).sort()).toEqual(before);
});

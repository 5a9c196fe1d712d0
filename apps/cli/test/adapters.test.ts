/** LoRAs, embeddings and exports through the command line, on toy models. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readFloats, readSafetensorsHeader, writeSafetensors } from "@likeness/engine";
import { FIXTURES, relativeError } from "@likeness/engine/testing";
import sharp from "sharp";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readTexts } from "../src/images/png-text.ts";
import { type Ended, runLikeness } from "./likeness.ts";

const fixture = (name: string): string => join(FIXTURES, name);
const lora = (name: string): string => fixture(`adapters/${name}.safetensors`);
const folder = mkdtempSync(join(tmpdir(), "likeness-adapters-"));
afterAll(() => rmSync(folder, { recursive: true }));

const likeness = (...args: string[]): Promise<Ended> => runLikeness(args, { cwd: folder });

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

// every run is a process of its own: few of them, each for several things
test("LoRAs of two layouts, with scales, are one at the sum of the scales", async () => {
  const plain = await generate("plain", "a fox");
  const whole = await generate("whole", "a fox", "--lora", `${lora("layers-peft")}:0.5`);
  const parts = [`${lora("layers-peft")}:0.8`, `${lora("layers-kohya")}:-.3`];
  const both = await generate("both", "a fox", ...parts.flatMap((p) => ["--lora", p]));
  expect(relativeError(whole.latents, plain.latents)).toBeGreaterThan(0.05);
  expect(relativeError(both.latents, whole.latents)).toBeLessThan(1e-4);
  expect(both.parameters).toContain('LoRA: "layers-peft:0.8 layers-kohya:-0.3"');
});

test("embeddings by their own word and by another, also with a concept and a LoRA", async () => {
  const embedding = fixture("adapters/learned_embeds.safetensors");
  const own = await generate("own", "a fox and a <toy>", "--embedding", embedding);
  const named = await generate("named", "a fox and a thingummy7", "--embedding", `${embedding}:thingummy7`);
  expect(named.latents).toEqual(own.latents);
  expect(own.parameters).toContain("Embedding: <toy>");
  const flags = ["--concept", "duck.safetensors", "--embedding", embedding, "--lora", lora("convolutions-kohya")];
  const all = await generate("all", "a <S*> and a <toy>", ...flags);
  expect(relativeError(all.latents, own.latents)).toBeGreaterThan(0.05);
  expect(all.parameters).toContain('LoRA: "convolutions-kohya:1", Embedding: <toy>, Concept: duck.safetensors');
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

test("exported files make the same picture in two layouts; the difference to the dual path is told", async () => {
  const cloneofsimo = await likeness(
    "export",
    "duck.safetensors",
    "--format",
    "cloneofsimo",
    ...common("sd1", "numbered"),
  );
  expect(cloneofsimo.code, cloneofsimo.err).toBe(0);
  expect(cloneofsimo.out).toMatch(
    /^Difference: without the dual path predictions differ by [\d.e-]+ % \(largest .*8 predictions, 4 DDIM steps from each of 2 noises, "a photo of <S\*>", 16x16, no guidance\.\nUse: .+\.$/m,
  );
  const a1111 = await likeness(
    ...["export", "duck.safetensors", "--format", "a1111", ...common("sd1", "webui"), "--json", "--draws", "1"],
  );
  const { files, flattening, token } = JSON.parse(a1111.out) as { files: string[]; flattening: object; token: string };
  const wanted = ["models/Lora/duck.safetensors", "embeddings/duck-emb.safetensors", "models/Lora/duck.json"];
  expect(files).toEqual(wanted.map((f) => join("webui", f)));
  expect(flattening).toMatchObject({ draws: 1, steps: 4 });
  const one = await generate("one", "a photo of <S*>", "--lora", join("numbered", "duck.safetensors"));
  const two = await generate("two", `a photo of ${token}`, "--lora", files[0]!, "--embedding", files[1]!);
  expect(relativeError(two.latents, one.latents)).toBeLessThan(1e-4);
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

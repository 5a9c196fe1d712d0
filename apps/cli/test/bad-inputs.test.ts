/** The command line from outside: a bad input gets one line on stderr and exit code 2, and leaves no file. */
import { spawn } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { writeSafetensors } from "@likeness/engine";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { BIN, type Ended, runLikeness } from "./likeness.ts";

const folder = mkdtempSync(join(tmpdir(), "likeness-cli-"));
const at = (name: string): string => join(folder, name);
afterAll(() => rmSync(folder, { recursive: true }));

const likeness = (...args: string[]): Promise<Ended> => runLikeness(args, { cwd: folder });

function forge(name: string, header: string, data: number): void {
  const json = Buffer.from(header);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  writeFileSync(at(name), Buffer.concat([length, json, Buffer.alloc(data)]));
}

let before: string[];
beforeAll(async () => {
  mkdirSync(at("model"));
  const photo = sharp({ create: { width: 64, height: 64, channels: 3, background: "#884422" } });
  const jpeg = await photo.jpeg().toBuffer();
  writeFileSync(at("photo.jpg"), jpeg);
  writeFileSync(at("cut.jpg"), jpeg.subarray(0, jpeg.length - 60));
  await sharp({ create: { width: 32, height: 64, channels: 3, background: "#ffffff" } }).toFile(at("mask.png"));
  writeFileSync(at("text.png"), "not a picture\n");
  writeFileSync(at("empty.png"), "");
  const tensor = { dtype: "F32", shape: [4], data: new Float32Array(4) } as const;
  writeSafetensors(at("good.safetensors"), { "<cat>": tensor });
  forge("short.safetensors", '{"k":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}', 8);
  forge(
    "overlap.safetensors",
    '{"k":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"l":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}',
    3,
  );
  forge(
    "twice.safetensors",
    '{"k":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"k":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
    1,
  );
  forge("escape.safetensors", '{"\\u001b[2J\\n":{"dtype":"Q4","shape":[1],"data_offsets":[0,1]}}', 1);
  writeFileSync(at("empty.safetensors"), "");
  writeFileSync(at("huge.safetensors"), Buffer.concat([Buffer.alloc(8, 0xff), Buffer.from("{}")]));
  copyFileSync(at("text.png"), at("config.json"));
  before = readdirSync(folder).sort();
});

const personalize = (photo: string): string[] => [
  "personalize",
  photo,
  "--model",
  "model",
  "--out",
  "new/c.safetensors",
];

describe("one line, exit code 2, no file", () => {
  test.concurrent.each<[string, string[], string]>([
    [
      "photo missing",
      personalize("no.jpg"),
      "picture (no.jpg): needed a PNG, JPEG or WebP picture, found no such file.",
    ],
    ["photo a text", personalize("text.png"), "picture (text.png): needed a PNG, JPEG or WebP picture, found a text."],
    [
      "photo truncated",
      personalize("cut.jpg"),
      "picture (cut.jpg): needed a PNG, JPEG or WebP picture, found a damaged jpeg",
    ],
    [
      "photo empty",
      personalize("empty.png"),
      "picture (empty.png): needed a PNG, JPEG or WebP picture, found an empty file.",
    ],
    [
      "mask of another size",
      [...personalize("photo.jpg"), "--mask", "mask.png"],
      "mask (mask.png): needed the photo's size, ",
    ],
    [
      "8 bits on a GPU",
      [...personalize("photo.jpg"), "--int8", "--device", "webgpu"],
      "--int8 (--device webgpu): needed --device cpu, found webgpu.",
    ],
    ["photo a folder", personalize("model"), "picture (model): needed a PNG, JPEG or WebP picture, found a folder."],
    [
      "out a folder",
      ["personalize", "photo.jpg", "--model", "model", "--out", "model"],
      "--out (model): needed a file name",
    ],
    [
      "out below a file",
      ["personalize", "photo.jpg", "--model", "model", "--out", "photo.jpg/c.safetensors"],
      "--out (",
    ],
    [
      "token with a space",
      [...personalize("photo.jpg"), "--token", "S *"],
      "--token (likeness personalize): needed two or more",
    ],
    [
      "model missing",
      ["personalize", "photo.jpg", "--model", "org/none", "--out", "c.safetensors"],
      "model (org/none): needed",
    ],
    [
      "unknown flag",
      [...personalize("photo.jpg"), "--stepz", "3"],
      "unknown flag --stepz (likeness personalize). Did you mean --steps?",
    ],
    ["unknown command", ["personalise"], 'unknown command "personalise". Did you mean personalize?'],
    ["no prompt", ["generate", "--model", "model", "--out", "o"], "PROMPT (likeness generate): needed what to show"],
    [
      "bad number",
      ["generate", "x", "--model", "model", "--out", "o", "--steps", "many"],
      "--steps (likeness generate): needed a whole number",
    ],
    [
      "concept missing",
      ["generate", "x", "--model", "model", "--out", "o", "--concept", "no.safetensors"],
      "--concept (no.safetensors): needed a file",
    ],
    [
      "model without parts",
      ["generate", "x", "--model", "model", "--out", "o"],
      "model (model): needed a diffusers folder",
    ],
    ["config no JSON", ["train", "config.json"], "config.json"],
    ["config missing", ["pretrain", "no.json"], "config (no.json): needed a file, found no such file."],
    [
      "file missing",
      ["inspect", "no.safetensors"],
      "input (no.safetensors): needed a .safetensors file or a model folder",
    ],
    ["file empty", ["inspect", "empty.safetensors"], "weights (empty.safetensors): needed at least 8 bytes, found 0."],
    [
      "file cut off",
      ["inspect", "short.safetensors"],
      '"k" (short.safetensors): needed data up to byte 79, found a file of 71 bytes.',
    ],
    ["overlap", ["inspect", "overlap.safetensors"], '"l" (overlap.safetensors): needed data from byte'],
    ["a key twice", ["inspect", "twice.safetensors"], '"k" (twice.safetensors): needed each key once'],
    [
      "escape sequences in a key",
      ["inspect", "escape.safetensors"],
      '"\\u001b[2J\\n" (escape.safetensors): needed a dtype',
    ],
    ["huge header", ["inspect", "huge.safetensors"], "header (huge.safetensors): needed at most 2 bytes"],
    ["a picture", ["inspect", "photo.jpg"], "header (photo.jpg): needed at most"],
    ["folder without a model", ["inspect", "model"], "model (model): needed a folder with model_index.json"],
  ])("%s", async (_name, args, line) => {
    const { code, out, err } = await likeness(...args);
    expect(err.slice(0, line.length + 10)).toBe(`likeness: ${line}`);
    expect(err.match(/\n/g)).toHaveLength(1);
    expect(err.endsWith("\n")).toBe(true);
    expect(out).toBe("");
    expect(code).toBe(2);
    expect(readdirSync(folder).sort()).toEqual(before);
  });
});

test("with --json the error is one object", async () => {
  const { code, err } = await likeness("inspect", "no.safetensors", "--json");
  expect(JSON.parse(err)).toMatchObject({ event: "error", code: "E_PATH" });
  expect(code).toBe(2);
});

test("results go to stdout: version, help, inspect", async () => {
  expect((await likeness("--version")).out).toMatch(/^\d+\.\d+\.\d+\n$/);
  const help = await likeness("generate", "--help");
  expect([help.code, help.err]).toEqual([0, ""]);
  expect(help.out).toContain("--guidance-scale N");
  const { code, out, err } = await likeness("inspect", "good.safetensors", "--json");
  expect([code, err]).toEqual([0, ""]);
  expect(JSON.parse(out)).toMatchObject({ kind: "textual-inversion", tensors: [{ key: "<cat>", shape: [4] }] });
});

test("doctor names the devices that are built in, and says of each GPU whether it works", async () => {
  const { out, code } = await likeness("doctor", "--json");
  type Check = { name: string; found: string; absent?: boolean };
  const { ok, checks } = JSON.parse(out) as { ok: boolean; checks: Check[] };
  expect(code).toBe(ok ? 0 : 1);
  expect(checks.find((c) => c.name === "onnxruntime-node")?.found).toMatch(/^\d+\.\d+\.\d+, devices cpu/);
  const gpu = checks.find((c) => c.name === "webgpu"); // built in on every platform that is supported
  if (gpu?.absent) expect(gpu.found).toMatch(/needed a GPU that .* shows, found none/);
  else expect(gpu?.found).toMatch(/^works, \d+\.\d s$/);
});

test("a reader that stops early is no error", async () => {
  const child = spawn("sh", ["-c", `"${process.execPath}" "${BIN}" --help | head -n 1`], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const err = text(child.stderr);
  expect(await new Promise((r) => child.once("exit", r))).toBe(0);
  expect(await err).toBe("");
});

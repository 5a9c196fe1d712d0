/** Ten thousand prompts, oddities and traps: the ids of transformers' CLIPTokenizer, with CLIP's own vocabulary. */
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterAll, expect, test } from "vitest";
import { strings } from "../../../fixtures/make/tokenizer-strings.ts";
import { END_OF_WORD } from "../src/tokenizers/bpe.ts";
import { BYTE_SYMBOLS } from "../src/tokenizers/bytes.ts";
import { type CLIPTokenizer, loadCLIPTokenizer, openaiCLIPTokenizer } from "../src/tokenizers/index.ts";

interface Layout {
  readonly tokenizer_config: object;
  readonly special_tokens_map: object | null;
  /** Of tokenizer.json, where there is one. */
  readonly added_tokens: readonly object[] | null;
  readonly ids_sha256: string;
}
interface Golden {
  readonly sha256: string;
  readonly strings_maker_sha256: string;
  readonly strings_sha256: string;
  readonly count: number;
  readonly ids: number;
  readonly layouts: Readonly<Record<"sd1" | "sd2" | "sd1-saved" | "sd2-saved", Layout>>;
  readonly hashes: string;
}

const fixtures = new URL("../../../fixtures/", import.meta.url);
const golden: Golden = JSON.parse(readFileSync(new URL("tokenizer-hashes.json", fixtures), "utf8"));
const sha256 = (data: string | Buffer): Buffer => createHash("sha256").update(data).digest();
const temp = mkdtempSync(join(tmpdir(), "likeness-strings-"));
afterAll(() => rmSync(temp, { recursive: true }));
const all = strings();

test("the strings are those that Python was given", () => {
  for (const [name, hash] of [
    ["tokenizer_hashes.py", golden.sha256],
    ["tokenizer-strings.ts", golden.strings_maker_sha256],
  ] as const)
    expect(sha256(readFileSync(new URL(`make/${name}`, fixtures))).toString("hex"), name).toBe(hash);
  expect(sha256(JSON.stringify(all)).toString("hex")).toBe(golden.strings_sha256);
  expect(all).toHaveLength(10_000);
});

test("10,000 strings: every string's ids", () => {
  const tokenizer = openaiCLIPTokenizer();
  const hashes = Buffer.from(golden.hashes, "base64");
  expect(hashes).toHaveLength(4 * all.length);
  let count = 0;
  const wrong = all.filter((text, i) => {
    const ids = tokenizer.tokenize(text);
    count += ids.length;
    return !sha256(ids.join())
      .subarray(0, 4)
      .equals(hashes.subarray(4 * i, 4 * i + 4));
  });
  expect(wrong).toEqual([]);
  expect(count).toBe(golden.ids);
});

/** A tokenizer/ folder with CLIP's vocabulary and the special files of this layout. */
function load(name: string, { tokenizer_config, special_tokens_map, added_tokens }: Layout): CLIPTokenizer {
  const merges = gunzipSync(readFileSync(new URL("../assets/clip-merges.txt.gz", import.meta.url)))
    .toString()
    .trimEnd();
  const pairs = merges.split("\n");
  const tokens = [
    ...BYTE_SYMBOLS,
    ...BYTE_SYMBOLS.map((s) => s + END_OF_WORD),
    ...pairs.map((m) => m.replace(" ", "")),
  ];
  const vocab = Object.fromEntries([...tokens, "<|startoftext|>", "<|endoftext|>"].map((token, id) => [token, id]));
  const files: Record<string, string> = { "tokenizer_config.json": JSON.stringify(tokenizer_config) };
  if (special_tokens_map) files["special_tokens_map.json"] = JSON.stringify(special_tokens_map);
  if (added_tokens) {
    const model = { type: "BPE", vocab, merges: pairs.map((pair) => pair.split(" ")) };
    files["tokenizer.json"] = JSON.stringify({ version: "1.0", added_tokens, model });
  } else {
    files["vocab.json"] = JSON.stringify(vocab);
    files["merges.txt"] = `#version: 0.2\n${merges}\n`;
  }
  const folder = join(temp, name);
  mkdirSync(folder);
  for (const [file, text] of Object.entries(files)) writeFileSync(join(folder, file), text);
  return loadCLIPTokenizer(folder);
}

test.each([
  ["sd1", 49407],
  ["sd2", 0],
  ["sd1-saved", 49407],
  ["sd2-saved", 0],
] as const)("all of them with the files of %s, which pads with %d", (name, pad) => {
  const tokenizer = load(name, golden.layouts[name]);
  const lines = all.map((text) => tokenizer.tokenize(text).join()).join("\n");
  expect(sha256(lines).toString("hex")).toBe(golden.layouts[name].ids_sha256);
  expect(tokenizer.modelMaxLength).toBe(77);
  expect([...tokenizer.encode("a fox", { maxLength: 6 }).inputIds]).toEqual([49406, 320, 3240, 49407, pad, pad]);
});

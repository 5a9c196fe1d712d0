import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { words } from "../../../../fixtures/make/tokenizer-words.ts";
import { END_OF_WORD } from "./bpe.ts";
import type { CLIPTokenizer } from "./clip.ts";
import { openaiCLIPTokenizer } from "./clip-vocabulary.ts";
import { loadCLIPTokenizer } from "./load.ts";
import { tokenizerFiles, trainBpe, writeTokenizer } from "./train-bpe.ts";

const root = fileURLToPath(new URL("../../../../", import.meta.url));
const folder = join(root, "fixtures/tokenizer");
const temp = mkdtempSync(join(tmpdir(), "likeness-tokenizer-"));
afterAll(() => rmSync(temp, { recursive: true }));

type Case = readonly [text: string, ids: readonly number[], decoded: string];
interface Golden {
  readonly special: Record<string, unknown> | null;
  readonly cases: readonly Case[];
  readonly padded: readonly (readonly [text: string, inputIds: number[], attentionMask: number[]])[];
}
const read = (path: string) => JSON.parse(readFileSync(path, "utf8"));
const golden: Record<string, Golden> = read(join(root, "fixtures/tokenizer.json"));

/** Compares all cases at once: each text with its ids and the text that they give back. */
function expectCases(tokenizer: CLIPTokenizer, cases: readonly Case[]): void {
  const found = cases.map(([text]) => {
    const ids = tokenizer.tokenize(text);
    return [text, ids, tokenizer.decode([tokenizer.bosId, ...ids, tokenizer.eosId])];
  });
  expect(found).toEqual(cases);
}

/** The small vocabulary with special tokens as another model's files have them. */
function variant(name: string, special: Record<string, unknown> | null): CLIPTokenizer {
  const copy = join(temp, name);
  cpSync(folder, copy, { recursive: true });
  if (special) writeFileSync(join(copy, "special_tokens_map.json"), JSON.stringify(special));
  return loadCLIPTokenizer(copy);
}

describe.each(["own", "sd1", "sd2"])("with the special tokens of %s", (name) => {
  const { special, cases, padded } = golden[name]!;
  const tokenizer = variant(name, special);

  test("ids and decoded texts are transformers'", () => expectCases(tokenizer, cases));

  test("start, end, cut and padding are transformers'", () => {
    const found = padded.map(([text]) => {
      const { inputIds, attentionMask } = tokenizer.encode(text);
      return [text, [...inputIds], [...attentionMask]];
    });
    expect(found).toEqual(padded);
  });
});

const own = (): CLIPTokenizer => loadCLIPTokenizer(folder);

test("training gives the same files each time, and loading reads what writing wrote", () => {
  const files = tokenizerFiles(trainBpe(words), { modelMaxLength: 16 });
  for (const [name, text] of Object.entries(files)) expect(readFileSync(join(folder, name), "utf8")).toBe(text);
  expect(files).toEqual(tokenizerFiles(trainBpe([...words].reverse()), { modelMaxLength: 16 }));
  writeTokenizer(join(temp, "written"), trainBpe(words), { padToken: "!" });
  const tokenizer = loadCLIPTokenizer(join(temp, "written"));
  expect(tokenizer.modelMaxLength).toBe(77);
  expect(tokenizer.padId).toBe(0);
});

test("every trained word is one token, whatever stands around it", () => {
  const list = "photo photographs drawing robot fox 狐狸 café straße wearing background".split(" ");
  expect(own().tokenize(list.join("  ").toUpperCase().replace("STRASSE", "straße"))).toHaveLength(list.length);
});

test("a full vocabulary stops training, and rare words do not count", () => {
  expect(Object.keys(trainBpe(words, { vocabSize: 600 }).vocab)).toHaveLength(600);
  expect(() => trainBpe(words, { vocabSize: 500 })).toThrow("vocabSize: needed 514 or more, found 500.");
  const frequent = trainBpe(
    [
      ["fox", 5],
      ["owl", 1],
    ],
    { minFrequency: 2 },
  );
  expect(frequent.merges).toHaveLength(2);
  expect(frequent.vocab).toHaveProperty(`fox${END_OF_WORD}`);
});

test("a placeholder is one id beyond the vocabulary, with its case, even inside a word", () => {
  const tokenizer = own();
  const id = tokenizer.addToken("<S*>");
  expect(id).toBe(tokenizer.vocabSize);
  expect(tokenizer.addToken("<S*2>")).toBe(id + 1);
  const [photo, of] = tokenizer.tokenize("photo of");
  expect(tokenizer.tokenize("photo of <S*>")).toEqual([photo, of, id]);
  expect(tokenizer.tokenize("photo<S*>of<S*2>")).toEqual([photo, id, of, id + 1]);
  expect(tokenizer.tokenize("<s*>")).not.toContain(id);
  expect(
    tokenizer.decode(tokenizer.encode("photo of <S*> of", { padding: false }).inputIds, { skipSpecialTokens: true }),
  ).toBe("photo of <S*> of");
  expect(() => tokenizer.addToken("<S*>")).toThrow('"<S*>": this is a token already.');
  expect(() => tokenizer.addToken("fox")).toThrow('"fox": this is a token already.');
  expect(() => tokenizer.addToken("S *")).toThrow("needed a placeholder without white space");
});

test("a placeholder of several tokens takes as many places; a copy goes its own way", () => {
  const tokenizer = own();
  const id = tokenizer.addToken("<cat>", 3);
  const [photo] = tokenizer.tokenize("photo");
  expect(tokenizer.tokenize("photo <cat> photo <cat>_2")).toEqual([photo, id, id + 1, id + 2, photo, id + 2]);
  expect(tokenizer.decode([id, id + 2])).toBe("<cat> <cat>_2");
  expect(() => tokenizer.addToken("<cat>_1")).toThrow('"<cat>_1": this is a token already.');
  const copy = tokenizer.copy();
  expect(copy.tokenize("<cat>")).toEqual([id, id + 1, id + 2]);
  expect(copy.addToken("<dog>")).toBe(id + 3);
  expect(() => tokenizer.id("<dog>")).toThrow("needed a token of the vocabulary");
});

test("a prompt that is too long says what was cut", () => {
  const { inputIds, eosPosition, overflow } = own().encode("a photo of a fox in the snow", { maxLength: 7 });
  expect(inputIds).toHaveLength(7);
  expect(eosPosition).toBe(6);
  expect(overflow).toBe("in the snow");
  expect(own().encode("a photo", { maxLength: 7 })).not.toHaveProperty("overflow");
  expect(own().encode("a photo of a fox in the snow", { maxLength: 7, truncation: false }).inputIds).toHaveLength(10);
});

test("words() are whole words of three letters or more", () => {
  const tokenizer = own();
  const list = Array.from(tokenizer.words(), (id) => tokenizer.decode([id]));
  for (const word of ["photo", "fox", "café", "straße", "фокс"]) expect(list).toContain(word);
  expect(list.filter((word) => !/^\p{L}{3,}$/u.test(word))).toEqual([]);
  expect(new Set(list).size).toBe(list.length);
});

test("tokenizer.json alone serves too", () => {
  const merges = readFileSync(join(folder, "merges.txt"), "utf8").trim().split("\n").slice(1);
  const model = { type: "BPE", vocab: read(join(folder, "vocab.json")), merges: merges.map((m) => m.split(" ")) };
  const alone = mkdtempSync(join(temp, "alone-"));
  writeFileSync(join(alone, "tokenizer.json"), JSON.stringify({ version: "1.0", model }));
  expectCases(loadCLIPTokenizer(alone), golden.own!.cases);
});

test.each<[string, string, string, string]>([
  ["no files", "none.txt", "", "needed vocab.json and merges.txt (or tokenizer.json), found neither."],
  ["broken JSON", "vocab.json", "{", "vocab.json: needed JSON, found something else."],
  ["a wrong id", "vocab.json", '{"a": -1}', "vocab.json: a: needed an id, found -1."],
  ["a list of tokens", "vocab.json", '["a"]', "vocab.json: needed a table of tokens and ids."],
  ["another tokenizer", "tokenizer_config.json", '{"tokenizer_class": "T5Tokenizer"}', "json: tokenizer_class: "],
])("%s: one error that names the file", (_, name, text, message) => {
  const broken = mkdtempSync(join(temp, "broken-"));
  writeFileSync(join(broken, name), text);
  expect(() => loadCLIPTokenizer(broken)).toThrow(message);
});

describe("CLIP's own vocabulary", () => {
  test("ids and decoded texts are transformers'", () => {
    expectCases(openaiCLIPTokenizer(), read(join(root, "fixtures/tokenizer-clip.json")).cases);
  });

  test("has 49,408 tokens, and some 30,000 whole words", () => {
    const tokenizer = openaiCLIPTokenizer();
    expect(tokenizer.vocabSize).toBe(49408);
    expect(tokenizer.eosId).toBe(49407);
    expect(tokenizer.words().length).toBeGreaterThan(30_000);
  });

  test("half of a surrogate pair, which UTF-8 and Python's tokenizer have not, counts as the replacement character", () => {
    for (const half of ["\ud83e", "\udd8a"]) {
      const ids = openaiCLIPTokenizer().tokenize(`a${half}b ${half}`);
      expect(ids).toEqual(openaiCLIPTokenizer().tokenize("a\ufffdb \ufffd"));
    }
  });
});

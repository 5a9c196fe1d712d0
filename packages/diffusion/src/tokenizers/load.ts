/** Reading the tokenizer/ folder of a model. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { CLIPTokenizer, type SpecialToken } from "./clip.ts";
import { TokenizerError } from "./error.ts";

const token = z.union([
  z.string().transform((content): SpecialToken => ({ content, normalized: false })),
  z
    .object({
      content: z.string(),
      normalized: z.boolean().default(false),
      lstrip: z.literal(false).optional(),
      rstrip: z.literal(false).optional(),
      single_word: z.literal(false).optional(),
    })
    .transform(({ content, normalized }): SpecialToken => ({ content, normalized })),
]);

const specialTokens = z.object({
  bos_token: token.optional(),
  eos_token: token.optional(),
  unk_token: token.optional(),
  pad_token: token.optional(),
});

/** Not strict: transformers writes many keys here that change nothing. */
const tokenizerConfig = specialTokens.extend({
  tokenizer_class: z.enum(["CLIPTokenizer", "CLIPTokenizerFast"]).default("CLIPTokenizer"),
  model_max_length: z.number().positive().default(77),
  added_tokens_decoder: z.record(z.string(), z.unknown()).optional(),
});

/** Tens of thousands of entries, in a loop: zod's own record takes longer to read them than the model's graph to make. */
const vocabulary = z.custom<Record<string, number>>().check(({ value, issues }) => {
  const say = (message: string, path: string[] = []): void => {
    issues.push({ code: "custom", input: value, message, path });
  };
  if (typeof value !== "object" || value === null || Array.isArray(value))
    return say("needed a table of tokens and ids");
  for (const token in value) {
    const id = value[token]!;
    if (!Number.isInteger(id) || id < 0) return say(`needed an id, found ${JSON.stringify(id)}`, [token]);
  }
});

const addedTokens = z.object({
  added_tokens: z.array(z.object({ content: z.string(), normalized: z.boolean() })).default([]),
});

const tokenizerJson = z.object({
  model: z.object({
    vocab: vocabulary,
    merges: z.array(z.union([z.string(), z.tuple([z.string(), z.string()]).transform((pair) => pair.join(" "))])),
  }),
});

/**
 * Reads vocab.json and merges.txt (or tokenizer.json, where transformers 5 wrote that alone), tokenizer_config.json and
 * special_tokens_map.json.
 * @throws TokenizerError if a file is missing or damaged, or says something that CLIP's tokenizer cannot do
 */
export function loadCLIPTokenizer(folder: string): CLIPTokenizer {
  const config = read(folder, "tokenizer_config.json", tokenizerConfig) ?? tokenizerConfig.parse({});
  // older files keep the special tokens apart; they count, unless the config lists all added tokens itself
  const map = config.added_tokens_decoder ? undefined : read(folder, "special_tokens_map.json", specialTokens);
  const whole = readJson(folder, "tokenizer.json");
  const added = checked(whole, addedTokens);
  // where there is a tokenizer.json, it says how a token is looked for, whatever the others say: as transformers 5 has it
  const manner = new Map(added?.added_tokens.map(({ content, normalized }) => [content, normalized]));
  const special = (key: keyof z.infer<typeof specialTokens>, usual: string): SpecialToken => {
    const { content, normalized } = map?.[key] ?? config[key] ?? { content: usual, normalized: false };
    return { content, normalized: manner.get(content) ?? normalized };
  };
  return new CLIPTokenizer({
    ...vocabularyAndMerges(folder, whole),
    bos: special("bos_token", "<|startoftext|>"),
    eos: special("eos_token", "<|endoftext|>"),
    unk: special("unk_token", "<|endoftext|>"),
    pad: special("pad_token", "<|endoftext|>"),
    // transformers writes 1e30 for "no limit"; CLIP's position table has 77 rows
    modelMaxLength: config.model_max_length > 1e6 ? 77 : config.model_max_length,
  });
}

function vocabularyAndMerges(
  folder: string,
  whole: Json | undefined,
): { vocab: Record<string, number>; merges: string[] } {
  const vocab = read(folder, "vocab.json", vocabulary);
  const merges = join(folder, "merges.txt");
  if (vocab && existsSync(merges)) return { vocab, merges: parseMerges(readFileSync(merges, "utf8")) };
  const alone = checked(whole, tokenizerJson);
  if (alone) return alone.model;
  throw new TokenizerError(
    `${folder}: needed vocab.json and merges.txt (or tokenizer.json), found neither. Is this the tokenizer/ folder of a model?`,
  );
}

/** The lines of merges.txt without its header. */
export const parseMerges = (text: string): string[] =>
  text.split("\n").filter((line, i) => line.trim() !== "" && !(i === 0 && line.includes("#version")));

interface Json {
  readonly path: string;
  readonly value: unknown;
}

const read = <T>(folder: string, name: string, schema: z.ZodType<T>): T | undefined =>
  checked(readJson(folder, name), schema);

function readJson(folder: string, name: string): Json | undefined {
  const path = join(folder, name);
  if (!existsSync(path)) return undefined;
  try {
    return { path, value: JSON.parse(readFileSync(path, "utf8")) };
  } catch {
    throw new TokenizerError(`${path}: needed JSON, found something else.`);
  }
}

function checked<T>(json: Json | undefined, schema: z.ZodType<T>): T | undefined {
  if (!json) return undefined;
  const { path, value } = json;
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  throw new TokenizerError(
    [path, ...(issue.path.length ? [issue.path.join(".")] : []), `${issue.message}.`].join(": "),
  );
}

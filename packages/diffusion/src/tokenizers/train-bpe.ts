/** Training a vocabulary of CLIP's format, and writing it as transformers reads it. */
import { join } from "node:path";
import { atomicWrite } from "@likeness/engine";
import { END_OF_WORD, firstPieces } from "./bpe.ts";
import { BYTE_SYMBOLS, toByteSymbols } from "./bytes.ts";
import { TokenizerError } from "./error.ts";
import { cut, normalize } from "./normalize.ts";

const BOS = "<|startoftext|>";
const EOS = "<|endoftext|>";

export interface TrainOptions {
  /** upper limit, the 512 byte symbols and two special tokens included; none by default: every word becomes one token */
  readonly vocabSize?: number;
  /** rarer words do not count; 1 by default */
  readonly minFrequency?: number;
}

export interface TrainedBpe {
  /** 256 byte symbols, the same with the end-of-word mark, one token a merge, start, end */
  readonly vocab: Readonly<Record<string, number>>;
  readonly merges: readonly string[];
}

interface Word {
  pieces: string[];
  readonly frequency: number;
}

/**
 * Merges the most frequent pair of neighbours until every word is one token or the vocabulary is full. Ties go to the
 * pair that sorts first, so the same words give the same files.
 * @param words text → how often it occurs; what the tokenizer would cut apart counts by its parts
 */
export function trainBpe(words: Iterable<readonly [string, number]>, options: TrainOptions = {}): TrainedBpe {
  const { vocabSize = Number.POSITIVE_INFINITY, minFrequency = 1 } = options;
  const base = [...BYTE_SYMBOLS, ...BYTE_SYMBOLS.map((c) => c + END_OF_WORD)];
  if (vocabSize < base.length + 2)
    throw new TokenizerError(`vocabSize: needed ${base.length + 2} or more, found ${vocabSize}.`);
  const counted = countWords(words, minFrequency);
  const pairs = new PairCounts();
  for (const word of counted) pairs.add(word, 1);
  const tokens = new Set(base);
  const merges: string[] = [];
  while (tokens.size + 2 < vocabSize) {
    const best = pairs.best();
    if (best === undefined) break;
    merges.push(best);
    tokens.add(best.replace(" ", ""));
    for (const word of pairs.wordsWith(best)) {
      pairs.add(word, -1);
      word.pieces = mergeAll(word.pieces, best);
      pairs.add(word, 1);
    }
  }
  return { vocab: Object.fromEntries([...tokens, BOS, EOS].map((token, id) => [token, id])), merges };
}

function countWords(words: Iterable<readonly [string, number]>, minFrequency: number): Word[] {
  const counts = new Map<string, number>();
  for (const [text, frequency] of words)
    for (const word of cut(normalize(text))) counts.set(word, (counts.get(word) ?? 0) + frequency);
  return [...counts]
    .filter(([, frequency]) => frequency >= minFrequency)
    .map(([word, frequency]) => ({ pieces: firstPieces(toByteSymbols(word)), frequency }));
}

/** How often each pair of neighbours occurs, and in which words. */
class PairCounts {
  readonly #counts: Map<string, number> = new Map();
  readonly #words: Map<string, Set<Word>> = new Map();

  add(word: Word, sign: 1 | -1): void {
    for (let i = 0; i + 1 < word.pieces.length; i++) {
      const pair = `${word.pieces[i]} ${word.pieces[i + 1]}`;
      const count = (this.#counts.get(pair) ?? 0) + sign * word.frequency;
      if (count > 0) this.#counts.set(pair, count);
      else this.#counts.delete(pair);
      if (!this.#words.has(pair)) this.#words.set(pair, new Set());
      if (sign > 0) this.#words.get(pair)!.add(word);
      else this.#words.get(pair)!.delete(word);
    }
  }

  best(): string | undefined {
    let best: string | undefined;
    let most = 0;
    for (const [pair, count] of this.#counts)
      if (count > most || (count === most && pair < best!)) {
        best = pair;
        most = count;
      }
    return best;
  }

  wordsWith(pair: string): Word[] {
    return [...(this.#words.get(pair) ?? [])];
  }
}

function mergeAll(pieces: readonly string[], pair: string): string[] {
  const out: string[] = [];
  for (let i = 0; i < pieces.length; i++) {
    if (`${pieces[i]} ${pieces[i + 1]}` === pair) out.push(pieces[i]! + pieces[++i]!);
    else out.push(pieces[i]!);
  }
  return out;
}

export interface TokenizerFileOptions {
  /** rows of the text model's position table; 77 by default */
  readonly modelMaxLength?: number;
  /** <|endoftext|> by default, as in Stable Diffusion 1 */
  readonly padToken?: string;
}

/** The files of a tokenizer/ folder by name. */
export function tokenizerFiles(bpe: TrainedBpe, options: TokenizerFileOptions = {}): Record<string, string> {
  const { modelMaxLength = 77, padToken = EOS } = options;
  const special = { bos_token: BOS, eos_token: EOS, pad_token: padToken, unk_token: EOS };
  const config = {
    ...special,
    add_prefix_space: false,
    do_lower_case: true,
    errors: "replace",
    model_max_length: modelMaxLength,
    tokenizer_class: "CLIPTokenizer",
  };
  return {
    "vocab.json": `${JSON.stringify(bpe.vocab)}\n`,
    "merges.txt": `${["#version: 0.2", ...bpe.merges].join("\n")}\n`,
    "tokenizer_config.json": `${JSON.stringify(config, null, 2)}\n`,
    "special_tokens_map.json": `${JSON.stringify(special, null, 2)}\n`,
  };
}

/** Writes the files of `tokenizerFiles` into a folder, each whole or not at all. */
export function writeTokenizer(folder: string, bpe: TrainedBpe, options: TokenizerFileOptions = {}): void {
  for (const [name, text] of Object.entries(tokenizerFiles(bpe, options)))
    atomicWrite(join(folder, name), [new TextEncoder().encode(text)]);
}

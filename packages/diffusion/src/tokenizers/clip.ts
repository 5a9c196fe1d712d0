/** transformers' CLIPTokenizer: byte-level BPE on lower-cased text, with placeholders for learned concepts. */
import { END_OF_WORD, firstPieces, type MergeRanks, mergePieces } from "./bpe.ts";
import { fromByteSymbols, toByteSymbols } from "./bytes.ts";
import { TokenizerError } from "./error.ts";
import { cut, normalize } from "./normalize.ts";

/** A token that is found in the text before BPE. */
export interface SpecialToken {
  readonly content: string;
  /** Whether it is looked for in the cleaned (lower-case) text, as Stable Diffusion 1's files say. */
  readonly normalized: boolean;
}

export interface CLIPTokenizerData {
  readonly vocab: Readonly<Record<string, number>>;
  /** "left right", best first */
  readonly merges: readonly string[];
  readonly bos: SpecialToken;
  readonly eos: SpecialToken;
  readonly unk: SpecialToken;
  /** <|endoftext|> in Stable Diffusion 1, "!" in 2 */
  readonly pad: SpecialToken;
  readonly modelMaxLength: number;
}

export interface EncodeOptions {
  /** ids, both ends included; the tokenizer's modelMaxLength by default */
  readonly maxLength?: number;
  /** fill up to maxLength; true by default */
  readonly padding?: boolean;
  /** cut after maxLength; true by default */
  readonly truncation?: boolean;
}

export interface Encoding {
  /** (L,): start, text, end, padding */
  readonly inputIds: Int32Array;
  /** (L,): 1 up to and with the end token, 0 on padding */
  readonly attentionMask: Int32Array;
  /** where the (first) end token stands */
  readonly eosPosition: number;
  /** the text that did not fit, if any */
  readonly overflow?: string;
}

export class CLIPTokenizer {
  readonly modelMaxLength: number;
  readonly bosId: number;
  readonly eosId: number;
  readonly padId: number;
  readonly unkId: number;
  /** tokens of the vocabulary file, added ones not counted */
  readonly vocabSize: number;
  readonly #vocab: ReadonlyMap<string, number>;
  /** by id; made when first asked for */
  #tokens: readonly string[] | undefined;
  readonly #ranks: MergeRanks;
  readonly #special: ReadonlyMap<string, SpecialToken>;
  readonly #added: Map<string, number> = new Map();
  /** placeholders of several tokens, with all their ids */
  readonly #several: Map<string, readonly number[]> = new Map();
  readonly #data: CLIPTokenizerData;
  readonly #words: Map<string, readonly number[]> = new Map();

  /** @throws TokenizerError if a special token is not in the vocabulary */
  constructor(data: CLIPTokenizerData) {
    this.#data = data;
    const { vocab, merges, bos, eos, unk, pad, modelMaxLength } = data;
    const known = new Map<string, number>();
    let last = -1;
    for (const token in vocab) {
      const id = vocab[token]!;
      known.set(token, id);
      last = Math.max(last, id);
    }
    this.#vocab = known;
    this.vocabSize = last + 1;
    this.#ranks = new Map(merges.map((pair, rank) => [pair, rank]));
    // where roles share a token, the last one's manner counts, as in transformers
    this.#special = new Map([bos, eos, unk, pad].map((token) => [token.content, token]));
    this.modelMaxLength = modelMaxLength;
    this.bosId = this.id(bos.content);
    this.eosId = this.id(eos.content);
    this.padId = this.id(pad.content);
    this.unkId = this.id(unk.content);
  }

  /** The id of a token as it is spelled in vocab.json, or of an added one. @throws TokenizerError if there is none */
  id(token: string): number {
    const id = this.#added.get(token) ?? this.#vocab.get(token);
    if (id === undefined) throw new TokenizerError(`"${token}": needed a token of the vocabulary, found none.`);
    return id;
  }

  /**
   * Makes a placeholder such as "<S*>" one token, or `count` tokens in a row that are called <S*>, <S*>_1, <S*>_2… It
   * is found wherever it stands, with its case, before anything else.
   * @returns its (first) id: the first free one beyond the vocabulary
   * @throws TokenizerError if it is a token already, or has white space
   */
  addToken(token: string, count: number = 1): number {
    if (token === "" || /\s/u.test(token))
      throw new TokenizerError(`"${token}": needed a placeholder without white space, such as "<S*>".`);
    const names = Array.from({ length: count }, (_, i) => (i === 0 ? token : `${token}_${i}`));
    for (const name of names)
      if (this.#added.has(name) || this.#vocab.has(name) || this.#vocab.has(name + END_OF_WORD))
        throw new TokenizerError(`"${name}": this is a token already. Choose another placeholder, such as "<S*>".`);
    const id = this.vocabSize + this.#added.size;
    for (const [i, name] of names.entries()) this.#added.set(name, id + i);
    if (count > 1)
      this.#several.set(
        token,
        Array.from(names, (_, i) => id + i),
      );
    return id;
  }

  /** A tokenizer that knows the same tokens, to which others may be added. */
  copy(): CLIPTokenizer {
    const other = new CLIPTokenizer(this.#data);
    for (const [token, id] of this.#added) other.#added.set(token, id);
    for (const [token, ids] of this.#several) other.#several.set(token, ids);
    return other;
  }

  /** The ids of a text alone: no start, end or padding. */
  tokenize(text: string): number[] {
    const placeholders = [...this.#added.keys()];
    const special = [...this.#special.values()];
    const exact = special.filter((token) => !token.normalized).map((token) => token.content);
    const loose = new Map(special.filter((t) => t.normalized).map((t) => [normalize(t.content), this.id(t.content)]));
    return split(text, [...placeholders, ...exact]).flatMap(({ text: outer, found }) =>
      found
        ? (this.#several.get(outer) ?? [this.id(outer)])
        : split(normalize(outer), [...loose.keys()]).flatMap((part) =>
            part.found ? [loose.get(part.text)!] : cut(part.text).flatMap((word) => this.#wordIds(word)),
          ),
    );
  }

  /** Start, text, end; cut and padded. */
  encode(text: string, options: EncodeOptions = {}): Encoding {
    const { maxLength = this.modelMaxLength, padding = true, truncation = true } = options;
    if (!Number.isInteger(maxLength) || maxLength < 2)
      throw new TokenizerError(`maxLength: needed a whole number ≥ 2, found ${maxLength}.`);
    const all = this.tokenize(text);
    const kept = truncation ? all.slice(0, maxLength - 2) : all;
    const ids = [this.bosId, ...kept, this.eosId];
    const missing = padding ? Math.max(0, maxLength - ids.length) : 0;
    return {
      inputIds: Int32Array.from([...ids, ...new Array<number>(missing).fill(this.padId)]),
      attentionMask: Int32Array.from({ length: ids.length + missing }, (_, i) => (i < ids.length ? 1 : 0)),
      eosPosition: ids.indexOf(this.eosId),
      ...(kept.length < all.length ? { overflow: this.decode(all.slice(kept.length)) } : {}),
    };
  }

  /** Ids → text, words set off by spaces. Ids beyond the vocabulary and the added tokens are left out. */
  decode(ids: Iterable<number>, { skipSpecialTokens = false }: { skipSpecialTokens?: boolean } = {}): string {
    const added = [...this.#added.keys()].map((token) => toByteSymbols(token) + END_OF_WORD);
    const tokens = this.#allTokens();
    const symbols = Array.from(ids, (id) => {
      const token = tokens[id] ?? added[id - this.vocabSize] ?? "";
      return skipSpecialTokens && this.#special.has(token) ? "" : token;
    }).join("");
    return fromByteSymbols(symbols).replaceAll(END_OF_WORD, " ").trim();
  }

  /**
   * Ids of the tokens that are whole words of three letters or more: no special tokens, bytes, digits, punctuation or
   * parts of words. (Where nearest words are looked for; the paper filters nothing.)
   */
  words(): Int32Array {
    const isWord = (token: string, id: number): boolean =>
      token.endsWith(END_OF_WORD) && !this.#special.has(token) && /^\p{L}{3,}$/u.test(this.decode([id]));
    return Int32Array.from(this.#allTokens().flatMap((token, id) => (isWord(token, id) ? [id] : [])));
  }

  #allTokens(): readonly string[] {
    if (!this.#tokens) {
      const tokens: string[] = [];
      for (const [token, id] of this.#vocab) tokens[id] = token;
      this.#tokens = tokens;
    }
    return this.#tokens;
  }

  #wordIds(word: string): readonly number[] {
    const known = this.#words.get(word);
    if (known) return known;
    const pieces = mergePieces(firstPieces(toByteSymbols(word)), this.#ranks);
    const ids = pieces.map((piece) => this.#vocab.get(piece) ?? this.unkId);
    if (this.#words.size < 10_000) this.#words.set(word, ids);
    return ids;
  }
}

interface Part {
  readonly text: string;
  readonly found: boolean;
}

/** Cuts a text at the given tokens, the longest first where several match. */
function split(text: string, tokens: readonly string[]): Part[] {
  if (tokens.length === 0) return [{ text, found: false }];
  const longestFirst = [...tokens].sort((a, b) => b.length - a.length);
  const pattern = new RegExp(`(${longestFirst.map((t) => t.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&")).join("|")})`, "u");
  // a capturing group makes split return the separators, at odd places
  return text.split(pattern).map((part, i) => ({ text: part, found: i % 2 === 1 }));
}

/** How CLIP's tokenizer of transformers cleans and cuts text (without ftfy). */

/** White space as Unicode has it; JavaScript's \s differs in U+0085 and U+FEFF. */
const SPACE = "\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const SPACES: RegExp = new RegExp(`[${SPACE}]+`, "gu");
const CONTRACTIONS = "'s|'t|'re|'ve|'m|'ll|'d";
const WORDS: RegExp = new RegExp(
  `<\\|startoftext\\|>|<\\|endoftext\\|>|${CONTRACTIONS}|\\p{L}+|\\p{N}|[^${SPACE}\\p{L}\\p{N}]+`,
  "gu",
);
/** GPT-2's cut, which the byte level applies once more. It matters for "<|endoftext|>" spelled in capitals. */
const BYTE_LEVEL: RegExp = new RegExp(`${CONTRACTIONS}|\\p{L}+|\\p{N}+|[^${SPACE}\\p{L}\\p{N}]+`, "gu");

/** NFC, runs of white space as one space, lower case letter by letter (so that a final Σ is σ, as in transformers). */
export const normalize = (text: string): string =>
  Array.from(text.normalize("NFC").replace(SPACES, " "), (c) => c.toLowerCase()).join("");

/** Normalized text → words, single digits, runs of punctuation, contractions. */
export const cut = (text: string): string[] =>
  (text.match(WORDS) ?? []).flatMap((word) => word.match(BYTE_LEVEL) ?? []);

/** GPT-2's byte alphabet: every byte as one visible character, so that a vocabulary file is plain text. */

const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i);

/** Bytes that stand for themselves; the others become the characters from U+0100 on. */
const VISIBLE: readonly number[] = [...range(0x21, 0x7e), ...range(0xa1, 0xac), ...range(0xae, 0xff)];
const HIDDEN: readonly number[] = range(0, 255).filter((b) => !VISIBLE.includes(b));

const charOf: readonly string[] = range(0, 255).map((b) =>
  VISIBLE.includes(b) ? String.fromCharCode(b) : String.fromCharCode(256 + HIDDEN.indexOf(b)),
);
const byteOf: ReadonlyMap<string, number> = new Map(charOf.map((c, b) => [c, b]));

/** The 256 symbols in the order of CLIP's vocabulary: visible bytes first. */
export const BYTE_SYMBOLS: readonly string[] = [...VISIBLE, ...HIDDEN].map((b) => charOf[b]!);

/** Text → its UTF-8 bytes as symbols, one character each. */
export const toByteSymbols = (text: string): string =>
  Array.from(new TextEncoder().encode(text), (b) => charOf[b]!).join("");

/** Symbols → text; broken UTF-8 becomes U+FFFD, and text that is not made of symbols stays as it is. */
export function fromByteSymbols(symbols: string): string {
  const bytes = Array.from(symbols, (c) => byteOf.get(c));
  if (bytes.includes(undefined)) return symbols;
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(bytes as number[]));
}

/** CLIP's own tokenizer, for checkpoints that come without one. */
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { END_OF_WORD } from "./bpe.ts";
import { BYTE_SYMBOLS } from "./bytes.ts";
import { CLIPTokenizer, type SpecialToken } from "./clip.ts";

const MERGES = new URL("../../assets/clip-merges.txt.gz", import.meta.url);

/**
 * The tokenizer of Stable Diffusion 1.x and 2.x: 49,408 tokens, 77 places, from the merges in assets/.
 * @param pad what fills up a prompt: "<|endoftext|>" in 1.x, "!" in 2.x
 */
export function openaiCLIPTokenizer(pad: "<|endoftext|>" | "!" = "<|endoftext|>"): CLIPTokenizer {
  const merges = gunzipSync(readFileSync(MERGES)).toString("utf8").trimEnd().split("\n");
  const tokens = [
    ...BYTE_SYMBOLS,
    ...BYTE_SYMBOLS.map((s) => s + END_OF_WORD),
    ...merges.map((m) => m.replace(" ", "")),
    "<|startoftext|>",
    "<|endoftext|>",
  ];
  const vocab = Object.fromEntries(tokens.map((token, id) => [token, id]));
  // how their special tokens are looked for, by Stable Diffusion 1's own files
  const token = (content: string): SpecialToken => ({ content, normalized: true });
  const [bos, eos] = [token("<|startoftext|>"), token("<|endoftext|>")];
  return new CLIPTokenizer({
    ...{ vocab, merges, bos, eos, unk: eos, modelMaxLength: 77 },
    pad: { content: pad, normalized: false },
  });
}

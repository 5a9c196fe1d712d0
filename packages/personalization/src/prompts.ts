/** Prompts with the placeholder, as token ids and a mask. */

import type { CLIPTokenizer, StableDiffusionModel } from "@likeness/diffusion";
import { LikenessError } from "@likeness/engine";

export const PLACEHOLDER = "<S*>";

/** The neutral object templates of Textual Inversion (rinongal/textual_inversion, imagenet_templates_small). */
export const OBJECT_TEMPLATES: readonly string[] = [
  "a photo of a *",
  "a rendering of a *",
  "a cropped photo of the *",
  "the photo of a *",
  "a photo of a clean *",
  "a photo of a dirty *",
  "a dark photo of the *",
  "a photo of my *",
  "a photo of the cool *",
  "a close-up photo of a *",
  "a bright photo of the *",
  "a cropped photo of a *",
  "a photo of the *",
  "a good photo of the *",
  "a photo of one *",
  "a close-up photo of the *",
  "a rendition of the *",
  "a photo of the clean *",
  "a rendition of a *",
  "a photo of a nice *",
  "a good photo of a *",
  "a photo of the nice *",
  "a photo of the small *",
  "a photo of the weird *",
  "a photo of the large *",
  "a photo of a cool *",
  "a photo of a small *",
].map((t) => t.replace("*", PLACEHOLDER));

export interface PlaceholderFeeds {
  /** (n·L): ids, with `stand` at the placeholder. */
  readonly ids: Int32Array;
  /** (n·L): 1 at the placeholder. */
  readonly mask: Float32Array;
}

/**
 * Tokenizes prompts; `token` may be any spelling of the placeholder. Prompts without it get an empty mask.
 * @throws LikenessError if a prompt has it, but after the last token that the model reads
 */
export function placeholderFeeds(
  tokenizer: CLIPTokenizer,
  prompts: readonly string[],
  token: string,
  stand: number,
): PlaceholderFeeds {
  const id = placeholderId(tokenizer, token);
  const length = tokenizer.modelMaxLength;
  const ids = new Int32Array(prompts.length * length);
  const mask = new Float32Array(prompts.length * length);
  for (const [n, prompt] of prompts.entries()) {
    const { inputIds } = tokenizer.encode(prompt);
    if (prompt.includes(token) && !inputIds.includes(id))
      throw new LikenessError("E_PROMPT", {
        what: "prompt",
        needed: `${token} among the ${length} tokens that the model reads`,
        found: "it after them",
        next: "Shorten the prompt, or name the subject earlier.",
      });
    for (const [i, t] of inputIds.entries()) {
      ids[n * length + i] = t === id ? stand : t;
      mask[n * length + i] = t === id ? 1 : 0;
    }
  }
  return { ids, mask };
}

const known = new WeakMap<CLIPTokenizer, Map<string, number>>();

/** The id of a placeholder, added to the tokenizer the first time. */
export function placeholderId(tokenizer: CLIPTokenizer, token: string): number {
  const ids = known.get(tokenizer) ?? new Map<string, number>();
  known.set(tokenizer, ids);
  const id = ids.get(token) ?? tokenizer.addToken(token);
  ids.set(token, id);
  return id;
}

/** @throws LikenessError if the prompt lacks the concept's token */
export function expectToken(prompt: string, token: string): void {
  if (!prompt.includes(token))
    throw new LikenessError("E_PROMPT", {
      what: "prompt",
      needed: `the concept's token ${token}`,
      found: JSON.stringify(prompt),
      next: `Write it where the subject stands, as in "a photo of ${token} on the beach".`,
    });
}

/** The id of a word; of several tokens, the last, which carries the meaning in CLIP's causal reading. */
export function wordId({ tokenizer }: Pick<StableDiffusionModel, "tokenizer">, word: string): number {
  return tokenizer.tokenize(word).at(-1) ?? tokenizer.eosId;
}

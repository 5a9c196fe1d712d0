/** A base model with LoRAs and learned tokens: another view of the same weights, nothing is patched. */
import { concat, constant, LikenessError, slice, view, type Weights, withLowRank } from "@likeness/engine";
import type { StableDiffusionModel } from "../loading.ts";
import { tokenTable } from "../models/clip-text.ts";
import type { CLIPTokenizer } from "../tokenizers/index.ts";
import type { TokenVectors } from "./read-embedding.ts";
import type { Lora } from "./read-lora.ts";

export interface Adapters {
  /** Their changes add up. */
  readonly loras?: readonly Lora[];
  /** Tokens beside those that the LoRAs carry. */
  readonly embeddings?: readonly TokenVectors[];
}

/**
 * The model with LoRAs on UNet and text encoder, and with learned tokens in tokenizer and token table. A token of n
 * vectors takes n places in a prompt, as with diffusers' <t> <t>_1 <t>_2. The model that is given stays as it is.
 * @throws LikenessError E_EMBEDDING if a token is a word of the model already, or comes twice
 */
export function withAdapters(
  model: StableDiffusionModel,
  { loras = [], embeddings = [] }: Adapters,
): StableDiffusionModel {
  const changed = (base: Weights, part: "unet" | "textEncoder"): Weights =>
    loras.reduce((weights, lora) => withLowRank(weights, lora[part]), base);
  const text = { ...model.textEncoder, weights: changed(model.textEncoder.weights, "textEncoder") };
  const learned = [...loras.flatMap((l) => l.embeddings), ...embeddings];
  return {
    ...model,
    unet: { ...model.unet, weights: changed(model.unet.weights, "unet") },
    ...(learned.length ? withTokens(text, model.tokenizer, learned) : { textEncoder: text }),
  };
}

const TABLE = "text_model.embeddings.token_embedding.weight";

/** A longer token table, and a tokenizer that knows its new rows. */
function withTokens(
  { weights, config, files }: StableDiffusionModel["textEncoder"],
  plain: CLIPTokenizer,
  learned: readonly TokenVectors[],
): Pick<StableDiffusionModel, "textEncoder" | "tokenizer"> {
  const tokenizer = plain.copy();
  for (const { token, count, path } of learned)
    try {
      tokenizer.addToken(token, count);
    } catch (error) {
      const next = "Give it another word: --embedding FILE:TOKEN.";
      const found = `${JSON.stringify(token)}: ${(error as Error).message.includes("already") ? "there is one" : "none"}`;
      throw new LikenessError("E_EMBEDDING", { what: "token", where: path, needed: "a new word", found, next });
    }
  const rows = learned.reduce((n, { count }) => n + count, 0);
  // new ids follow the tokenizer's own, whether the table ends there, has rows to spare or lacks some
  const first = tokenizer.id(learned[0]!.token);
  const gap = Math.max(0, first - config.vocab_size);
  const more = new Float32Array((gap + rows) * config.hidden_size);
  let at = gap * config.hidden_size;
  for (const { vectors } of learned) {
    more.set(vectors, at);
    at += vectors.length;
  }
  const words = slice(tokenTable(weights, config), [0], [Math.min(first, config.vocab_size)], [0]);
  const table = concat([words, constant(more, [gap + rows, config.hidden_size])], 0);
  const longer = view({
    get: (key, shape, init) => (key === TABLE ? table : weights.get(key, shape, init)),
    has: (key) => weights.has(key),
    lowRank: (key) => weights.lowRank(key),
  });
  const textEncoder = { config: { ...config, vocab_size: first + rows }, files, weights: longer };
  return { textEncoder, tokenizer };
}

/** One model of a pipeline: what it is like and where its weights come from. */
import { type FileWeights, type KeyMap, openWeights, readSafetensorsHeader, type Weights } from "@likeness/engine";
import { oldAttentionKeys } from "../models/autoencoder-kl.ts";

export interface Component<Config> {
  readonly config: Config;
  readonly weights: Weights;
  readonly files: FileWeights;
}

export function component<C>(config: C, paths: readonly string[], map: KeyMap | undefined): Component<C> {
  const files = openWeights(paths, map);
  return { config, files, weights: files.weights() };
}

/** The files that components are in, one after the other; a model may lack some. */
export const pathsOf = (...parts: readonly (Pick<Component<unknown>, "files"> | undefined)[]): string[] =>
  parts.flatMap((part) => part?.files.files.map((f) => f.path) ?? []);

/** Spellings of other writers: a key that gives one away, and how today's keys are stored there. */
const DIALECTS: readonly { readonly mark: string; locate(key: string): string }[] = [
  { mark: "encoder.mid_block.attentions.0.query.weight", locate: oldAttentionKeys }, // diffusers' autoencoder, to 2023
  // transformers 5, for a tower on its own
  { mark: "embeddings.token_embedding.weight", locate: (key) => key.replace(/^text_model\./, "") },
  { mark: "embeddings.patch_embedding.weight", locate: (key) => key.replace(/^vision_model\./, "") },
];

/** How files of diffusers and transformers spell their keys, if not as models ask for them. */
export function dialectOf(paths: readonly string[]): KeyMap | undefined {
  const headers = paths.map(readSafetensorsHeader);
  return DIALECTS.find(({ mark }) => headers.some((h) => h.tensors.has(mark)));
}

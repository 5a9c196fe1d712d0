/**
 * Weights that are no numbers. A model of 4 GB isn't read through at its start; when a result is no number, or when
 * `likeness inspect --check` asks, all of its weights are, and the first bad one is named.
 */
import { type BadValue, badValues, LikenessError } from "@likeness/engine";
import type { Component } from "./component.ts";
import type { StableDiffusionModel } from "./model.ts";

type Weighed = Pick<Component<unknown>, "files">;

/** The first bad value of each tensor of the components. */
export function* badWeights(parts: readonly Weighed[]): Generator<BadValue & { readonly file: string }> {
  for (const { files } of parts) {
    const own = new Set(files.keys());
    for (const header of files.files)
      for (const bad of badValues(header, (key) => own.has(key))) yield { ...bad, file: header.path };
  }
}

/**
 * Checks a result of a model.
 * @param what names the result
 * @throws LikenessError E_WEIGHT_VALUE that names a weight which is no number, E_NOT_FINITE if all of them are numbers
 */
export function expectFinite(
  values: ArrayLike<number>,
  what: string,
  { unet, textEncoder, vae, imageEncoder }: Pick<StableDiffusionModel, "unet" | "textEncoder" | "vae" | "imageEncoder">,
): void {
  const at = firstNonFinite(values);
  if (at < 0) return;
  const [bad] = badWeights([unet, textEncoder, vae, ...(imageEncoder ? [imageEncoder] : [])]);
  if (bad) throw badWeight(bad);
  throw new LikenessError("E_NOT_FINITE", {
    what,
    needed: "numbers",
    found: String(values[at]),
    next: "All weights of the base model are numbers: look at the concept, LoRA and embedding files, at the learning rate and at the guidance scale.",
  });
}

/** What is said about a weight that is no number. */
export const badWeight = ({ key, file, index, value }: BadValue & { readonly file: string }): LikenessError =>
  new LikenessError("E_WEIGHT_VALUE", {
    what: JSON.stringify(key),
    where: file,
    needed: "numbers",
    found: `${value} at place ${index}`,
    next: "The file is damaged, or a merge or a conversion to float16 overflowed: take another copy.",
  });

function firstNonFinite(values: ArrayLike<number>): number {
  for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i])) return i;
  return -1;
}

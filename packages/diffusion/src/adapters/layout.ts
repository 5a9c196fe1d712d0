/** What a LoRA file's layout says: which keys belong to which layer of the base model. */
import type { LoraModule } from "./lora-modules.ts";

export type LoraFormat = "diffusers" | "kohya" | "cloneofsimo";

/** What one key of a LoRA file is. */
export type LoraKey =
  /** A factor or the alpha of the layer that the layout calls `name`. */
  | { readonly role: "down" | "up" | "alpha"; readonly name: string }
  /** A learned token that travels with the LoRA. */
  | { readonly role: "embedding"; readonly token: string }
  /** Something that changes a layer in a way that isn't implemented here, in words. */
  | { readonly role: "unsupported"; readonly kind: string };

export interface Layout {
  readonly format: LoraFormat;
  /** What a key is, or undefined for one that this layout doesn't have. */
  parse(key: string, metadata: Readonly<Record<string, string>>): LoraKey | undefined;
  /** All names that this layout has for the layers of a base. */
  names(modules: readonly LoraModule[]): ReadonlyMap<string, LoraModule>;
}

/** Ends of keys of other kinds of adapters, which a low-rank product can't stand in for. Names as in LyCORIS and PEFT. */
const OTHER_KINDS: readonly (readonly [end: RegExp, kind: string])[] = [
  [/\.(dora_scale|lora_magnitude_vector(\.weight)?)$/, "DoRA"],
  [/\.hada_(w[12]_[ab]|t[12])$/, "LoHa"],
  [/\.lokr_(w[12]|w[12]_[ab]|t[12])$/, "LoKr"],
  [/\.(lora_)?mid(\.weight)?$/, "a Tucker-decomposed convolution (lora_mid)"],
  [/\.(oft_diag|oft_blocks|oft_R\.weight|rescale)$/, "OFT"],
  [/\.[ab][12]\.weight$/, "GLoRA"],
  [/\.(diff|diff_b|on_input|w_norm|b_norm)$/, "full weights (LyCORIS)"],
  [/\.lora_(B|up)\.bias$/, "a bias of its own (lora_bias)"],
];

/** The kind of adapter that a key gives away, if it is one that isn't implemented. */
export const otherKind = (key: string): string | undefined => OTHER_KINDS.find(([end]) => end.test(key))?.[1];

/** transformers 5 writes a text encoder's modules without "text_model.", everybody else with it. */
export const withoutTextModel = (path: string): string => path.replace(/^text_model\./, "");

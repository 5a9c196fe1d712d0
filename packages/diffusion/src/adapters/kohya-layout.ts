/** LoRA files of kohya's sd-scripts, as A1111 and ComfyUI read them (method.md 4.2). */
import { type Layout, otherKind, withoutTextModel } from "./layout.ts";
import type { LoraComponent, LoraModule } from "./lora-modules.ts";

const PREFIXES: Readonly<Record<LoraComponent, readonly string[]>> = {
  unet: ["lora_unet_"],
  text_encoder: ["lora_te_", "lora_te1_"],
};

/** The name of a layer in kohya's keys: "lora_unet_mid_block_attentions_0_…_to_q". */
export const kohyaName = (component: LoraComponent, path: string): string =>
  PREFIXES[component][0]! + path.replaceAll(".", "_");

/** Where A1111 and ComfyUI look for an embedding inside a LoRA file. */
export const bundleKey = (token: string): string => `bundle_emb.${token}.string_to_param.*`;

const KEY = /^(lora_(?:unet|te\d?)_[^.]+)\.(?:(lora_down|lora_A)\.weight|(lora_up|lora_B)\.weight|(alpha))$/;
const BUNDLE = /^bundle_emb\.(.+)\.(?:string_to_param\.\*|clip_l)$/;

export const kohyaLayout: Layout = {
  format: "kohya",
  parse: (key) => {
    const token = BUNDLE.exec(key)?.[1];
    if (token !== undefined) return { role: "embedding", token };
    const kind = otherKind(key);
    if (kind) return { role: "unsupported", kind };
    const [, name, down, up] = KEY.exec(key) ?? [];
    return name === undefined ? undefined : { role: down ? "down" : up ? "up" : "alpha", name };
  },
  names: (modules) => new Map(modules.flatMap((m) => spellings(m).map((name) => [name, m] as const))),
};

const spellings = ({ component, path }: LoraModule): string[] =>
  PREFIXES[component].flatMap((prefix) => [path, withoutTextModel(path)].map((p) => prefix + p.replaceAll(".", "_")));

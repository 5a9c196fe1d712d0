/** LoRA files of diffusers and PEFT, in all spellings that they have had (method.md 4.1). */
import { type Layout, otherKind, withoutTextModel } from "./layout.ts";
import type { LoraModule } from "./lora-modules.ts";

/** The end of a key → which factor it is. */
const ROLES: readonly (readonly [end: RegExp, role: "down" | "up" | "alpha"])[] = [
  [/\.lora_A(\.[^.]+)?\.weight$/, "down"], // PEFT; the adapter's name may stand in it
  [/\.lora_B(\.[^.]+)?\.weight$/, "up"],
  [/\.lora(_linear_layer)?\.down\.weight$/, "down"], // diffusers, UNet and text encoder
  [/\.lora(_linear_layer)?\.up\.weight$/, "up"],
  [/\.lora_down\.weight$/, "down"], // ComfyUI
  [/\.lora_up\.weight$/, "up"],
  [/_lora\.down\.weight$/, "down"], // diffusers until 0.20: attention processors
  [/_lora\.up\.weight$/, "up"],
  [/\.alpha$/, "alpha"],
];

/** Attention projections as the first diffusers files called those of the text encoder. */
const OLD_TEXT: Readonly<Record<string, string>> = {
  to_q: "q_proj",
  to_k: "k_proj",
  to_v: "v_proj",
  to_out: "out_proj",
};

export const diffusersLayout: Layout = {
  format: "diffusers",
  parse: (key) => {
    const kind = otherKind(key);
    if (kind) return { role: "unsupported", kind };
    const found = ROLES.find(([end]) => end.test(key));
    return found && { role: found[1], name: moduleName(key.replace(found[0], "")) };
  },
  names: (modules) => new Map(modules.flatMap((m) => spellings(m).map((name) => [name, m] as const))),
};

function moduleName(start: string): string {
  const name = start.replace(/^base_model\.model\./, "").replace(".processor.", ".");
  if (!name.includes(".self_attn.")) return name.replace(/\.to_out$/, ".to_out.0");
  return name.replace(/\.(to_q|to_k|to_v|to_out)$/, (_all, old: string) => `.${OLD_TEXT[old]}`);
}

/** With the part's name in front, and without, as in files of one part alone. */
const spellings = ({ component, path }: LoraModule): string[] =>
  [path, withoutTextModel(path)].flatMap((p) => [`${component}.${p}`, p]);

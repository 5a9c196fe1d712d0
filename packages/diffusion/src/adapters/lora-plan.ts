/** How a LoRA file's keys fall on the layers of a base model. Nothing is refused here; see read-lora.ts. */
import type { SafetensorsHeader } from "@likeness/engine";
import { cloneofsimoLayout } from "./cloneofsimo-layout.ts";
import { diffusersLayout } from "./diffusers-layout.ts";
import { kohyaLayout } from "./kohya-layout.ts";
import type { Layout } from "./layout.ts";
import { familyOf, type LoraModule } from "./lora-modules.ts";

export const LAYOUTS: readonly Layout[] = [kohyaLayout, cloneofsimoLayout, diffusersLayout];

/** The keys of one layer's change. */
export interface FactorKeys {
  /** What the layout calls the layer. */
  readonly name: string;
  readonly down?: string;
  readonly up?: string;
  readonly alpha?: string;
}

export interface MatchedFactors extends FactorKeys {
  readonly module: LoraModule;
  readonly down: string;
  readonly up: string;
  readonly rank: number;
}

export interface LoraPlan {
  readonly layout: Layout;
  readonly matched: readonly MatchedFactors[];
  /** Layers that the base has, but in another size. */
  readonly misfits: readonly MatchedFactors[];
  /** Layers that the base doesn't have. */
  readonly strangers: readonly FactorKeys[];
  /** Layers of which a factor is missing. */
  readonly halves: readonly FactorKeys[];
  readonly unsupported: readonly { readonly key: string; readonly kind: string }[];
  /** Learned tokens beside the factors. */
  readonly tokens: readonly { readonly key: string; readonly token: string }[];
  /** Keys that the layout doesn't have. */
  readonly unknown: readonly string[];
  /** Which model the file was made for, where its keys or shapes tell. */
  readonly family: string | undefined;
  /** The width of the text states that it was made for, where a shape tells. */
  readonly textWidth: number | undefined;
}

/** @returns undefined if no layout knows a key of the file */
export function planLora(header: SafetensorsHeader, modules: readonly LoraModule[]): LoraPlan | undefined {
  const keys = [...header.tensors.keys()];
  const known = (layout: Layout): number => keys.filter((k) => layout.parse(k, header.metadata)).length;
  const [layout, count] = LAYOUTS.map((l) => [l, known(l)] as const).reduce((a, b) => (b[1] > a[1] ? b : a));
  if (count === 0) return undefined;
  const groups = new Map<string, { name: string } & Record<string, string>>();
  const rest = { unsupported: [] as { key: string; kind: string }[], tokens: [] as { key: string; token: string }[] };
  const unknown: string[] = [];
  for (const key of keys) {
    const found = layout.parse(key, header.metadata);
    if (!found) unknown.push(key);
    else if (found.role === "unsupported") rest.unsupported.push({ key, kind: found.kind });
    else if (found.role === "embedding") rest.tokens.push({ key, token: found.token });
    else groups.set(found.name, { ...(groups.get(found.name) ?? { name: found.name }), [found.role]: key });
  }
  return { layout, ...rest, unknown, ...sorted(header, layout, modules, [...groups.values()]), ...family(header) };
}

function sorted(
  { tensors }: SafetensorsHeader,
  layout: Layout,
  modules: readonly LoraModule[],
  groups: readonly FactorKeys[],
): Pick<LoraPlan, "matched" | "misfits" | "strangers" | "halves"> {
  const names = layout.names(modules);
  const plan = { matched: [] as MatchedFactors[], misfits: [] as MatchedFactors[] };
  const [strangers, halves]: [FactorKeys[], FactorKeys[]] = [[], []];
  for (const group of groups) {
    const { name, down, up } = group;
    const module = names.get(name);
    if (!module) strangers.push(group);
    else if (down === undefined || up === undefined) halves.push(group);
    else {
      const shapes = [tensors.get(down)!.shape, tensors.get(up)!.shape] as const;
      const rank = shapes[0][0] ?? 0;
      (fits(module, ...shapes) ? plan.matched : plan.misfits).push({ ...group, module, down, up, rank });
    }
  }
  return { ...plan, strangers, halves };
}

/** (n, m, 1, 1) is the same as (n, m): a 1×1 convolution is a linear layer. */
const squeezed = (shape: readonly number[]): string => shape.join().replace(/^(\d+,\d+),1,1$/, "$1");

function fits({ shape: [out, ...rest] }: LoraModule, down: readonly number[], up: readonly number[]): boolean {
  const rank = down[0] ?? 0;
  return rank > 0 && squeezed(down) === squeezed([rank, ...rest]) && squeezed(up) === `${out},${rank}`;
}

/** Keys that other families of models have. */
const FOREIGN: readonly (readonly [key: RegExp, family: string])[] = [
  [/^(lora_te2_|text_encoder_2\.)|add_embedding|label_emb|^clip_g/, "SDXL"],
  [/^(lora_te3_|text_encoder_3\.)|joint_blocks/, "SD 3"],
  [
    /^lora_unet_(double|single)_blocks|^(transformer|diffusion_model\.(double|single)_blocks)\b/,
    "a transformer model such as Flux",
  ],
];

function family({ tensors }: SafetensorsHeader): Pick<LoraPlan, "family" | "textWidth"> {
  const cross = [...tensors].find(
    ([k]) => k === "unet:6:down" || (/attn2[._](processor\.)?to_[kv]/.test(k) && /down\.weight$|lora_A/.test(k)),
  );
  const text = [...tensors].find(([k]) =>
    /^text_encoder:0:down$|self_attn.*(lora_A|down)\.(default\.)?weight$/.test(k),
  );
  const textWidth = (cross ?? text)?.[1].shape[1];
  const foreign = FOREIGN.find(([mark]) => [...tensors.keys()].some((k) => mark.test(k)));
  return { family: foreign?.[1] ?? (textWidth === undefined ? undefined : familyOf(textWidth)), textWidth };
}

/** LoRA files of cloneofsimo/lora, whose keys are numbers (method.md 4.4). */
import type { Layout } from "./layout.ts";
import type { LoraModule } from "./lora-modules.ts";

/** Layers of one transformer block in the order of diffusers 0.11 to 0.14, where the feed-forward stood before attn2. */
const BLOCK: readonly string[] = [
  ...["attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0"],
  "ff.net.0.proj",
  ...["attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"],
];
const TEXT: readonly string[] = ["k_proj", "v_proj", "q_proj", "out_proj"];

/**
 * The numbered layers: of the UNet 9 of each transformer block, down blocks first, then up blocks, the middle block
 * last (144 in SD 1.x and 2.x); of the text encoder k, v, q, out of each layer (48 in SD 1.x).
 */
export function cloneofsimoOrder(modules: readonly LoraModule[]): {
  readonly unet: readonly LoraModule[];
  readonly text_encoder: readonly LoraModule[];
} {
  const byPath = new Map(modules.map((m) => [`${m.component} ${m.path}`, m]));
  const order = (component: string, end: string, rest: readonly string[]): LoraModule[] =>
    modules
      .filter((m) => m.component === component && m.path.endsWith(end))
      .flatMap(({ path }) => rest.map((r) => byPath.get(`${component} ${path.slice(0, -end.length)}.${r}`)!));
  const unet = order("unet", ".attn1.to_q", BLOCK);
  const isMiddle = ({ path }: LoraModule): boolean => path.startsWith("mid_block.");
  return {
    unet: [...unet.filter((m) => !isMiddle(m)), ...unet.filter(isMiddle)],
    text_encoder: order(
      "text_encoder",
      ".self_attn.q_proj",
      TEXT.map((t) => `self_attn.${t}`),
    ),
  };
}

/** What a token's metadata says. */
export const EMBED_FLAG = "<embed>";
const KEY = /^((?:unet|text_encoder):\d+):(up|down)$/;

export const cloneofsimoLayout: Layout = {
  format: "cloneofsimo",
  parse: (key, metadata) => {
    const [, name, role] = KEY.exec(key) ?? [];
    if (name !== undefined) return { role: role as "up" | "down", name };
    return metadata[key] === EMBED_FLAG ? { role: "embedding", token: key } : undefined;
  },
  names: (modules) => {
    const { unet, text_encoder } = cloneofsimoOrder(modules);
    return new Map([
      ...unet.map((m, i) => [`unet:${i}`, m] as const),
      ...text_encoder.map((m, i) => [`text_encoder:${i}`, m] as const),
    ]);
  },
};

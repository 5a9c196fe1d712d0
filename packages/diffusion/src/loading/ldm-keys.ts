/**
 * Keys of the original ("LDM") layout of Stable Diffusion checkpoints, read under diffusers' names: a view, nothing is
 * converted or copied. Layout: CompVis/stable-diffusion, ldm/modules/diffusionmodules.
 */
import type { KeyMap, Stored } from "@likeness/engine";
import type { CLIPTextConfig } from "../config/clip.ts";
import type { UNet2DConditionConfig } from "../config/unet.ts";
import type { AutoencoderKLConfig } from "../config/vae.ts";
import { openClipKeys } from "./open-clip.ts";

export const LDM_UNET = "model.diffusion_model.";
export const LDM_VAE = "first_stage_model.";
/** CLIP of Stable Diffusion 1, in transformers' keys. */
export const LDM_CLIP = "cond_stage_model.transformer.";
/** OpenCLIP of Stable Diffusion 2. */
export const LDM_OPEN_CLIP = "cond_stage_model.model.";

type Names = readonly (readonly [ours: string, theirs: string])[];

const renamed = (key: string, names: Names): string => {
  const found = names.find(([ours]) => key === ours || key.startsWith(`${ours}.`));
  return found ? found[1] + key.slice(found[0].length) : key;
};

const UNET_ENDS: Names = [
  ["time_embedding.linear_1", "time_embed.0"],
  ["time_embedding.linear_2", "time_embed.2"],
  ["conv_in", "input_blocks.0.0"],
  ["conv_norm_out", "out.0"],
  ["conv_out", "out.2"],
];
const UNET_RESNET: Names = [
  ["norm1", "in_layers.0"],
  ["conv1", "in_layers.2"],
  ["time_emb_proj", "emb_layers.1"],
  ["norm2", "out_layers.0"],
  ["conv2", "out_layers.3"],
  ["conv_shortcut", "skip_connection"],
];

/** The UNet: one flat list of blocks down and one up, where diffusers groups them by level. */
export function ldmUNetKeys({ layers_per_block: n, up_block_types }: UNet2DConditionConfig): KeyMap {
  const inBlock = (at: string, kind: string, rest: string): string =>
    kind === "resnets" ? `${at}.0.${renamed(rest, UNET_RESNET)}` : `${at}.1.${rest}`;
  const locate = (key: string): string => {
    const [, side, block, kind, layer, rest] =
      /^(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)$/.exec(key) ?? [];
    if (side && kind && rest) {
      const first = Number(block) * (n + 1);
      if (kind === "downsamplers") return `input_blocks.${first + n + 1}.0.${renamed(rest, [["conv", "op"]])}`;
      if (kind === "upsamplers") {
        const place = up_block_types[Number(block)] === "CrossAttnUpBlock2D" ? 2 : 1;
        return `output_blocks.${first + n}.${place}.${rest}`;
      }
      const j = first + Number(layer);
      return inBlock(side === "down" ? `input_blocks.${j + 1}` : `output_blocks.${j}`, kind, rest);
    }
    const [, part, i, below] = /^mid_block\.(resnets|attentions)\.(\d+)\.(.+)$/.exec(key) ?? [];
    if (below)
      return part === "attentions"
        ? `middle_block.1.${below}`
        : `middle_block.${2 * Number(i)}.${renamed(below, UNET_RESNET)}`;
    return renamed(key, UNET_ENDS);
  };
  return { locate: (key) => LDM_UNET + locate(key), owns: (key) => key.startsWith(LDM_UNET) };
}

const VAE_ATTENTION: Names = [
  ["group_norm", "norm"],
  ["to_q", "q"],
  ["to_k", "k"],
  ["to_v", "v"],
  ["to_out.0", "proj_out"],
];
const VAE_RESNET: Names = [["conv_shortcut", "nin_shortcut"]];
const VAE_ENDS: Names = [["conv_norm_out", "norm_out"]];

/**
 * The autoencoder: levels of the decoder are counted from the finest, attention matrices are 1×1 convolutions. Files of
 * some converters have diffusers' names in the attention.
 */
export function ldmVaeKeys({ block_out_channels: widths }: AutoencoderKLConfig, has: (key: string) => boolean): KeyMap {
  const attention = has(`${LDM_VAE}decoder.mid.attn_1.to_q.weight`) ? VAE_ATTENTION.slice(0, 1) : VAE_ATTENTION;
  const locate = (key: string): Stored => {
    const [, side, rest] = /^(encoder|decoder)\.(.+)$/.exec(key) ?? [];
    if (!side || !rest) return { key };
    const [, level, kind, i, below] =
      /^(?:down|up)_blocks\.(\d+)\.(resnets|downsamplers|upsamplers)\.(\d+)\.(.+)$/.exec(rest) ?? [];
    if (kind && below) {
      const at = side === "encoder" ? `encoder.down.${level}` : `decoder.up.${widths.length - 1 - Number(level)}`;
      if (kind === "resnets") return { key: `${at}.block.${i}.${renamed(below, VAE_RESNET)}` };
      return { key: `${at}.${kind === "downsamplers" ? "downsample" : "upsample"}.${below}` };
    }
    const [, part, j, inner] = /^mid_block\.(resnets|attentions)\.(\d+)\.(.+)$/.exec(rest) ?? [];
    if (part === "attentions") return { key: `${side}.mid.attn_1.${renamed(inner!, attention)}`, flat: true };
    if (inner) return { key: `${side}.mid.block_${Number(j) + 1}.${renamed(inner, VAE_RESNET)}` };
    return { key: `${side}.${renamed(rest, VAE_ENDS)}` };
  };
  return {
    locate: (key) => {
      const stored = locate(key);
      return { ...stored, key: LDM_VAE + stored.key };
    },
    owns: (key) => key.startsWith(LDM_VAE) && !key.startsWith(`${LDM_VAE}loss.`),
  };
}

/** CLIP's text tower: transformers' keys below a prefix; some merged files lack its "text_model.". */
export const ldmClipKeys = (has: (key: string) => boolean): KeyMap => {
  const bare = has(`${LDM_CLIP}embeddings.token_embedding.weight`);
  return {
    locate: (key) => LDM_CLIP + (bare ? key.replace(/^text_model\./, "") : key),
    owns: (key) => key.startsWith(LDM_CLIP),
  };
};

/** OpenCLIP's text tower. The file has its last layer and its projection, which Stable Diffusion 2 doesn't use. */
export const ldmOpenClipKeys = ({ num_hidden_layers: n }: CLIPTextConfig): KeyMap => ({
  ...openClipKeys(LDM_OPEN_CLIP),
  owns: (key) => {
    if (!key.startsWith(LDM_OPEN_CLIP)) return false;
    const name = key.slice(LDM_OPEN_CLIP.length);
    const layer = /^transformer\.resblocks\.(\d+)\./.exec(name)?.[1];
    return layer === undefined ? !/^(text_projection|logit_scale|attn_mask)$/.test(name) : Number(layer) < n;
  },
});

/** The layers of a base model that a LoRA can change. */
import { input, type Shape, size, type Tensor, variable, view, type Weights } from "@likeness/engine";
import type { CLIPTextConfig } from "../config/clip.ts";
import type { UNet2DConditionConfig } from "../config/unet.ts";
import { clipTextModel } from "../models/clip-text.ts";
import { unet2DConditionModel } from "../models/unet-2d-condition.ts";

/** diffusers' names of the two parts that a LoRA can change. */
export type LoraComponent = "unet" | "text_encoder";

export interface LoraModule {
  readonly component: LoraComponent;
  /** Module path in diffusers' and transformers' spelling; the weight adds ".weight". */
  readonly path: string;
  /** Shape of the weight: (out, in) of a linear layer, (out, in, kh, kw) of a convolution. */
  readonly shape: Shape;
}

/** What a base model must tell so that its layers are known; no weights are needed. */
export interface LoraBase {
  readonly unet: { readonly config: UNet2DConditionConfig };
  readonly textEncoder: { readonly config: CLIPTextConfig };
}

/**
 * All linear layers and convolutions of UNet and text encoder, in the order of their forward passes. They are found by
 * building both graphs on a view that notes which weights are asked for a low-rank change: whatever is in this list is
 * changed when a LoRA names it.
 */
export function loraModules({ unet, textEncoder }: LoraBase): LoraModule[] {
  const text = textEncoder.config;
  return [
    ...unetModules(unet.config),
    ...trace("text_encoder", (w) =>
      clipTextModel(w, text, { inputsEmbeds: input("embeds", [1, 1, text.hidden_size]) }),
    ),
  ];
}

function unetModules(config: UNet2DConditionConfig): LoraModule[] {
  const side = 2 ** config.block_out_channels.length;
  return trace("unet", (w) =>
    unet2DConditionModel(w, config, {
      sample: input("sample", [1, config.in_channels, side, side]),
      timestep: input("timestep", [1]),
      encoderHiddenStates: input("context", [1, 1, config.cross_attention_dim]),
    }),
  );
}

/** The 3x3 convolutions inside the UNet's ResNets, conv1 and conv2 of each: what LoCon changes beside attention. */
export const resnetConvolutions = ({ unet }: Pick<LoraBase, "unet">): LoraModule[] =>
  unetModules(unet.config).filter(({ path }) => /\.resnets\.\d+\.conv[12]$/.test(path));

function trace(component: LoraComponent, build: (w: Weights) => unknown): LoraModule[] {
  const shapes = new Map<string, Shape>();
  const asked = new Set<string>();
  const get = (key: string, shape: Shape): Tensor => {
    shapes.set(key, shape);
    return variable(key, shape);
  };
  const lowRank = (key: string): readonly never[] => {
    asked.add(key);
    return [];
  };
  build(view({ get, lowRank, has: () => true }));
  return [...asked].map((key) => ({ component, path: key.replace(/\.weight$/, ""), shape: shapes.get(key)! }));
}

/** Inputs of a layer: in of a linear one, in·kh·kw of a convolution. */
export const fanInOf = ({ shape }: LoraModule): number => size(shape.slice(1));

/** The width of the text states that the UNet reads, which tells families of base models apart. */
export const FAMILIES: Readonly<Record<number, string>> = { 768: "SD 1.x", 1024: "SD 2.x", 2048: "SDXL" };

/** "SD 1.x (text width 768)". */
export const familyOf = (width: number): string => `${FAMILIES[width] ?? "a base model"} (text width ${width})`;

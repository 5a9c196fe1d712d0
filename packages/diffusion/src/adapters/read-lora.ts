/** LoRA files of all layouts → low-rank changes by the base model's own weight keys, mapped from the file. */
import { statSync } from "node:fs";
import { join } from "node:path";
import {
  brief,
  constant,
  LikenessError,
  type LowRank,
  readFloats,
  readSafetensorsHeader,
  type SafetensorsHeader,
  type Shape,
  type Tensor,
  transpose,
  weight,
  weightRef,
} from "@likeness/engine";
import type { LoraFormat } from "./layout.ts";
import { familyOf, type LoraBase, loraModules } from "./lora-modules.ts";
import { type LoraPlan, type MatchedFactors, planLora } from "./lora-plan.ts";
import { peftScales } from "./peft-settings.ts";
import { expectNoPickle } from "./pickle.ts";
import { type TokenVectors, tokenVectors } from "./read-embedding.ts";

/** What became of the keys of a LoRA file; every key is in exactly one of the two lists. */
export interface LoraReport {
  readonly matched: readonly string[];
  readonly ignored: readonly { readonly key: string; readonly reason: string }[];
  /** Changed layers by part. */
  readonly layers: { readonly unet: number; readonly text_encoder: number };
  /** Ranks that occur, smallest first. */
  readonly ranks: readonly number[];
  /** All up factors are zero: the file changes no picture. */
  readonly zero: boolean;
}

export interface Lora {
  readonly path: string;
  readonly format: LoraFormat;
  /** By full key of the weight, e.g. "mid_block.attentions.0.proj_in.weight"; `scale` holds the file's alpha and yours. */
  readonly unet: ReadonlyMap<string, LowRank>;
  readonly textEncoder: ReadonlyMap<string, LowRank>;
  /** Learned tokens that the file carries. */
  readonly embeddings: readonly TokenVectors[];
  readonly report: LoraReport;
}

export interface LoraOptions {
  /** Factor on the whole change, as A1111's <lora:name:0.8> and diffusers' set_adapters. */
  readonly scale?: number;
}

/** The base model as far as a LoRA is concerned. */
export interface NamedLoraBase extends LoraBase {
  readonly name: string;
}

/**
 * Reads a LoRA of diffusers, PEFT (a file, or the folder that it saves), kohya or cloneofsimo for a base model.
 * @throws LikenessError E_LORA if it is none, damaged, of a kind that isn't implemented (DoRA, LoHa, LoKr…) or would
 *   change nothing; E_LORA_BASE if it was made for another base; SafetensorsError
 */
export function readLora(path: string, base: NamedLoraBase, { scale = 1 }: LoraOptions = {}): Lora {
  const header = readSafetensorsHeader(loraFile(path));
  const plan = planLora(header, loraModules(base));
  if (!plan) throw noLora(header);
  refusePlan(header, plan, base);
  const scales = peftScales(header);
  const changes = { unet: new Map<string, LowRank>(), text_encoder: new Map<string, LowRank>() };
  let zero = true;
  for (const factors of plan.matched) {
    const { module, alpha, rank, up, down } = factors;
    mostOf(header, down);
    if (mostOf(header, up) > 0) zero = false;
    const own = alpha === undefined ? scales(module, rank) : alphaOf(header, alpha, rank) / rank;
    changes[module.component].set(`${module.path}.weight`, lowRank(header, factors, scale * own));
  }
  const reasons = [
    ...plan.strangers.flatMap(({ name, ...keys }) =>
      Object.values(keys).map((key) => ({ key, reason: `${base.name} has no layer of this name` })),
    ),
    ...plan.unknown.map((key) => ({ key, reason: `not a key of ${plan.layout.format}'s layout` })),
  ];
  return {
    path,
    format: plan.layout.format,
    unet: changes.unet,
    textEncoder: changes.text_encoder,
    embeddings: plan.tokens.map(({ key, token }) => tokenVectors(header, key, token, base)),
    report: {
      matched: [
        ...plan.matched.flatMap(({ down, up, alpha }) => (alpha === undefined ? [down, up] : [down, up, alpha])),
        ...plan.tokens.map(({ key }) => key),
      ],
      ignored: reasons,
      layers: { unet: changes.unet.size, text_encoder: changes.text_encoder.size },
      ranks: [...new Set(plan.matched.map(({ rank }) => rank))].sort((a, b) => a - b),
      zero,
    },
  };
}

/** The file in a folder as PEFT or diffusers saves it. */
function loraFile(path: string): string {
  expectNoPickle("LoRA", path);
  const isFolder = statSync(path, { throwIfNoEntry: false })?.isDirectory();
  if (!isFolder) return path;
  const names = ["adapter_model.safetensors", "pytorch_lora_weights.safetensors"];
  const found = names.map((n) => join(path, n)).find((p) => statSync(p, { throwIfNoEntry: false })?.isFile());
  if (found) return found;
  throw new LikenessError("E_LORA", { what: "LoRA", where: path, needed: names.join(" or "), found: "neither" });
}

/** (in, r) and (r, out) of a linear layer, (r, in, kh, kw) and (out, r, 1, 1) of a convolution. */
function lowRank(header: SafetensorsHeader, { module, down, up, rank }: MatchedFactors, scale: number): LowRank {
  const [out, ...rest] = module.shape as [number, ...number[]];
  const a = mapped(header, down, [rank, ...rest]);
  const b = mapped(header, up, [out, rank, ...rest.slice(1).map(() => 1)]);
  return rest.length > 1 ? { a, b, scale } : { a: transpose(a, [1, 0]), b: transpose(b, [1, 0]), scale };
}

/** A factor where it lies in the file; old writers don't align their data, and such a factor is copied. */
function mapped(header: SafetensorsHeader, key: string, shape: Shape): Tensor {
  const { offset, dtype } = header.tensors.get(key)!;
  if (offset % (dtype === "F32" ? 4 : 2) !== 0) return constant(readFloats(header, key), shape);
  return weight({ ...weightRef(header, key), shape });
}

/** The largest absolute value. @throws LikenessError if a value is none, SafetensorsError for other dtypes */
function mostOf(header: SafetensorsHeader, key: string): number {
  const most = readFloats(header, key).reduce((m, x) => Math.max(m, Math.abs(x)), 0);
  if (Number.isFinite(most)) return most;
  return refuse("E_LORA", header.path, brief(key, 200), "finite values", "others", "The file is damaged.");
}

function alphaOf(header: SafetensorsHeader, key: string, rank: number): number {
  const values = readFloats(header, key);
  const [alpha] = values;
  if (values.length !== 1 || !Number.isFinite(alpha))
    return refuse("E_LORA", header.path, brief(key, 200), "one finite number", `${values.length} values`);
  return alpha || rank; // kohya: alpha 0 means alpha = rank
}

function refusePlan({ path, tensors }: SafetensorsHeader, plan: LoraPlan, base: NamedLoraBase): void {
  const { unsupported, matched, misfits, halves, strangers, family } = plan;
  const shape = (key: string): string => `(${tensors.get(key)!.shape.join(", ")})`;
  const kinds = [...new Set(unsupported.map(({ kind }) => kind))].join(", ");
  if (kinds)
    refuse(
      ...["E_LORA", path, "LoRA", "a plain LoRA (products of two factors)"],
      `${kinds} in ${unsupported.length} keys, first ${brief(unsupported[0]!.key, 200)}`,
      "Convert it to a plain LoRA, or use another.",
    );
  const own = familyOf(base.unet.config.cross_attention_dim);
  const [misfit] = misfits;
  if (misfit || (family && family !== own && !matched.length) || FAR.has(family ?? "")) {
    const made = family && family !== own ? `one for ${family}` : "one for another model";
    const why = misfit
      ? `: ${brief(misfit.down, 200)} ${shape(misfit.down)} and up ${shape(misfit.up)} don't fit (${misfit.module.shape.join(", ")})`
      : "";
    refuse("E_LORA_BASE", path, "LoRA", `one for ${base.name}, ${own}`, made + why, "Use it with its own base model.");
  }
  const [half] = halves;
  if (half) {
    const missing = half.down === undefined ? "down" : "up";
    const key = half.down ?? half.up ?? half.alpha!;
    refuse("E_LORA", path, brief(key, 200), `its ${missing} factor too`, "none", "The file is damaged.");
  }
  if (matched.length === 0) {
    const first = strangers[0] ? Object.values(strangers[0]).at(-1)! : (plan.unknown[0] ?? plan.tokens[0]?.key ?? "");
    const found = `none of them, but ${strangers.length || tensors.size} others such as ${brief(first, 200)}`;
    refuse("E_LORA", path, "LoRA", `layers of ${base.name}`, found, "It would change nothing with this model.");
  }
}

/** Families whose files have layers in common with SD 1.x and 2.x and still are for others. */
const FAR: ReadonlySet<string> = new Set(["SDXL", "SD 3", "a transformer model such as Flux"]);

function noLora({ path, tensors }: SafetensorsHeader): LikenessError {
  const [key = ""] = tensors.keys();
  const found = tensors.size === 0 ? "no tensors" : `keys such as ${brief(key, 200)}`;
  const next = tensors.size === 1 ? "A learned embedding goes with --embedding." : "See likeness inspect.";
  const needed = "LoRA keys of diffusers, PEFT, kohya or cloneofsimo";
  return new LikenessError("E_LORA", { what: "LoRA", where: path, needed, found, next });
}

function refuse(code: string, where: string, what: string, needed: string, found: string, next?: string): never {
  throw new LikenessError(code, { what, where, needed, found, ...(next && { next }) });
}

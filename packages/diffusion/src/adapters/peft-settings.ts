/** What PEFT keeps beside the factors: alpha and rank by layer. */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { brief, LikenessError, type SafetensorsHeader } from "@likeness/engine";
import { z } from "zod";
import { readJson } from "../config/parse.ts";
import type { LoraModule } from "./lora-modules.ts";

const Settings = z.object({
  r: z.int().positive().default(8),
  lora_alpha: z.number().default(8),
  alpha_pattern: z.record(z.string(), z.number()).nullable().default(null),
  use_rslora: z.boolean().default(false),
  use_dora: z.boolean().default(false),
  lora_bias: z.boolean().default(false),
  peft_type: z.literal("LORA", "needed LORA").optional(),
});
type Settings = z.output<typeof Settings>;

/** Factor on up·down of a layer with a rank. */
export type ScaleOf = (module: LoraModule, rank: number) => number;

/**
 * The scales that diffusers' metadata or PEFT's adapter_config.json give; without either, 1.
 * @throws LikenessError if they can't be read, or ask for what isn't implemented
 */
export function peftScales(header: SafetensorsHeader): ScaleOf {
  const text = header.metadata.lora_adapter_metadata;
  if (text !== undefined) {
    const all = z.record(z.string(), z.unknown()).safeParse(parsed(text));
    if (!all.success) return refuse(header.path, 'metadata "lora_adapter_metadata"', "a JSON object", brief(text));
    return ({ component, path }, rank) => {
      const own = Object.entries(all.data).filter(([k]) => k.startsWith(`${component}.`));
      if (own.length === 0) return 1;
      const settings = Object.fromEntries(own.map(([k, v]) => [k.slice(component.length + 1), v]));
      return scale(check(settings, header.path), path, rank);
    };
  }
  const file = join(dirname(header.path), "adapter_config.json");
  const isPeft = [...header.tensors.keys()].some((k) => k.startsWith("base_model.model."));
  if (!isPeft || !existsSync(file)) return () => 1;
  const settings = check(readJson(file), file);
  return ({ path }, rank) => scale(settings, path, rank);
}

/** PEFT: alpha/r, or alpha/√r with rslora; a pattern names the end of a path, here without regular expressions. */
function scale({ lora_alpha, alpha_pattern, use_rslora }: Settings, path: string, rank: number): number {
  const own = Object.entries(alpha_pattern ?? {}).find(([pattern]) => {
    const end = pattern.replace(/^\^/, "");
    return path === end || path.endsWith(`.${end}`);
  });
  return (own?.[1] ?? lora_alpha) / (use_rslora ? Math.sqrt(rank) : rank);
}

function check(json: unknown, where: string): Settings {
  const result = Settings.safeParse(json);
  if (!result.success) {
    const issue = result.error.issues[0]!;
    return refuse(where, `"${issue.path.join(".")}"`, issue.message, "another value");
  }
  if (result.data.use_dora || result.data.lora_bias)
    refuse(where, "LoRA", "a plain LoRA", result.data.use_dora ? "DoRA (use_dora)" : "a bias of its own (lora_bias)");
  return result.data;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function refuse(where: string, what: string, needed: string, found: string): never {
  throw new LikenessError("E_LORA", { what, where, needed, found });
}

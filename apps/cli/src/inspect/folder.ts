/** What a folder in diffusers' layout holds. */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { weightFiles, weightVariants } from "@likeness/diffusion";
import { readSafetensorsHeader } from "@likeness/engine";
import { brief, LikenessError } from "@likeness/engine/errors";

export interface ComponentReport {
  readonly name: string;
  readonly className: string;
  /** Numbers that say how large it is, by their key in config.json. */
  readonly config: Readonly<Record<string, unknown>>;
  /** The weights that are taken unless a variant is named. */
  readonly files: readonly string[];
  /** Variants that are there, "" for the plain files. */
  readonly variants: readonly string[];
  readonly tensors: number;
  readonly values: number;
  readonly bytes: number;
  readonly dtypes: readonly string[];
}

export interface FolderReport {
  readonly className: string;
  readonly components: readonly ComponentReport[];
}

/** @throws LikenessError E_MODEL if it is no model folder, SafetensorsError if a file of it is damaged */
export function inspectFolder(folder: string): FolderReport {
  const index = join(folder, "model_index.json");
  if (existsSync(index)) {
    const { _class_name, ...rest } = readObject(index);
    const parts = Object.entries(rest).filter(
      (e): e is [string, [unknown, string]] => Array.isArray(e[1]) && typeof e[1][1] === "string",
    );
    const components = parts.map(([name, [, className]]) => component(join(folder, name), name, className));
    return { className: String(_class_name), components };
  }
  if (!existsSync(join(folder, "config.json")))
    throw new LikenessError("E_MODEL", {
      what: "model",
      where: folder,
      needed: "a folder with model_index.json or config.json",
      found: "neither",
    });
  return { className: "a single component", components: [component(folder, ".", "")] };
}

function component(folder: string, name: string, className: string): ComponentReport {
  const names = existsSync(folder) ? readdirSync(folder).sort() : [];
  const configName = ["config.json", "scheduler_config.json"].find((f) => names.includes(f));
  const config = configName ? readObject(join(folder, configName)) : {};
  const { files, variants } = weightsOf(folder, names);
  const entries = files.flatMap((f) => [...readSafetensorsHeader(join(folder, f)).tensors.values()]);
  return {
    name,
    className:
      className || String(config._class_name ?? (config.architectures as string[] | undefined)?.[0] ?? "unknown"),
    config: Object.fromEntries(TELLING.filter((k) => k in config).map((k) => [k, config[k]])),
    files,
    variants,
    tensors: entries.length,
    values: entries.reduce((n, { shape }) => n + shape.reduce((a, b) => a * b, 1), 0),
    bytes: files.reduce((n, f) => n + statSync(join(folder, f)).size, 0),
    dtypes: [...new Set(entries.map((e) => e.dtype))],
  };
}

/** @throws LikenessError if a shard is missing */
function weightsOf(folder: string, names: readonly string[]): Pick<ComponentReport, "files" | "variants"> {
  for (const stem of ["diffusion_pytorch_model", "model"]) {
    const variants = weightVariants(folder, stem);
    const [first] = variants; // "" sorts first
    if (first === undefined) continue;
    const { paths } = weightFiles(folder, stem, first || undefined);
    return { files: paths.map((p) => basename(p)), variants };
  }
  return { files: names.filter((f) => f.endsWith(".safetensors")), variants: [] };
}

const TELLING: readonly string[] = [
  "block_out_channels",
  "cross_attention_dim",
  "latent_channels",
  "sample_size",
  "hidden_size",
  "num_hidden_layers",
  "image_size",
  "patch_size",
  "vocab_size",
  "prediction_type",
  "num_train_timesteps",
];

function readObject(path: string): Record<string, unknown> {
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    const found = (error as Error).message;
    throw new LikenessError("E_CONFIG", { what: "config", where: path, needed: "a JSON object", found });
  }
  if (typeof json === "object" && json !== null && !Array.isArray(json)) return json as Record<string, unknown>;
  throw new LikenessError("E_CONFIG", { what: "config", where: path, needed: "a JSON object", found: brief(json) });
}

/** Which files of a repository a diffusers model needs here: configs, tokenizer, and one set of .safetensors a part. */
import { brief, LikenessError } from "@likeness/engine/errors";

export interface SelectOptions {
  /** "ORG/NAME", for what is said. */
  readonly id: string;
  /** Files such as unet/diffusion_pytorch_model.fp16.safetensors, where there are any: "fp16". */
  readonly variant?: string | undefined;
  /** Patterns that replace the choice. */
  readonly include?: readonly string[] | undefined;
}

/** Folders of a pipeline that are read here; no safety checker. */
const PARTS = [
  ...["unet", "vae", "text_encoder", "image_encoder", "tuning_encoder", "subject_mask"],
  ...["tokenizer", "scheduler", "feature_extractor"],
];
/** Files of our own models, which no other has. */
const OURS = [
  ...["generation_config.json", "image_encoder/text_projection.safetensors"],
  "tuning_encoder/tuning_encoder.safetensors",
];
const PICKLE = /\.(bin|ckpt|pt|pth|pkl|h5|msgpack)$/;
const PICKLE_REASON = "A pickle can run any code when it is opened, so none is fetched.";

/**
 * @param names all files of the repository
 * @throws LikenessError E_HUB if it is no diffusers model, has pickles only, or not the variant that was asked for
 */
export function selectFiles(names: readonly string[], options: SelectOptions): string[] {
  if (options.include?.length) return included(names, options.include, options.id);
  if (!names.includes("model_index.json")) throw noModel(names, options.id);
  const parts = PARTS.filter((part) => names.some((name) => name.startsWith(`${part}/`)));
  const weights = parts.map((part) => weightFiles(names, part, options));
  const { variant } = options;
  if (variant !== undefined && !weights.some((w) => w.variant === variant)) {
    const others = [...new Set(weights.flatMap((w) => w.variants))].sort();
    const found = others.length ? others.map((v) => brief(v)).join(", ") : "none";
    throw refuse(options.id, `variant ${brief(variant)}`, "one that the model has", found, "Check --variant.");
  }
  const plain = /^[^/]+\/[^/]+\.(json|txt)$/;
  const texts = names.filter((n) => plain.test(n) && !n.includes(".index.") && parts.includes(n.split("/")[0]!));
  const ours = names.filter((n) => OURS.includes(n));
  return ["model_index.json", ...ours, ...texts, ...weights.flatMap((w) => w.files)];
}

interface Weights {
  readonly files: readonly string[];
  readonly variant: string | undefined;
  /** All that this part has. */
  readonly variants: readonly string[];
}

/** STEM[.VARIANT][-00001-of-00002][.VARIANT].safetensors: the older spelling has the variant behind the shard. */
const WEIGHTS = /^(diffusion_pytorch_model|model)(?:\.([\w-]+?))?(-\d{5}-of-\d{5})?(?:\.([\w-]+))?\.safetensors$/;
const INDEX = /^(?:diffusion_pytorch_model|model)\.safetensors(?:\.([\w-]+))?\.index(?:\.([\w-]+))?\.json$/;

function weightFiles(names: readonly string[], part: string, { id, variant }: SelectOptions): Weights {
  const own = names.filter((n) => n.startsWith(`${part}/`)).map((n) => n.slice(part.length + 1));
  const found = own.flatMap((name) => {
    const match = WEIGHTS.exec(name);
    return match ? [{ name, variant: match[2] ?? match[4], shard: match[3] !== undefined }] : [];
  });
  const variants = [...new Set(found.flatMap((f) => f.variant ?? []))];
  // a part without the variant has its plain files taken, as diffusers does
  const wanted = variant !== undefined && variants.includes(variant) ? variant : undefined;
  const set = found.filter((f) => f.variant === wanted);
  const pickle = own.find((name) => PICKLE.test(name));
  if (set.length === 0 && variants.length > 0) {
    const next = `Add --variant ${variants[0]}.`;
    throw refuse(id, `${part} weights`, "a plain .safetensors", `variants only: ${variants.join(", ")}`, next);
  }
  if (set.length === 0 && pickle !== undefined)
    throw refuse(id, `${part} weights`, "a .safetensors", pickle, `${PICKLE_REASON} Look for a copy in .safetensors.`);
  const whole = set.filter((f) => !f.shard);
  const index = own.filter((name) => {
    const match = INDEX.exec(name);
    return match !== null && (match[1] ?? match[2]) === wanted;
  });
  const files = whole.length ? whole.map((f) => f.name) : [...set.map((f) => f.name), ...(set.length ? index : [])];
  return { files: files.map((name) => `${part}/${name}`), variant: wanted, variants };
}

function included(names: readonly string[], patterns: readonly string[], id: string): string[] {
  const matchers = patterns.map(glob);
  const matching = names.filter((name) => matchers.some((m) => m.test(name)));
  const safe = matching.filter((name) => !PICKLE.test(name));
  if (safe.length) return safe;
  if (matching.length) throw refuse(id, "--include", "safe files", matching[0]!, PICKLE_REASON);
  const found = `none among ${names.length}`;
  throw refuse(
    id,
    "--include",
    `files that match ${patterns.map((p) => brief(p)).join(" or ")}`,
    found,
    "Check the pattern.",
  );
}

/** As Python's fnmatch, which huggingface_hub uses: * and ? match a slash too. */
function glob(pattern: string): RegExp {
  const source = pattern
    .replace(/[\\^$.+()|{}[\]]/g, "\\$&")
    .replace(/\*+/g, ".*")
    .replace(/\?/g, ".");
  return new RegExp(`^${pattern.endsWith("/") ? `${source}.*` : source}$`, "su");
}

function noModel(names: readonly string[], id: string): LikenessError {
  const single = names.find((n) => n.endsWith(".safetensors"));
  const found = single ?? names.find((n) => PICKLE.test(n)) ?? `${names.length} other files`;
  const next = single ? `Fetch single files with --include ${JSON.stringify(single)}.` : "Check the model's name.";
  return refuse(id, "model", "a diffusers model with model_index.json", found, next);
}

const refuse = (where: string, what: string, needed: string, found: string, next: string): LikenessError =>
  new LikenessError("E_HUB", { what, where, needed, found, next });

/** open_clip's keys (OpenAI's CLIP has them too), read under transformers' names: a view, nothing is copied. */
import type { KeyMap, Stored } from "@likeness/engine";

const QKV = ["q_proj", "k_proj", "v_proj"];

/** Keys of one transformer layer below `at`. */
function layer(at: string, key: string): Stored {
  const [, name, kind] = /^self_attn\.(q_proj|k_proj|v_proj)\.(weight|bias)$/.exec(key) ?? [];
  if (name && kind) return { key: `${at}attn.in_proj_${kind}`, part: { index: QKV.indexOf(name), of: 3 } };
  const renamed = key
    .replace(/^layer_norm(\d)\./, "ln_$1.")
    .replace(/^mlp\.fc1\./, "mlp.c_fc.")
    .replace(/^mlp\.fc2\./, "mlp.c_proj.")
    .replace(/^self_attn\./, "attn.");
  return { key: at + renamed };
}

/** transformers' key → open_clip's, of the tower whose keys begin with `prefix`. */
function tower(prefix: string, names: Readonly<Record<string, string>>, key: string): Stored {
  const [, n, rest] = /^encoder\.layers\.(\d+)\.(.+)$/.exec(key) ?? [];
  if (n && rest) return layer(`${prefix}transformer.resblocks.${n}.`, rest);
  for (const [ours, theirs] of Object.entries(names))
    if (key === ours || key.startsWith(`${ours}.`)) return { key: prefix + theirs + key.slice(ours.length) };
  return { key: prefix + key };
}

const TEXT: Readonly<Record<string, string>> = {
  "embeddings.token_embedding": "token_embedding",
  "embeddings.position_embedding.weight": "positional_embedding",
  final_layer_norm: "ln_final",
};
const VISION: Readonly<Record<string, string>> = {
  "embeddings.class_embedding": "class_embedding",
  "embeddings.position_embedding.weight": "positional_embedding",
  "embeddings.patch_embedding": "conv1",
  pre_layrnorm: "ln_pre",
  post_layernorm: "ln_post",
};

/** `prefix` is where the whole model's keys begin, `text` where those of its text tower do. */
export const openClipKeys = (prefix: string = "", text: string = prefix): KeyMap => ({
  locate: (key) => {
    if (key === "text_projection.weight") return { key: `${text}text_projection`, transposed: true };
    if (key === "visual_projection.weight") return { key: `${prefix}visual.proj`, transposed: true };
    if (key.startsWith("text_model.")) return tower(text, TEXT, key.slice("text_model.".length));
    if (key.startsWith("vision_model.")) return tower(`${prefix}visual.`, VISION, key.slice("vision_model.".length));
    return prefix + key;
  },
});

/** The concept file: everything that a taught subject is, in one .safetensors (method.md 4.5). */

import {
  attentionMatrices,
  bundleKey,
  kohyaName,
  kohyaTensors,
  type LoraFactors,
  resnetConvolutions,
  type StableDiffusionModel,
} from "@likeness/diffusion";
import {
  brief,
  LikenessError,
  readFloats,
  readSafetensorsHeader,
  type TensorToWrite,
  writeSafetensors,
} from "@likeness/engine";

export interface ConceptFactors {
  /** (in, r) row by row. */
  readonly a: Float32Array;
  /** (r, out) row by row. */
  readonly b: Float32Array;
}

/** Low-rank changes of the ResNets' convolutions, which the paper doesn't have (docs/decisions/0015). */
export interface ConceptConvolutions {
  /** In the order of resnetConvolutions: a is (r, in, kh, kw), b (out, r), row by row. */
  readonly factors: readonly ConceptFactors[];
  readonly rank: number;
  /** The changes' scale is loraAlpha / rank. */
  readonly loraAlpha: number;
}

export interface Concept {
  /** What stands for the subject in prompts. */
  readonly token: string;
  /** v*, (D). */
  readonly embedding: Float32Array;
  /** In the order of attentionMatrices. */
  readonly factors: readonly ConceptFactors[];
  readonly rank: number;
  /** The changes' scale is loraAlpha / rank. */
  readonly loraAlpha: number;
  readonly convolutions?: ConceptConvolutions | undefined;
  /** v_h: the real word nearest to v*. */
  readonly hardToken: string;
  readonly hardTokenId: number;
  /** Share of the personalised branch. */
  readonly alphaBlend: number;
  /** Fingerprint and name of the base model. */
  readonly base: string;
  readonly baseName: string;
  /** How it was made, as JSON: steps, learning rate, seed, encoder… */
  readonly settings: Readonly<Record<string, unknown>>;
}

/** The factors in torch's orientation: down (r, in) is Aᵀ, up (out, r) is Bᵀ; those of convolutions are in it already. */
export const loraFactors = (
  { factors, rank, loraAlpha: alpha, convolutions }: Pick<Concept, "factors" | "rank" | "loraAlpha" | "convolutions">,
  model: StableDiffusionModel,
): LoraFactors[] => [
  ...attentionMatrices(model.unet.config).map(({ path, dIn, dOut }, i) => ({
    ...{ path, down: transposed(factors[i]!.a, dIn, rank), up: transposed(factors[i]!.b, rank, dOut) },
    ...{ rank, alpha },
  })),
  ...(convolutions
    ? resnetConvolutions(model).map(({ path, shape }, i) => ({
        ...{ path, down: convolutions.factors[i]!.a, up: convolutions.factors[i]!.b },
        ...{ rank: convolutions.rank, alpha: convolutions.loraAlpha, kernel: shape.slice(2) },
      }))
    : []),
];

/** Writes a concept: kohya's LoRA keys, the embedding beside them, what only we need in the metadata. */
export function writeConcept(path: string, concept: Concept, model: StableDiffusionModel): void {
  const lora = kohyaTensors(loraFactors(concept, model));
  const embedding: TensorToWrite = { dtype: "F32", shape: [1, concept.embedding.length], data: concept.embedding };
  writeSafetensors(
    path,
    { ...lora.tensors, [bundleKey(concept.token)]: embedding },
    {
      ...lora.metadata,
      "modelspec.trigger_phrase": concept.token,
      "date.token": concept.token,
      "date.alpha_blend": String(concept.alphaBlend),
      ...(concept.convolutions && { "date.conv_rank": String(concept.convolutions.rank) }),
      "date.hard_token": concept.hardToken,
      "date.hard_token_id": String(concept.hardTokenId),
      "date.base": concept.base,
      "date.base_name": concept.baseName,
      "date.settings": JSON.stringify(concept.settings),
    },
  );
}

/**
 * Reads a concept for a base model, every key and every value of it checked.
 * @throws LikenessError if it is none, incomplete, damaged, or made for another base
 */
export function readConcept(path: string, model: StableDiffusionModel): Concept {
  const header = readSafetensorsHeader(path);
  const fail = (what: string, needed: string, found: string, next: string = AGAIN): never => {
    throw new LikenessError("E_CONCEPT", { what, where: path, needed, found, next });
  };
  const meta = (key: string): string =>
    header.metadata[key] ??
    fail("concept", `metadata "${key}"`, "none", "Give a file that `likeness personalize` made.");
  const number = (key: string, needed: string, good: (x: number) => boolean): number => {
    const text = meta(key);
    const x = text.trim() === "" ? Number.NaN : Number(text);
    return good(x) ? x : fail(`metadata "${key}"`, needed, brief(text));
  };
  const [base, baseName] = [meta("date.base"), meta("date.base_name")];
  if (base !== model.fingerprint)
    throw new LikenessError("E_CONCEPT_BASE", {
      what: "concept",
      where: path,
      needed: `one made for ${model.name} (${model.fingerprint})`,
      found: `one made for ${baseName} (${base})`,
      next: "Use it with its own --model, or personalize again.",
    });
  const token = meta("date.token");
  if (!/^\S+$/.test(token)) fail('metadata "date.token"', "a word without spaces", brief(token));
  const words = model.textEncoder.config.vocab_size;
  const isCount = (x: number): boolean => Number.isInteger(x) && x > 0;
  const rank = number("ss_network_dim", "a rank of 1 or more", isCount);
  const alphaBlend = number("date.alpha_blend", "a share from 0 to 1", (x) => x >= 0 && x <= 1);
  const hardTokenId = number(
    "date.hard_token_id",
    `a token of the ${words}`,
    (x) => x === 0 || (isCount(x) && x < words),
  );

  const unread = new Set(header.tensors.keys());
  const tensor = (key: string, shape: readonly number[]): Float32Array => {
    const found = header.tensors.get(key);
    const text = (s: readonly number[]): string => `shape (${s.join(", ")})`;
    if (found?.shape.join() !== shape.join())
      fail(brief(key, 200), text(shape), found ? text(found.shape) : "no such tensor");
    unread.delete(key);
    const values = readFloats(header, key);
    if (!values.every(Number.isFinite)) fail(brief(key, 200), "finite values", "others");
    return values;
  };
  const embedding = tensor(bundleKey(token), [1, model.textEncoder.config.hidden_size]);
  /** The factors of one layer, whose alpha is that of the others of its kind. */
  const reader = (r: number) => {
    let common: number | undefined;
    const read = (module: string, [out, ...inputs]: readonly number[]): ConceptFactors => {
      const key = kohyaName("unet", module);
      const [alpha] = tensor(`${key}.alpha`, []) as unknown as [number];
      if (alpha !== (common ??= alpha)) fail(`"${key}.alpha"`, `${common}, as in the other matrices`, String(alpha));
      const a = tensor(`${key}.lora_down.weight`, [r, ...inputs]);
      return { a, b: tensor(`${key}.lora_up.weight`, [out!, r, ...inputs.slice(1).map(() => 1)]) };
    };
    return { read, alpha: () => common! };
  };
  const linear = reader(rank);
  const factors = attentionMatrices(model.unet.config).map(({ path: module, dIn, dOut }) => {
    const { a, b } = linear.read(module, [dOut, dIn]);
    return { a: transposed(a, rank, dIn), b: transposed(b, dOut, rank) };
  });
  const loraAlpha = linear.alpha();
  const convolutions = header.metadata["date.conv_rank"] === undefined ? undefined : readConvolutions();
  function readConvolutions(): ConceptConvolutions {
    const convRank = number("date.conv_rank", "a rank of 1 or more", isCount);
    const { read, alpha } = reader(convRank);
    const factors = resnetConvolutions(model).map(({ path, shape }) => read(path, shape));
    return { factors, rank: convRank, loraAlpha: alpha() };
  }
  const [strange] = unread;
  if (strange !== undefined) fail(brief(strange, 200), `only tensors that ${model.name} has a place for`, "one more");
  return {
    ...{ token, embedding, factors, rank, loraAlpha, alphaBlend, hardTokenId, base, baseName },
    ...(convolutions && { convolutions }),
    hardToken: meta("date.hard_token"),
    settings: settingsOf(meta("date.settings")) ?? fail('metadata "date.settings"', "a JSON object", "something else"),
  };
}

const AGAIN = "The file is damaged: personalize again.";

function settingsOf(text: string): Record<string, unknown> | undefined {
  try {
    const value = JSON.parse(text) as unknown;
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}

/** (rows, columns) → (columns, rows). */
function transposed(x: Float32Array, rows: number, columns: number): Float32Array {
  const out = new Float32Array(x.length);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) out[j * rows + i] = x[i * columns + j]!;
  return out;
}

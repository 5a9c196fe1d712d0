import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { attentionMatrices, loadModel, readLora, resnetConvolutions } from "@likeness/diffusion";
import {
  counterRandom,
  readSafetensorsHeader,
  readTensor,
  size,
  type TensorToWrite,
  writeSafetensors,
} from "@likeness/engine";
import { FIXTURES } from "@likeness/engine/testing";
import { afterAll, expect, test } from "vitest";
import { type Concept, readConcept, writeConcept } from "../src/concept.ts";

const model = loadModel(`${FIXTURES}/models/sd1`);
const folder = mkdtempSync(join(tmpdir(), "concept-"));
afterAll(() => rmSync(folder, { recursive: true }));

const random = counterRandom(1);
const RANK = 3;
const concept: Concept = {
  token: "<duck>",
  embedding: random.normal(model.textEncoder.config.hidden_size),
  factors: attentionMatrices(model.unet.config).map(({ dIn, dOut }) => ({
    a: random.normal(dIn * RANK),
    b: random.normal(RANK * dOut),
  })),
  rank: RANK,
  loraAlpha: 6,
  hardToken: "duck",
  hardTokenId: 17,
  alphaBlend: 0.25,
  base: model.fingerprint,
  baseName: model.name,
  settings: { steps: 12, seed: 7, class_word: null },
};
const file = join(folder, "duck.safetensors");
writeConcept(file, concept, model);

test("what is written is what is read, bit for bit", () => {
  expect(readConcept(file, model)).toEqual(concept);
  expect(readdirSync(folder)).toEqual(["duck.safetensors"]);
});

test("with convolutions: what is written is what is read, in kohya's keys and LoCon's shapes", () => {
  const convolutions = {
    rank: 2,
    loraAlpha: 5,
    factors: resnetConvolutions(model).map(({ shape: [out, ...inputs] }) => ({
      a: random.normal(2 * size(inputs)),
      b: random.normal(2 * out!),
    })),
  };
  const path = join(folder, "convolved.safetensors");
  writeConcept(path, { ...concept, convolutions }, model);
  expect(readConcept(path, model)).toEqual({ ...concept, convolutions });
  const { tensors, metadata } = readSafetensorsHeader(path);
  expect(tensors.size).toBe(1 + 3 * (36 + convolutions.factors.length));
  const [first] = resnetConvolutions(model);
  expect(first).toMatchObject({ path: "down_blocks.0.resnets.0.conv1", shape: [8, 8, 3, 3] });
  const key = "lora_unet_down_blocks_0_resnets_0_conv1";
  expect(tensors.get(`${key}.lora_down.weight`)!.shape).toEqual([2, 8, 3, 3]);
  expect(tensors.get(`${key}.lora_up.weight`)!.shape).toEqual([8, 2, 1, 1]);
  expect([...readTensor(readSafetensorsHeader(path), `${key}.alpha`)]).toEqual([5]);
  expect(metadata).toMatchObject({ ss_network_dim: "3", ss_network_alpha: "6", "date.conv_rank": "2" });
  expect(JSON.parse(metadata.ss_network_args!)).toEqual({ conv_dim: "2", conv_alpha: "5" });
  // as a LoRA, which our own reader of other tools' files takes
  const lora = readLora(path, model);
  expect(lora.report).toMatchObject({ ignored: [], ranks: [2, 3] });
  expect(lora.unet.get("down_blocks.0.resnets.0.conv1.weight")!.scale).toBe(2.5);

  const damaged = (change: (t: Record<string, TensorToWrite>, m: Record<string, string>) => void) => () =>
    readConcept(altered(change, path), model);
  expect(damaged((t) => delete t[`${key}.lora_up.weight`])).toThrow(/conv1\.lora_up\.weight".*\(8, 2, 1, 1\).*no such/);
  expect(damaged((t) => ((t[`${key}.alpha`]!.data as Float32Array)[0] = 4))).toThrow(
    /alpha".*needed 4, as in the other/,
  );
  expect(damaged((_t, m) => (m["date.conv_rank"] = "0"))).toThrow(/"date\.conv_rank".*a rank of 1 or more, found "0"/);
  expect(damaged((_t, m) => delete m["date.conv_rank"])).toThrow(
    /_conv[12]\.\S+".*only tensors that sd1 has a place for/,
  );
});

test("kohya's keys: down (r, in) is Aᵀ, up (out, r) is Bᵀ, alpha a scalar; the embedding beside them", () => {
  const { tensors, metadata } = readSafetensorsHeader(file);
  expect(tensors.size).toBe(1 + 3 * 36);
  const key = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k";
  const i = attentionMatrices(model.unet.config).findIndex(
    (m) => m.path === "mid_block.attentions.0.transformer_blocks.0.attn2.to_k",
  );
  const header = readSafetensorsHeader(file);
  const down = readTensor(header, `${key}.lora_down.weight`);
  const up = readTensor(header, `${key}.lora_up.weight`);
  expect(tensors.get(`${key}.lora_down.weight`)!.shape).toEqual([RANK, 12]);
  expect(tensors.get(`${key}.lora_up.weight`)!.shape).toEqual([12, RANK]);
  expect(down[1 * 12 + 5]).toBe(concept.factors[i]!.a[5 * RANK + 1]);
  expect(up[4 * RANK + 2]).toBe(concept.factors[i]!.b[2 * 12 + 4]);
  expect([...readTensor(header, `${key}.alpha`)]).toEqual([6]);
  expect(tensors.get("bundle_emb.<duck>.string_to_param.*")!.shape).toEqual([1, 12]);
  expect(metadata).toMatchObject({ ss_network_dim: "3", ss_network_alpha: "6", "date.alpha_blend": "0.25" });
});

/** The file with something changed. */
function altered(
  change: (tensors: Record<string, TensorToWrite>, metadata: Record<string, string>) => void,
  of: string = file,
): string {
  const header = readSafetensorsHeader(of);
  const tensors: Record<string, TensorToWrite> = {};
  for (const [key, { shape }] of header.tensors)
    tensors[key] = { dtype: "F32", shape, data: readTensor(header, key) as Float32Array };
  const metadata = { ...header.metadata };
  change(tensors, metadata);
  const path = join(folder, "altered.safetensors");
  writeSafetensors(path, tensors, metadata);
  return path;
}

const KEY = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_v";
test.each<[string, Parameters<typeof altered>[0], RegExp]>([
  [
    "another base",
    (_t, m) => {
      m["date.base"] = "0123456789abcdef";
      m["date.base_name"] = "pocket";
    },
    /needed one made for sd1 \([0-9a-f]{16}\), found one made for pocket \(0123456789abcdef\).*\[E_CONCEPT_BASE\]/,
  ],
  ["no concept at all", (_t, m) => delete m["date.base"], /metadata "date\.base", found none\. Give a file/],
  [
    "a missing tensor",
    (t) => delete t[`${KEY}.lora_up.weight`],
    /attn1_to_v\.lora_up\.weight".*needed shape \(8, 3\), found no such tensor/,
  ],
  [
    "a missing embedding",
    (t) => delete t["bundle_emb.<duck>.string_to_param.*"],
    /"bundle_emb\.<duck>\.string_to_param\.\*".*no such tensor/,
  ],
  [
    "a wrong shape",
    (t) => (t[`${KEY}.lora_down.weight`] = { dtype: "F32", shape: [2, 8], data: new Float32Array(16) }),
    /needed shape \(3, 8\), found shape \(2, 8\)/,
  ],
  [
    "a value that is no number",
    (t) => ((t[`${KEY}.lora_down.weight`]!.data as Float32Array)[3] = Number.NaN),
    /lora_down\.weight".*needed finite values/,
  ],
  [
    "alphas that differ",
    (t) => ((t[`${KEY}.alpha`]!.data as Float32Array)[0] = 5),
    /attn1_to_v\.alpha".*needed 6, as in the other matrices, found 5/,
  ],
  [
    "a tensor too many",
    (t) => (t.extra = { dtype: "F32", shape: [1], data: new Float32Array(1) }),
    /"extra".*only tensors that sd1 has a place for/,
  ],
  ["a share beyond 1", (_t, m) => (m["date.alpha_blend"] = "2"), /"date\.alpha_blend".*from 0 to 1, found "2"/],
  ["a share that is empty", (_t, m) => (m["date.alpha_blend"] = ""), /from 0 to 1, found ""/],
  ["a word beyond the vocabulary", (_t, m) => (m["date.hard_token_id"] = "99999"), /a token of the \d+, found "99999"/],
  ["a rank of none", (_t, m) => (m.ss_network_dim = "0"), /a rank of 1 or more, found "0"/],
  ["settings that are no JSON", (_t, m) => (m["date.settings"] = "{"), /"date\.settings".*a JSON object/],
])("refused: %s", (_name, change, message) => {
  expect(() => readConcept(altered(change), model)).toThrow(message);
});

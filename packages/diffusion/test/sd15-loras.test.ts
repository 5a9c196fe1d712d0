/** Two published LoRA files of SD 1.5: files with their keys and shapes, and themselves where they are at hand. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TensorToWrite, writeSafetensors } from "@likeness/engine";
import { FIXTURES } from "@likeness/engine/testing";
import { afterAll, expect, test } from "vitest";
import { knownBase, type Lora, readLora } from "../src/index.ts";

interface Census {
  readonly rank: number;
  readonly tokens: Readonly<Record<string, number[]>>;
  readonly metadata: Readonly<Record<string, string>>;
  /** "out,in" of each numbered layer. */
  readonly unet: readonly string[];
  readonly text_encoder: readonly string[];
}

const { files } = JSON.parse(readFileSync(join(FIXTURES, "lora-census.json"), "utf8")) as {
  files: Record<string, Census>;
};
const folder = mkdtempSync(join(tmpdir(), "sd15-loras-"));
afterAll(() => rmSync(folder, { recursive: true }));
const base = knownBase(768)!;

/** A file with the keys and shapes of the published one, in float16 as that is. */
function standIn({ rank, tokens, metadata, ...parts }: Census): string {
  const tensors: Record<string, TensorToWrite> = {};
  const put = (key: string, shape: readonly number[]): void => {
    tensors[key] = { dtype: "F16", shape, data: new Uint16Array(shape.reduce((a, b) => a * b, 1)).fill(0x3c00) };
  };
  for (const part of ["unet", "text_encoder"] as const)
    parts[part].forEach((size, i) => {
      const [out, n] = size.split(",").map(Number) as [number, number];
      put(`${part}:${i}:up`, [out, rank]);
      put(`${part}:${i}:down`, [rank, n]);
    });
  for (const [token, shape] of Object.entries(tokens)) put(token, shape);
  const path = join(folder, "file.safetensors");
  writeSafetensors(path, tensors, metadata);
  return path;
}

function expectWhole(lora: Lora, { rank, tokens }: Census): void {
  const count = Object.keys(tokens).length;
  expect(lora.format).toBe("cloneofsimo");
  expect(lora.report).toMatchObject({
    ignored: [],
    layers: { unet: 144, text_encoder: 48 },
    ranks: [rank],
    zero: false,
  });
  expect(lora.report.matched).toHaveLength(2 * (144 + 48) + count);
  expect(lora.embeddings.map(({ token }) => token)).toEqual(Object.keys(tokens));
}

test.each(Object.entries(files))("%s: every number is a layer of SD 1.5 of that size", (_name, census) => {
  const lora = readLora(standIn(census), base, { scale: 0.5 });
  expectWhole(lora, census);
  const change = lora.unet.get("mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight")!;
  expect([change.a.shape, change.b.shape, change.scale]).toEqual([[768, census.rank], [census.rank, 1280], 0.5]);
});

const real = join(FIXTURES, "../../shared/data/sd15-loras");
test.skipIf(!existsSync(real)).each(Object.entries(files))("%s itself, where it is at hand", (name, census) => {
  expectWhole(readLora(join(real, `${name}.safetensors`), base), census);
});

test("refused by SD 2.x in words", () => {
  expect(() => readLora(standIn(files.lora_disney!), knownBase(1024)!)).toThrow(
    /needed one for SD 2\.x, SD 2\.x \(text width 1024\), found one for SD 1\.x \(text width 768\): .*\[E_LORA_BASE\]$/,
  );
});

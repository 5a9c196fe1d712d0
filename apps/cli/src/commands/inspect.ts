/** `likeness inspect`: what a .safetensors file or a model folder is. */
import { join } from "node:path";
import { findSnapshot, loadModel, PICKLE, PICKLE_REASON, parseRepoName } from "@likeness/diffusion";
import { readSafetensorsHeader, type SafetensorsHeader } from "@likeness/engine";
import { brief, LikenessError } from "@likeness/engine/errors";
import { defineCommand } from "../args/command.ts";
import { columns } from "../args/help.ts";
import { type LoraFacts, loraFacts, loraLines } from "../inspect/adapter.ts";
import { expectNumbers } from "../inspect/check.ts";
import { type ComponentReport, type FolderReport, inspectFolder } from "../inspect/folder.ts";
import { verdict } from "../inspect/verdict.ts";
import { findModel, look } from "../paths.ts";
import { MODEL } from "./shared-flags.ts";

export default defineCommand({
  name: "inspect",
  summary: "Says what a .safetensors file or a model folder is and what it holds.",
  positional: {
    name: "FILE|DIR|ID",
    description: "a .safetensors file, a folder in diffusers' layout, or ORG/NAME in the Hugging Face cache",
  },
  flags: {
    model: { ...MODEL, required: false, description: "match a LoRA's layers with those of this base model" },
    check: { type: "boolean", description: "read all weights: a NaN or an infinity among them is an error" },
  },
  examples: ["likeness inspect duck.safetensors", "likeness inspect models/pocket --check"],
  async run(input, { check, model }, { json, print }) {
    const name = look(input) ? undefined : parseRepoName(input);
    const path = (name && findSnapshot(name)) ?? input;
    const info = look(path);
    if (!info) refuse(path, "nothing", name ? `Check the path, or fetch it: likeness pull ${path}` : "Check the path.");
    if (info.isDirectory()) {
      const report = inspectFolder(path);
      if (check) expectNumbers(headersOf(path, report));
      return print(json ? { path, kind: "model-folder", ...report } : folderText(path, report));
    }
    if (PICKLE.test(path)) refuse(path, "a pickle", PICKLE_REASON);
    const header = readSafetensorsHeader(path);
    if (check) expectNumbers([header]);
    const lora = loraFacts(header, model === undefined ? undefined : loadModel(findModel(model)));
    print(json ? { ...fileJson(path, header), ...(lora && { lora }) } : fileText(path, header, lora));
  },
});

const headersOf = (folder: string, { components }: FolderReport): SafetensorsHeader[] =>
  components.flatMap(({ name, files }) => files.map((f) => readSafetensorsHeader(join(folder, name, f))));

function refuse(where: string, found: string, next: string): never {
  const needed = "a .safetensors file or a model folder";
  throw new LikenessError("E_PATH", { what: "input", where, needed, found, next });
}

const valuesOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

function fileJson(path: string, header: SafetensorsHeader): object {
  const tensors = [...header.tensors].map(([key, { dtype, shape, length }]) => ({ key, dtype, shape, bytes: length }));
  return { path, ...verdict(header), metadata: header.metadata, tensors };
}

function fileText(path: string, header: SafetensorsHeader, lora: LoraFacts | undefined): string {
  const entries = [...header.tensors];
  const counts: Record<string, number> = {};
  for (const [, { dtype }] of entries) counts[dtype] = (counts[dtype] ?? 0) + 1;
  const dtypes = Object.entries(counts).map(([dtype, n]) => `${n} ${dtype}`);
  const values = entries.reduce((n, [, t]) => n + valuesOf(t.shape), 0);
  const bytes = entries.reduce((n, [, t]) => n + t.length, 0);
  const rows = entries.map(([key, { dtype, shape }]) => [printable(key), `${dtype} (${shape.join(", ")})`] as const);
  const meta = Object.entries(header.metadata).map(([key, value]) => [printable(key), brief(value, 100)] as const);
  return [
    `${path}: ${printable(verdict(header).text)}`,
    `${entries.length} tensors (${dtypes.join(", ")}), ${values.toLocaleString("en")} values, ${size(bytes)}`,
    ...(lora ? loraLines(lora).map(printable) : []),
    ...(meta.length ? ["Metadata", columns(meta)] : []),
    ...(rows.length ? ["Tensors", columns(rows)] : []),
  ].join("\n");
}

function folderText(path: string, { className, components }: FolderReport): string {
  const total = components.reduce((n, c) => n + c.bytes, 0);
  const rows = components.map((c) => [printable(c.name), printable(`${c.className}: ${facts(c)}`)] as const);
  return [`${path}: diffusers model, ${printable(className)}, ${size(total)}`, columns(rows)].join("\n");
}

function facts({ config, files, variants, tensors, values, bytes, dtypes }: ComponentReport): string {
  const settings = Object.entries(config).map(([k, v]) => `${k} ${brief(v)}`);
  const weights = files.length
    ? [`${values.toLocaleString("en")} values in ${tensors} tensors (${dtypes.join(", ")}), ${size(bytes)}`]
    : [];
  const others = variants.slice(1).map((v) => `variant ${v} too`);
  const only = variants[0] ? [`variant ${variants[0]}`] : [];
  return [...weights, ...only, ...others, ...settings].join(", ") || "no weights, no config";
}

/** Keys come from strangers: nothing that a terminal would obey. */
const printable = (text: string): string => brief(text, 300).slice(1, -1).replaceAll('\\"', '"');

function size(bytes: number): string {
  const unit = ["B", "kB", "MB", "GB"][Math.min(3, Math.floor(Math.log10(Math.max(1, bytes)) / 3))]!;
  const scaled = bytes / 1000 ** ["B", "kB", "MB", "GB"].indexOf(unit);
  return `${unit === "B" ? scaled : scaled.toFixed(1)} ${unit}`;
}

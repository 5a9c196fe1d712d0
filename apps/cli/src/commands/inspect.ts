/** `likeness inspect`: what a .safetensors file or a model folder is. */
import { readSafetensorsHeader, type SafetensorsHeader } from "@likeness/engine";
import { brief, LikenessError } from "@likeness/engine/errors";
import { defineCommand } from "../args/command.ts";
import { columns } from "../args/help.ts";
import { type ComponentReport, type FolderReport, inspectFolder } from "../inspect/folder.ts";
import { verdict } from "../inspect/verdict.ts";
import { look } from "../paths.ts";

export default defineCommand({
  name: "inspect",
  summary: "Says what a .safetensors file or a model folder is and what it holds.",
  positional: { name: "FILE|DIR", description: "a .safetensors file or a folder in diffusers' layout" },
  flags: {},
  examples: ["likeness inspect duck.safetensors", "likeness inspect models/pocket"],
  async run(path, _options, { json, print }) {
    const info = look(path);
    if (!info) {
      const needed = "a .safetensors file or a model folder";
      throw new LikenessError("E_PATH", {
        what: "input",
        where: path,
        needed,
        found: "nothing",
        next: "Check the path.",
      });
    }
    if (info.isDirectory()) {
      const report = inspectFolder(path);
      return print(json ? { path, kind: "model-folder", ...report } : folderText(path, report));
    }
    const header = readSafetensorsHeader(path);
    print(json ? fileJson(path, header) : fileText(path, header));
  },
});

const valuesOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

function fileJson(path: string, header: SafetensorsHeader): object {
  const tensors = [...header.tensors].map(([key, { dtype, shape, length }]) => ({ key, dtype, shape, bytes: length }));
  return { path, ...verdict(header), metadata: header.metadata, tensors };
}

function fileText(path: string, header: SafetensorsHeader): string {
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
    ...(meta.length ? ["Metadata", columns(meta)] : []),
    ...(rows.length ? ["Tensors", columns(rows)] : []),
  ].join("\n");
}

function folderText(path: string, { className, components }: FolderReport): string {
  const total = components.reduce((n, c) => n + c.bytes, 0);
  const rows = components.map((c) => [printable(c.name), printable(`${c.className}: ${facts(c)}`)] as const);
  return [`${path}: diffusers model, ${printable(className)}, ${size(total)}`, columns(rows)].join("\n");
}

function facts({ config, files, tensors, values, bytes, dtypes }: ComponentReport): string {
  const settings = Object.entries(config).map(([k, v]) => `${k} ${brief(v)}`);
  const weights = files.length
    ? [`${values.toLocaleString("en")} values in ${tensors} tensors (${dtypes.join(", ")}), ${size(bytes)}`]
    : [];
  return [...weights, ...settings].join(", ") || "no weights, no config";
}

/** Keys come from strangers: nothing that a terminal would obey. */
const printable = (text: string): string => brief(text, 300).slice(1, -1).replaceAll('\\"', '"');

function size(bytes: number): string {
  const unit = ["B", "kB", "MB", "GB"][Math.min(3, Math.floor(Math.log10(Math.max(1, bytes)) / 3))]!;
  const scaled = bytes / 1000 ** ["B", "kB", "MB", "GB"].indexOf(unit);
  return `${unit === "B" ? scaled : scaled.toFixed(1)} ${unit}`;
}

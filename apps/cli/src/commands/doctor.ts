/** `likeness doctor`: whether this machine and this installation can do the work. */
import { availableParallelism, freemem, totalmem } from "node:os";
import { hubCache } from "@likeness/diffusion/hub/cache";
import { installedDevices, onnxruntimeVersion } from "@likeness/engine";
import { defineCommand } from "../args/command.ts";

interface Check {
  readonly name: string;
  readonly ok: boolean;
  readonly found: string;
  readonly hint?: string;
}

export default defineCommand({
  name: "doctor",
  summary: "Checks this machine and this installation.",
  flags: {},
  examples: ["likeness doctor"],
  async run(_input, _options, { json, print }) {
    const checks = [node(), platform(), onnxruntime(), await pictures(), cores(), memory(), cache()];
    if (json) print({ ok: checks.every((c) => c.ok), checks });
    else
      for (const { name, ok, found, hint } of checks)
        print(`${ok ? "ok  " : "FAIL"}  ${name}: ${found}${hint ? `. ${hint}` : ""}`);
    if (checks.some((c) => !c.ok)) process.exitCode = 1;
  },
});

function node(): Check {
  const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
  const ok = major > 20 || (major === 20 && minor >= 19);
  return { name: "Node", ok, found: process.versions.node, ...(!ok && { hint: "Needed: 20.19 or later." }) };
}

function platform(): Check {
  const { platform: os, arch } = process;
  const found = `${os} ${arch}`;
  const bad = (hint: string): Check => ({ name: "platform", ok: false, found, hint });
  if (os === "darwin" && arch === "x64") return bad("ONNX Runtime has no build for Macs with Intel processors.");
  if (os === "linux" && isMusl()) return bad("musl (Alpine): ONNX Runtime needs glibc. Use a Debian image.");
  return { name: "platform", ok: true, found };
}

function isMusl(): boolean {
  const report = process.report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined;
  return report?.header !== undefined && report.header.glibcVersionRuntime === undefined;
}

function onnxruntime(): Check {
  const name = "onnxruntime-node";
  try {
    const all = installedDevices();
    const names = (present: boolean): string[] => all.filter((d) => d.present === present).map((d) => d.name);
    const missing = names(false);
    const found = `${onnxruntimeVersion()}, devices ${names(true).join(", ")}${missing.length ? `; not installed: ${missing.join(", ")}` : ""}`;
    const hint = "For CUDA: ONNXRUNTIME_NODE_INSTALL=true npm rebuild onnxruntime-node";
    return { name, ok: names(true).includes("cpu"), found, ...(missing.includes("cuda") && { hint }) };
  } catch (error) {
    const hint = "Run npm ci again; if its download fails: ONNXRUNTIME_NODE_INSTALL=skip npm ci";
    return { name, ok: false, found: firstLine(error), hint };
  }
}

async function pictures(): Promise<Check> {
  try {
    const { default: sharp } = await import("sharp");
    const formats = (["png", "jpeg", "webp"] as const).filter((f) => sharp.format[f].input.buffer);
    return { name: "sharp", ok: formats.length === 3, found: `${sharp.versions.sharp}, reads ${formats.join(", ")}` };
  } catch (error) {
    const hint = "Run npm ci again, on this machine and with optional dependencies.";
    return { name: "sharp", ok: false, found: firstLine(error), hint };
  }
}

const cores = (): Check => ({ name: "cores", ok: true, found: String(availableParallelism()) });

function memory(): Check {
  const total = Math.min(totalmem(), process.constrainedMemory() || Number.POSITIVE_INFINITY);
  return { name: "memory", ok: true, found: `${gb(total)} GB, ${gb(Math.min(freemem(), total))} free` };
}

const cache = (): Check => ({ name: "Hugging Face cache", ok: true, found: hubCache() });

const gb = (bytes: number): string => (bytes / 1e9).toFixed(1);

const firstLine = (error: unknown): string =>
  String((error as Error).message)
    .trim()
    .split("\n")[0]!;

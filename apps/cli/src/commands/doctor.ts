/** `likeness doctor`: whether this machine and this installation can do the work. */
import { availableParallelism, freemem, totalmem } from "node:os";
import { hubCache } from "@likeness/diffusion/hub/cache";
import {
  type Device,
  devices,
  input,
  installedDevices,
  matmul,
  multipliesBytes,
  onnxruntimeVersion,
  startRuntime,
} from "@likeness/engine";
import { defineCommand } from "../args/command.ts";

interface Check {
  readonly name: string;
  /** False only for what nothing runs without. */
  readonly ok: boolean;
  /** Something that the machine may do without: a GPU. */
  readonly absent?: boolean;
  readonly found: string;
  readonly hint?: string;
}

export default defineCommand({
  name: "doctor",
  summary: "Checks this machine and this installation.",
  flags: {},
  examples: ["likeness doctor"],
  async run(_input, _options, { json, print }) {
    const engine = onnxruntime();
    const tried = engine.ok ? await gpus() : [];
    const checks = [node(), platform(), engine, ...tried, await pictures(), cores(), bytes(), memory(), cache()];
    if (json) print({ ok: checks.every((c) => c.ok), checks });
    else
      for (const { name, ok, absent, found, hint } of checks)
        print(`${absent ? "none" : ok ? "ok  " : "FAIL"}  ${name}: ${found}${hint ? `. ${hint}` : ""}`);
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

/** Installed is not enough: each device besides the CPU multiplies two small matrices. */
async function gpus(): Promise<Check[]> {
  const checks: Check[] = [];
  for (const device of devices().filter((name) => name !== "cpu")) {
    try {
      const begun = performance.now();
      await multiply(device as Device);
      checks.push({ name: device, ok: true, found: `works, ${((performance.now() - begun) / 1000).toFixed(1)} s` });
    } catch (error) {
      checks.push({ name: device, ok: true, absent: true, found: firstLine(error) });
    }
  }
  return checks;
}

/** @throws LikenessError E_DEVICE if the device isn't there, Error if it says something else than the product */
async function multiply(device: Device): Promise<void> {
  const runtime = await startRuntime({ device });
  try {
    const [a, b] = [input("a", [2, 2]), input("b", [2, 2])];
    const feeds = { a: Float32Array.of(1, 2, 3, 4), b: Float32Array.of(5, 6, 7, 8) };
    const { y } = await runtime.evaluate({ y: matmul(a, b) }, feeds);
    if (String(y) !== "19,22,43,50") throw new Error(`found ${y} for a product that is 19,22,43,50`);
  } finally {
    await runtime.close();
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

function bytes(): Check {
  const name = "products in 8 bits";
  const found = multipliesBytes();
  if (found === undefined) return { name, ok: true, found: "not known" };
  if (found) return { name, ok: true, found: "--int8 is faster than without" };
  return { name, ok: true, absent: true, found: "a CPU without VNNI" };
}

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

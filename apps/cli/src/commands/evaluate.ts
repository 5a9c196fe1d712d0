/** `likeness evaluate`: judges a model's personalization as a config says, and writes a report. */
import { execFileSync } from "node:child_process";
import { basename, dirname, join } from "node:path";
import { atomicWrite, type Device, type Runtime, startRuntime } from "@likeness/engine";
import {
  type Evaluation,
  type EvaluationConfig,
  evaluationReport,
  evaluationSheets,
  keepMeasurements,
  openEvaluation,
  readEvaluationConfig,
  runEvaluation,
  type SheetLink,
  summarize,
} from "@likeness/personalization";
import { defineCommand } from "../args/command.ts";
import type { Bar, Progress } from "../console/progress.ts";
import { measureTimings } from "../evaluation/timings.ts";
import { contactSheet } from "../images/contact-sheet.ts";
import { writePng } from "../images/write-png.ts";
import { expectFile, expectNewFile, expectOutputFolder, findModel } from "../paths.ts";
import { DEVICE } from "./shared-flags.ts";

/** What teaching compiles: pictures to latents, the encoder, a tuning step in one or two programs. The next subject needs the same. */
const KEPT = 4;

export default defineCommand({
  name: "evaluate",
  summary: "Judges a model's personalization as a config says; goes on where the last run stopped.",
  positional: { name: "CONFIG.json", description: "config of the evaluation", aliases: ["config"] },
  flags: {
    device: DEVICE,
    reportOnly: {
      type: "boolean",
      description: "measures nothing: writes the report of what has been measured so far",
    },
  },
  examples: ["likeness evaluate models/pocket/training/6-evaluation.json"],
  async run(path, { device, reportOnly }, { signal, progress, print, json }) {
    const config = expectPaths(readEvaluationConfig(expectFile("config", path)));
    const runtime = await startRuntime({ device: device as Device, keepPrograms: KEPT });
    try {
      const evaluation = openEvaluation(runtime, config, { commit: commit(), date: today() });
      for (const { name, skipped } of evaluation.plan.skipped) progress.warn(`${name}: skipped, ${skipped}`);
      if (!reportOnly) await measure(runtime, evaluation, progress, signal);
      signal.throwIfAborted();
      const sheets = await writeSheets(evaluation);
      const report = evaluationReport(evaluation, `likeness evaluate ${path}`, sheets);
      atomicWrite(config.out, [new TextEncoder().encode(report)]);
      keepMeasurements(evaluation);
      print(json ? resultOf(evaluation) : config.out);
    } finally {
      await runtime.close();
    }
  },
});

/** Measures what isn't measured yet, the times of whole processes last. */
async function measure(
  runtime: Runtime,
  evaluation: Evaluation,
  progress: Progress,
  signal: AbortSignal,
): Promise<void> {
  const { plan, records } = evaluation;
  let bar: Bar | undefined;
  await runEvaluation(runtime, evaluation, {
    signal,
    onPictures: ({ done, total, row }) => {
      bar ??= progress.bar("Pictures", total, { unit: "img", start: done });
      bar.update(done, row === "" ? {} : { row });
    },
  });
  if (!plan.timing || records.known.has(plan.timing.key)) return;
  progress.note("Timing whole processes");
  const timing = await measureTimings(evaluation, process.argv[1]!, signal);
  if (timing) records.add(timing);
}

/** The config with its model found; all paths checked. */
const expectPaths = (config: EvaluationConfig): EvaluationConfig => ({
  ...config,
  model: findModel(config.model),
  set: expectFile("set", config.set),
  judge: findModel(config.judge, "judge"),
  run: expectOutputFolder("run", config.run),
  out: expectNewFile("out", config.out, ".md"),
});

async function writeSheets(evaluation: Evaluation): Promise<SheetLink[]> {
  const { config, model } = evaluation;
  const side = model.resolution;
  const links: SheetLink[] = [];
  for (const { name, title, columns, tiles } of evaluationSheets(evaluation)) {
    const file = `${basename(config.out, ".md")}-${name}.png`;
    const pictures = tiles.map(({ pixels, caption }) => ({
      picture: { data: pixels, width: side, height: side },
      caption,
    }));
    await writePng(join(dirname(config.out), file), await contactSheet(pictures, { columns, cell: 128, title }));
    links.push({ file, title });
  }
  return links;
}

/** For --json: the rows' means. */
function resultOf(evaluation: Evaluation): object {
  const { config } = evaluation;
  const { rows, backbone } = summarize(evaluation);
  const short = (x: number): number | null => (Number.isNaN(x) ? null : Number(x.toPrecision(5)));
  return {
    path: config.out,
    run: config.run,
    backbone: backbone ?? null,
    methods: rows.map((r) => ({
      name: r.method.name,
      subjects: r.subjects,
      skipped: r.method.skipped ?? null,
      clip_i: short(r.clipI.mean),
      clip_t: short(r.clipT.mean),
      instance: short(r.instance.mean),
      top1: short(r.top1.mean),
      top5: short(r.top5.mean),
      prompt: short(r.prompt.mean),
      entropy: short(r.entropy),
    })),
  };
}

/** The code that measures: the commit of the folder's repository, "-dirty" if it has changes. */
function commit(): string {
  try {
    const args = ["describe", "--always", "--dirty", "--exclude=*"];
    return execFileSync("git", args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch {
    return "unknown";
  }
}

const today = (): string => new Date().toISOString().slice(0, 10);

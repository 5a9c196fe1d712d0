/** `likeness evaluate` from outside, on a toy model and a set of the world's: report, sheets, resumption, Ctrl-C. */
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadModel } from "@likeness/diffusion";
import { FIXTURES } from "@likeness/engine/testing";
import sharp from "sharp";
import { afterAll, beforeAll, expect, test } from "vitest";
import { writeToyEncoder } from "../../../packages/personalization/test/toy-encoder.ts";
import { writeToyJudge } from "../../../packages/personalization/test/toy-judge.ts";
import { drawSprites, subjectBy, writeEvaluationSet } from "../../../packages/world/src/index.ts";
import { type Ended, endOf, type LikenessProcess, startLikeness } from "./likeness.ts";

const folder = mkdtempSync(join(tmpdir(), "likeness-evaluate-run-"));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (...names: string[]): string => join(folder, ...names);

beforeAll(async () => {
  cpSync(join(FIXTURES, "models", "sd1"), at("sd1"), { recursive: true });
  writeToyJudge(at("judge"));
  writeToyEncoder(at("sd1", "tuning_encoder"), loadModel(at("sd1")));
  const among = ["fox", "owl", "wolf"].map(subjectBy); // the wolf is trained, the others are held out
  const size = { among, size: 16, prompts: 2, backbone: 2, names: 3 };
  writeEvaluationSet(at("set.safetensors"), await drawSprites(among), { split: "held-out", seed: 5, ...size });
});

const write = (name: string, changes: object = {}): string => {
  const paths = { model: "sd1", set: "set.safetensors", judge: "judge", run: `runs/${name}` };
  const small = { images: 1, batch_size: 1, sheet_subjects: 1, sampling: { steps: 1 } };
  const methods = [{ method: "class-word" }, { method: "date", steps: 1 }];
  const config = { ...paths, out: `docs/${name}.md`, ...small, methods, ...changes };
  writeFileSync(at(`${name}.json`), JSON.stringify(config));
  return `${name}.json`;
};

const start = (...args: string[]): LikenessProcess => startLikeness(["evaluate", ...args], { cwd: folder });
const evaluate = (...args: string[]): Promise<Ended> => endOf(start(...args));

const records = (name: string): string => readFileSync(at("runs", name, "records.ndjson"), "utf8");

test("report and sheets from a set that the world wrote; run again, it measures nothing and says the same", async () => {
  const first = await evaluate(write("whole"));
  expect(first, first.err).toMatchObject({ code: 0, out: "docs/whole.md\n" });
  expect(readdirSync(at("docs")).sort()).toEqual([
    "whole-methods.png",
    "whole-subjects.png",
    "whole.md",
    "whole.ndjson.gz",
  ]);
  const report = readFileSync(at("docs", "whole.md"), "utf8");
  for (const row of ["class word only", "1 steps"])
    expect(report).toMatch(new RegExp(`^\\| ${row} \\| -?0\\.\\d{3} ±`, "m"));
  for (const link of ["whole-methods.png", "whole-subjects.png"]) expect(report).toContain(`](${link})`);
  expect((await sharp(at("docs", "whole-subjects.png")).metadata()).width).toBeGreaterThan(3 * 128);
  const before = records("whole");
  expect(before.trim().split("\n")).toHaveLength(2 + 2 * 2 * 2); // prompts of the base model; methods by subjects, taught and judged
  const more = write("more", { methods: [{ method: "class-word" }, { method: "no-encoder" }], run: "runs/whole" });
  expect(await evaluate(more, "--report-only")).toMatchObject({ code: 0, out: "docs/more.md\n" });
  expect(readFileSync(at("docs", "more.md"), "utf8")).toContain("| 12 steps without encoder | skipped: not measured |");
  expect(records("whole")).toBe(before);
  const { code, out, err } = await evaluate("whole.json", "--json");
  expect(code, err).toBe(0);
  const result = JSON.parse(out);
  expect(result).toMatchObject({ path: "docs/whole.md", backbone: { prompts: 2 } });
  expect(result.methods.map((m: { name: string }) => m.name)).toEqual(["class word only", "1 steps"]);
  for (const line of err.trim().split("\n")) expect(JSON.parse(line)).toHaveProperty("event");
  expect(records("whole")).toBe(before);
  expect(readFileSync(at("docs", "whole.md"), "utf8")).toBe(report);
});

test("with the numbers beside the report, a run without its folder goes on; what isn't numbers there is refused", async () => {
  const methods = [{ method: "class-word" }];
  expect(await evaluate(write("kept", { methods, sheet_subjects: 0 }))).toMatchObject({ code: 0 });
  const report = readFileSync(at("docs", "kept.md"), "utf8");
  rmSync(at("runs", "kept"), { recursive: true });
  expect(await evaluate("kept.json")).toMatchObject({ code: 0 });
  expect(existsSync(at("runs", "kept", "records.ndjson"))).toBe(false); // nothing was measured
  expect(readFileSync(at("docs", "kept.md"), "utf8")).toBe(report);
  write("kept", { methods, images: 2, sheet_subjects: 0 });
  expect(await evaluate("kept.json")).toMatchObject({ code: 0 });
  expect(records("kept").trim().split("\n")).toHaveLength(2 * 2); // the second seed, for which the concepts are taught again
  writeFileSync(at("docs", "kept.ndjson.gz"), "{}");
  const { code, err } = await evaluate("kept.json");
  expect(code).toBe(2);
  expect(err).toMatch(/kept\.ndjson\.gz.*needed lines of JSON, gzipped, found .*E_EVALUATION_RECORDS/);
});

test("a method on fewer subjects than the sheets show isn't on them", async () => {
  const methods = [{ method: "class-word" }, { method: "no-encoder", steps: 1, subjects: 1 }];
  const { code, err } = await evaluate(write("few", { methods, backbone: 0, sheet_subjects: 2 }));
  expect(code, err).toBe(0);
  const report = readFileSync(at("docs", "few.md"), "utf8");
  expect(report).toContain("1 steps without encoder (1 subject");
  expect(report).toContain("## Held-out subjects: class word only");
});

test("Ctrl-C ends it within a second with code 130, writes no report, and the next run goes on", async () => {
  write("stopped", { methods: [{ method: "class-word" }, { method: "no-encoder", steps: 100_000 }] });
  const child = start("stopped.json", "--json");
  const ended = new Promise<number | null>((r) => child.once("exit", r));
  const file = at("runs", "stopped", "records.ndjson");
  while (!existsSync(file) || records("stopped").split("\n").length < 5) {
    expect(child.exitCode).toBe(null);
    await new Promise((r) => setTimeout(r, 50));
  }
  await new Promise((r) => setTimeout(r, 2500)); // it is tuning by now
  const since = performance.now();
  child.kill("SIGINT");
  expect(await ended).toBe(130);
  expect(performance.now() - since).toBeLessThan(1000);
  expect(existsSync(at("docs", "stopped.md"))).toBe(false);
  const kept = records("stopped");
  write("stopped", { methods: [{ method: "class-word" }] });
  expect(await evaluate("stopped.json")).toMatchObject({ code: 0 });
  expect(records("stopped")).toBe(kept);
});

test("timings are of whole processes, and kept", async () => {
  write("timed", { methods: [{ method: "class-word" }], backbone: 0, subjects: 1, timings: 1 });
  const { code, err } = await evaluate("timed.json");
  expect(code, err).toBe(0);
  const timing = records("timed")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line))
    .find((r) => r.kind === "timing");
  expect(timing.personalize[0]).toBeGreaterThan(0.3);
  expect(timing.generate[0]).toBeGreaterThan(0.3);
  expect(readFileSync(at("docs", "timed.md"), "utf8")).toMatch(
    /from photo to concept file \d+\.\d s \(\d+\.\d\), four pictures/,
  );
});

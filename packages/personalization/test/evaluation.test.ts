/** A whole evaluation on a toy model in this process: what is measured, kept, resumed and reported. */
import { appendFileSync, cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadModel } from "@likeness/diffusion";
import {
  counterRandom,
  type Runtime,
  readFloats,
  readSafetensorsHeader,
  startRuntime,
  writeSafetensors,
} from "@likeness/engine";
import { FIXTURES } from "@likeness/engine/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { EvaluationConfig } from "../src/evaluation/config.ts";
import type { JudgedRecord, Named, RunRecord } from "../src/evaluation/records.ts";
import { evaluationReport } from "../src/evaluation/report.ts";
import { openEvaluation, runEvaluation } from "../src/evaluation/run.ts";
import { openSampler } from "../src/evaluation/sampler.ts";
import { captionOf, type EvaluationSet, openEvaluationSet } from "../src/evaluation/set.ts";
import { evaluationSheets } from "../src/evaluation/sheets.ts";
import { differences, rowOver, summarize } from "../src/evaluation/summary.ts";
import { generateConcept } from "../src/generate.ts";
import { personalize } from "../src/personalize.ts";
import { writeToyEncoder } from "./toy-encoder.ts";
import { writeToyJudge } from "./toy-judge.ts";

const folder = mkdtempSync(join(tmpdir(), "evaluation-"));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (...names: string[]): string => join(folder, ...names);
const SIDE = 16;
let runtime: Runtime;

const choices = [
  { attribute: "place", right: 0, captions: ["{1} on the beach", "{1} in the snow"] },
  { attribute: "count", right: 0, captions: ["{1} on the beach", "{2} on the beach", "{3} on the beach"] },
];
const content = {
  seed: 1,
  subjects: [0, 1].map((i) => ({
    ...{ name: `fox ${i}`, instance: i + 1, class_word: "fox", nouns: ["a fox", "two foxes", "three foxes"] },
  })),
  prompts: [
    { prompt: "a <S*> on the beach", caption: "{1} on the beach", choices },
    { prompt: "a photo of a <S*>", caption: "a photo of {1}", choices: [] },
  ],
  backbone: {
    names: [
      ["a fox", "two foxes", "three foxes"],
      ["a cat", "two cats", "three cats"],
    ],
    prompts: [{ prompt: "a cat on the beach", name: 1, caption: "{1} on the beach", choices: choices.slice(0, 1) }],
  },
};

function writeSet(name: string, metadata: unknown = content, photos: number = 2): string {
  const random = counterRandom(2, "set");
  const pictures = (n: number) => ({
    dtype: "U8" as const,
    shape: [n, SIDE, SIDE, 3],
    data: Uint8Array.from({ length: n * SIDE * SIDE * 3 }, () => random.int(256)),
  });
  const evaluation = typeof metadata === "string" ? metadata : JSON.stringify(metadata);
  writeSafetensors(at(name), { images: pictures(4), photos: pictures(photos), scenes: pictures(1) }, { evaluation });
  return at(name);
}

beforeAll(async () => {
  runtime = await startRuntime({ inProcess: true });
  for (const name of ["bare", "sd1"]) cpSync(`${FIXTURES}/models/sd1`, at(name), { recursive: true });
  writeToyJudge(at("judge"));
  writeToyEncoder(at("sd1", "tuning_encoder"), loadModel(at("sd1")));
  writeSet("set.safetensors");
});

const configOf = (run: string, changes: object = {}): EvaluationConfig =>
  EvaluationConfig.parse({
    ...{ model: at("sd1"), set: at("set.safetensors"), judge: at("judge") },
    ...{ run: at(run), out: at(`${run}.md`), images: 2, batch_size: 2, sheet_subjects: 1 },
    sampling: { steps: 1, batch_size: 3 },
    methods: [{ method: "class-word" }, { method: "encoder" }],
    ...changes,
  });
const stamp = { commit: "abc1234", date: "2026-11-25" };
const open = (config: EvaluationConfig, given = stamp) => openEvaluation(runtime, config, given);
const lines = (run: string): RunRecord[] =>
  readFileSync(at(run, "records.ndjson"), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as RunRecord);

test("each method and subject is one line with all that was measured, and the report has every row", async () => {
  const evaluation = open(configOf("whole"));
  const told: number[] = [];
  await runEvaluation(runtime, evaluation, { onPictures: ({ done, total }) => told.push(done / total) });
  expect(told[0]).toBe(0);
  expect(told.at(-1)).toBe(1);
  const found = lines("whole");
  // two methods by two subjects: taught and judged with the first seed, judged with the second
  const kinds = ["backbone", ...Array(4).fill(["concept", "judged"]).flat(), ...Array(4).fill("judged")];
  expect(found.map((r) => r.kind)).toEqual(kinds);
  for (const { cosine, word, ...record } of found.filter((r) => r.kind === "concept")) {
    expect(record).toMatchObject(stamp);
    expect(cosine).toBeLessThanOrEqual(1.0001);
    expect(word).toMatch(/\w/);
  }
  for (const { cells, ...record } of found.filter((r) => r.kind === "judged")) {
    expect(record).toMatchObject(stamp);
    expect(cells.map((c) => c.prompt)).toEqual([0, 1]);
    for (const { rank, clip_i, clip_t, instance } of cells) {
      expect([1, 2, 3, 4]).toContain(rank);
      for (const c of [clip_i, clip_t, instance]) expect(Math.abs(c)).toBeLessThanOrEqual(1.0001);
    }
    expect(Object.keys(cells[0]!.attributes)).toEqual(["place", "count"]);
    expect(cells[1]!.attributes).toEqual({});
  }
  const report = evaluationReport(evaluation, "likeness evaluate x.json", []);
  expect(report).toMatch(
    /^# sd1: personalization from one photo\n\nWritten by `likeness evaluate x.json`\. Model [0-9a-f]{16}, seed 0, commit abc1234, 2026-11-25\./,
  );
  expect(report).toMatch(/\| class word only \| -?0\.\d{3} ± 0\.\d{3} \|/);
  expect(report).toMatch(/\| encoder only, 0 steps \| -?0\.\d{3} ± 0\.\d{3} \|/);
  expect(report).toMatch(/Of the photos themselves, retrieval finds \d+\.0% first and 100\.0% among five\./);
  expect(report).toMatch(
    /Of 1 pictures, one a prompt, the judge names \d.*\. Of true pictures for the same prompts: \d/,
  );
  const [subjects, methods] = evaluationSheets(evaluation);
  expect([subjects!.tiles.length, subjects!.columns]).toEqual([3, 3]); // a photo and two prompts of one subject
  expect([methods!.tiles.length, methods!.columns]).toEqual([6, 3]);
  const more = configOf("whole", { methods: [{ method: "encoder" }, { method: "no-encoder" }] }); // not measured
  expect(evaluationSheets(open(more))[1]!.tiles).toHaveLength(3);
});

test("the numbers of a row are the means of its lines", () => {
  const evaluation = open(configOf("whole"));
  const { methods, plan, records } = evaluation;
  const { rows, commits, dates } = summarize(evaluation);
  expect([commits, dates]).toEqual([["abc1234"], ["2026-11-25"]]);
  const judged = lines("whole").filter((r) => r.kind === "judged") as JudgedRecord[];
  const mean = (xs: number[]): number => xs.reduce((a, b) => a + b) / xs.length;
  const each = [0, 1].map((subject) => {
    const mine = judged.filter((r) => r.method === "class word only" && r.subject === subject);
    return mean(mine.flatMap((r) => r.cells.map((c) => c.clip_i)));
  });
  expect(rows[0]!.clipI.mean).toBeCloseTo(mean(each), 6);
  expect(rows[0]!.clipI.error).toBeCloseTo(Math.abs(each[0]! - each[1]!) / 2, 6);
  expect(rowOver(methods[0]!, plan, records, 1).clipI.mean).toBeCloseTo(each[0]!, 6);
  expect(rows[0]!.top5.mean).toBe(1); // there are four instances
  expect(rows[0]).toMatchObject({ words: 1, entropy: 0, subjects: 2 }); // the class word's own embedding
  expect(rows[0]!.cosine.mean).toBeCloseTo(1, 5);
  expect(rows[0]!.offsets.mean).toBe(0);
});

test("rows are held against a reference subject by subject, over the subjects that both have", async () => {
  const methods = [{ method: "class-word" }, { method: "encoder" }, { method: "no-encoder", steps: 0, subjects: 1 }];
  const evaluation = open(configOf("paired", { methods, reference: "encoder only, 0 steps", backbone: 0 }));
  await runEvaluation(runtime, evaluation);
  const cells = (method: string, subject: number) =>
    lines("paired").flatMap((r) =>
      r.kind === "judged" && r.method === method && r.subject === subject ? r.cells : [],
    );
  const mean = (xs: number[]): number => xs.reduce((a, b) => a + b) / xs.length;
  const instance = (method: string, subject: number) => mean(cells(method, subject).map((c) => c.instance));
  const [word, one] = differences(evaluation, "encoder only, 0 steps");
  const each = [0, 1].map((s) => instance("class word only", s) - instance("encoder only, 0 steps", s));
  expect(each[0]).not.toBeCloseTo(each[1]!, 4);
  expect(word).toMatchObject({ subjects: 2, method: { name: "class word only" }, top5: { mean: 0, error: 0 } });
  expect(word!.instance.mean).toBeCloseTo(mean(each), 6);
  expect(word!.instance.error).toBeCloseTo(Math.abs(each[0]! - each[1]!) / 2, 6);
  expect(one!.subjects).toBe(1);
  const d = instance("0 steps without encoder", 0) - instance("encoder only, 0 steps", 0);
  const shown = `${d < 0 ? "−" : "+"}${Math.abs(d).toFixed(3)}`;
  const report = evaluationReport(evaluation, "x", []);
  expect(report).toMatch(
    /## Against encoder only, 0 steps\n\n.*\n\n\| method .*\n\|.*\n\| class word only \| 2 \| [+−]0\.\d{3} ± 0\.\d{3} \| \+0\.0% ± 0\.0% \| [+−]/,
  );
  expect(report).toContain(`| 0 steps without encoder | 1 | ${shown} |`);
  expect(() => open(configOf("paired", { reference: "encoder" }))).toThrow(
    'reference: needed the name of a row, found "encoder". Take one of "class word only", "encoder only, 0 steps".',
  );
});

test("where one of a row and the reference has more seeds, those that both have are compared", async () => {
  const methods = [{ method: "class-word" }, { method: "encoder" }, { method: "no-encoder", steps: 0 }];
  const [word, encoder, none] = ["class word only", "encoder only, 0 steps", "0 steps without encoder"] as const;
  const config = { methods, reference: encoder, backbone: 0 };
  await runEvaluation(runtime, open(configOf("seeds", { ...config, images: 1 })));
  await runEvaluation(runtime, open(configOf("seeds", { methods: methods.slice(1), backbone: 0 })));
  const [one, two] = [open(configOf("seeds", { ...config, images: 1 })), open(configOf("seeds", config))];
  expect(summarize(two).rows.map((r) => r.seeds)).toEqual([1, 2, 2]);
  const between = (of: typeof one, name: string, reference: string) =>
    differences(of, reference).find(({ method }) => method.name === name)!.instance;
  expect(between(two, word, encoder).mean).not.toBe(0);
  expect(between(two, word, encoder)).toEqual(between(one, word, encoder));
  expect(between(two, encoder, word)).toEqual(between(one, encoder, word));
  expect(between(two, none, encoder)).not.toEqual(between(one, none, encoder));
});

test("the base model's names are told look by look", () => {
  const look = (right: number) => ({
    ...{ attribute: "look", right, names: ["none", "neon", "pixel art"] },
    captions: ["{1}", "{1} in neon", "pixel art of {1}"],
  });
  const prompts = [[], [look(1)], [look(2)], [look(1), choices[0]!]].map((choices, i) => ({
    ...{ prompt: `prompt ${i}`, name: 1, caption: "{1}", choices },
  }));
  const set = { backbone: { ...content.backbone, prompts } } as Pick<EvaluationSet, "backbone">;
  const named = (rank: number, attributes: Record<string, number>) => ({ clip_t: 0, rank, attributes });
  const record = (prompt: number, seen: Named, truth: Named): RunRecord => ({
    ...{ kind: "backbone", key: String(prompt), prompt, ...seen, truth, ...stamp },
  });
  const found = [
    record(0, named(1, {}), named(2, {})),
    record(1, named(3, { look: 1 }), named(1, { look: 1 })),
    record(2, named(1, { look: 0 }), named(1, { look: 1 })),
    record(3, named(1, { look: 0, place: 1 }), named(1, { look: 1, place: 0 })),
  ];
  const evaluation = open(configOf("whole", { methods: [{ method: "class-word" }] }));
  const measured = {
    ...{
      methods: [],
      set: { ...evaluation.set, ...set },
      records: { known: new Map(found.map((r) => [r.key, r])), add: () => {} },
    },
    plan: { ...evaluation.plan, trials: [], shots: [], backbone: found.map(({ key }, prompt) => ({ key, prompt })) },
  };
  const { looks } = summarize(measured);
  expect(looks.map((l) => [l.asked, l.prompts, l.name, l.place, l.look])).toEqual([
    ["neon", 2, 0.5, 1, 0.5],
    ["none", 1, 1, Number.NaN, Number.NaN],
    ["pixel art", 1, 1, Number.NaN, 0],
  ]);
  expect(looks[0]!.truth).toMatchObject({ name: 1, place: 0, look: 1, scene: 2 / 3 });
  const report = evaluationReport({ ...evaluation, ...measured }, "x", []);
  expect(report).toContain(
    "| neon | 2 | 50.0% | 100.0% | 50.0% | 100.0% | 0.0% | 100.0% |\n| none | 1 | 100.0% |  |  | 0.0% |  |  |",
  );
});

test("what is measured isn't measured again; a new row and a torn line are", async () => {
  await runEvaluation(runtime, open(configOf("whole")));
  expect(lines("whole")).toHaveLength(13);
  appendFileSync(at("whole", "records.ndjson"), '{"kind":"concept","key":"half');
  const more = {
    methods: [{ method: "class-word" }, { method: "encoder" }, { method: "no-encoder", steps: 0, subjects: 1 }],
  };
  const later = { commit: "def5678", date: "2026-11-26" };
  const evaluation = open(configOf("whole", more), later);
  await runEvaluation(runtime, evaluation);
  expect(lines("whole").map((r) => r.commit)).toEqual([...Array(13).fill("abc1234"), ...Array(3).fill("def5678")]);
  expect(evaluationReport(evaluation, "x", [])).toContain("commit abc1234, def5678, 2026-11-25, 2026-11-26");
  expect(evaluationReport(evaluation, "x", [])).toContain("| 0 steps without encoder (1 subject) |");
  const seeds = evaluationReport(open(configOf("whole", { ...more, images: 4 })), "x", []);
  expect(seeds).toContain("| class word only (2 of 4 seeds) |");
  expect(seeds).toContain("| 0 steps without encoder (1 subject, 2 of 4 seeds) |");
  const other = open(configOf("whole", { seed: 9 }));
  expect(other.plan.trials.some((t) => other.records.known.has(t.key))).toBe(false);
});

test("a run that is stopped keeps whole lines and goes on", async () => {
  const controller = new AbortController();
  const config = configOf("stopped", { methods: [{ method: "class-word" }], backbone: 0 });
  const stopped = runEvaluation(runtime, open(config), {
    signal: controller.signal,
    onPictures: ({ done }) => done > 4 && controller.abort(new Error("interrupted")),
  });
  await expect(stopped).rejects.toThrow("interrupted");
  expect(
    lines("stopped")
      .map((r) => r.kind)
      .slice(0, 4),
  ).toEqual(["concept", "judged", "concept", "judged"]);
  await runEvaluation(runtime, open(config));
  expect(lines("stopped")).toHaveLength(6);
});

test("another judge looks at the pictures that are there; more seeds are drawn from the concepts that are there", async () => {
  const config = configOf("again", { methods: [{ method: "class-word" }], images: 1, backbone: 0 });
  await runEvaluation(runtime, open(config));
  const made = readdirSync(at("again", "pictures"));
  expect(made).toHaveLength(2);
  cpSync(at("judge"), at("other-judge"), { recursive: true });
  const file = at("other-judge", "model.safetensors");
  const header = readSafetensorsHeader(file);
  const tensors = [...header.tensors].map(([key, { shape }]) => {
    const data = readFloats(header, key);
    return [
      key,
      { dtype: "F32" as const, shape, data: key === "visual_projection.weight" ? data.map((x) => -x) : data },
    ] as const;
  });
  writeSafetensors(file, Object.fromEntries(tensors));
  await runEvaluation(runtime, open({ ...config, judge: at("other-judge") }));
  expect(readdirSync(at("again", "pictures"))).toEqual(made);
  const judged = (): JudgedRecord[] => lines("again").filter((r) => r.kind === "judged");
  expect(lines("again").map((r) => r.kind)).toEqual(["concept", "judged", "concept", "judged", "judged", "judged"]);
  const [first, , third] = judged();
  expect(third!.cells[0]!.clip_t).toBeCloseTo(-first!.cells[0]!.clip_t, 5);
  await runEvaluation(runtime, open({ ...config, images: 2 }));
  expect(lines("again").filter((r) => r.kind === "concept")).toHaveLength(2);
  expect(readdirSync(at("again", "pictures"))).toHaveLength(4);
});

test("guidance_alpha draws anew what has a share, of concepts that are there; a row's own is in its place", async () => {
  const methods: EvaluationConfig["methods"] = [
    { method: "class-word" },
    { method: "no-encoder", steps: 1 },
    { method: "no-encoder", steps: 1, name: "as it was", guidance_alpha: 1 },
  ];
  const config = configOf("guided", { methods: methods.slice(0, 2), images: 1, subjects: 1, backbone: 1 });
  await runEvaluation(runtime, open(config));
  const sampling = { ...config.sampling, guidance_alpha: 0.5 };
  const stronger = open({ ...config, methods, sampling });
  await runEvaluation(runtime, stronger);
  const kinds = lines("guided").map((r) => r.kind);
  expect(kinds).toEqual(["backbone", "concept", "judged", "concept", "judged", "judged"]);
  expect(readdirSync(at("guided", "concepts"))).toHaveLength(2);
  const [, before, after] = lines("guided").filter((r) => r.kind === "judged");
  const ranks = (r?: JudgedRecord) => r!.cells.map(({ instance }) => instance);
  expect(ranks(after)).not.toEqual(ranks(before));
  expect(evaluationReport(stronger, "x", [])).toContain("whose unconditional half has 0.5 of a concept's share");
});

test("without a tuning-encoder, rows that need one are skipped and say so", () => {
  const evaluation = open(configOf("bare", { model: at("bare") }));
  expect(evaluation.plan.trials.map((t) => t.method.kind)).toEqual(["class-word", "class-word"]);
  const report = evaluationReport(evaluation, "x", []);
  expect(report).toContain("| encoder only, 0 steps | skipped: bare has no tuning_encoder/ yet |");
  expect(report).toContain("| class word only | skipped: not measured |");
});

test("the times are measured anew when the encoder's config changes: its steps are what takes them", () => {
  cpSync(at("sd1"), at("timed"), { recursive: true });
  const key = (): string => open(configOf("timed", { model: at("timed"), timings: 1 })).plan.timing!.key;
  const before = key();
  expect(key()).toBe(before);
  const file = at("timed", "tuning_encoder", "config.json");
  writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, "utf8")), tuning_rank: 8 }));
  expect(key()).not.toBe(before);
});

test("pictures are those of generateConcept, alone or in a batch that isn't full", async () => {
  const model = loadModel(at("sd1"));
  const photo = openEvaluationSet(at("set.safetensors")).photo(0);
  const ask = { steps: 0, learningRate: 0, batchSize: 1, token: "<S*>", classWord: "fox", seed: 1, rank: 2 };
  const start = await personalize(runtime, model, photo, ask);
  const factors = start.factors.map(({ a, b }) => ({ a, b: b.map((_, i) => Math.sin(i)) }));
  const prompts = ["a <S*> on the beach", "a photo of a <S*>", "a <S*> in the snow"];
  for (const [alphaBlend, guidanceAlpha] of [[0.25], [1], [0.25, 0.4], [1, 0.4]] as const) {
    const concept = { ...start, factors, alphaBlend };
    const guidance = { guidanceScale: 3, guidanceRescale: 0.7, guidanceStop: 0.5, guidanceAlpha };
    const sampler = await openSampler(runtime, model, concept, { steps: 2, ...guidance, batch: 2 });
    const drawn = await sampler.draw(
      concept,
      prompts.map((prompt, i) => ({ prompt, seed: 5 + i })),
    );
    await sampler.release();
    const size = { width: SIDE, height: SIDE, numImages: 1, steps: 2, ...guidance };
    for (const [i, prompt] of prompts.entries()) {
      const { images } = await generateConcept(runtime, model, concept, { prompt, ...size, seed: 5 + i });
      const off = Math.max(...images[0]!.map((x, j) => Math.abs(x - drawn[i]![j]!)));
      expect(off).toBeLessThanOrEqual(1); // rounding to bytes
    }
  }
});

test.each<[string, () => unknown, RegExp]>([
  [
    "a set that is none",
    () => openEvaluationSet(writeSet("none.safetensors", "no json")),
    /metadata "evaluation" .*: needed JSON, found other text\. Write the set again\..*E_EVALUATION_SET/,
  ],
  [
    "photos that aren't as many as subjects",
    () => openEvaluationSet(writeSet("few.safetensors", content, 1)),
    /"photos" .*: needed U8 \(2, 16, 16, 3\), found U8 \(1, 16, 16, 3\)/,
  ],
  [
    "an instance that isn't there",
    () =>
      openEvaluationSet(
        writeSet("lost.safetensors", { ...content, subjects: content.subjects.map((s) => ({ ...s, instance: 4 })) }),
      ),
    /instance of fox 0 .*: needed less than 4, found 4/,
  ],
  [
    "names that aren't as many as captions",
    () => {
      const [prompt, ...rest] = content.prompts;
      const named = { ...prompt!, choices: [{ ...choices[0]!, names: ["beach"] }] };
      return openEvaluationSet(writeSet("names.safetensors", { ...content, prompts: [named, ...rest] }));
    },
    /names of place of "\{1\} on the beach" .*: needed 2, one a caption, found 1/,
  ],
  [
    "more subjects than there are",
    () => open(configOf("many", { subjects: 3 })),
    /subjects .*: needed at least 3.* found 2/,
  ],
  [
    "two rows of one name",
    () => open(configOf("twice", { methods: [{ method: "class-word" }, { method: "class-word" }] })),
    /methods: needed a name of its own for each row, found "class word only" twice\. Give one of them a "name"/,
  ],
  ["a key that isn't known", () => configOf("typo", { subject: 3 }), /subject/],
])("%s is refused", (_name, act, message) => expect(act).toThrow(message));

test("captions about something", () => {
  expect(captionOf("a photo of {2} on the beach", ["a fox", "two foxes", "three foxes"])).toBe(
    "a photo of two foxes on the beach",
  );
});

/** The report of a run as Markdown: every number comes from the run's lines. */
import type { MethodSpec } from "../baselines/spec.ts";
import type { Plan } from "./protocol.ts";
import type { Evaluation } from "./run.ts";
import { differences, type Estimate, type Naming, type Row, rowOver, type Summary, summarize } from "./summary.ts";

/** Contact sheets beside the report: file name and what it shows. */
export interface SheetLink {
  readonly file: string;
  readonly title: string;
}

/** docs/evaluation.md says what the numbers mean; the command that made it is in the first lines. */
export function evaluationReport(evaluation: Evaluation, command: string, sheets: readonly SheetLink[]): string {
  const summary = summarize(evaluation);
  const parts = [
    heading(evaluation, summary, command),
    backbone(summary),
    methods(summary, evaluation.plan),
    against(evaluation),
    collapse(summary, evaluation.plan),
    itself(summary),
    timing(summary),
    bars(summary, evaluation),
    sheets.map(({ file, title }) => `## ${title}\n\n![${title}](${file})`).join("\n\n"),
  ];
  return `${parts.filter((part) => part !== "").join("\n\n")}\n`;
}

function heading({ model, set, plan, config }: Evaluation, { commits, dates }: Summary, command: string): string {
  const {
    steps,
    guidance_scale: g,
    guidance_rescale: phi,
    guidance_stop: stop,
    guidance_alpha: a,
    scheduler,
  } = config.sampling;
  const more = [
    phi !== undefined && `rescaled ${phi}`,
    stop !== undefined && `in the first ${percent(stop)} of them`,
    a !== undefined && `whose unconditional half has ${a} of a concept's share`,
  ];
  const guidance = [`guidance ${g}`, ...more.filter((x) => x !== false)].join(", ");
  const sampler = `${scheduler ?? "the model's scheduler"}, ${steps} steps, ${guidance}`;
  return [
    `# ${model.name}: personalization from one photo`,
    `Written by \`${command}\`. Model ${model.fingerprint}, seed ${plan.seed}, commit ${commits.join(", ")}, ${dates.join(", ")}. ` +
      `${plan.subjects} subjects that training has not seen, one photo each, ${plan.prompts} prompts, seeds a prompt: ${plan.seeds.length}; ` +
      `${sampler}. Retrieval among ${set.instances} instances. ± is the standard error over subjects.`,
  ].join("\n\n");
}

function backbone({ backbone: b, looks }: Summary): string {
  if (!b) return "";
  const names = (n: Naming): string =>
    `${percent(n.name)} by the right subject, ${percent(n.scene)} of places and looks`;
  const all = `## The base model\n\nOf ${b.prompts} pictures, one a prompt, the judge names ${names(b)}. Of true pictures for the same prompts: ${names(b.truth)}.`;
  if (looks.length < 2) return all;
  const told = (n: Naming): string[] => [n.name, n.place, n.look].map(percent);
  const head = ["look", "pictures", "subject", "place", "look", "true: subject", "true: place", "true: look"];
  const body = looks.map((l) => [l.asked, String(l.prompts), ...told(l), ...told(l.truth)]);
  return `${all}\n\n${markdown(head, body)}`;
}

function methods({ rows, photos }: Summary, plan: Plan): string {
  const named = [...new Set(rows.flatMap((r) => Object.keys(r.attributes)))];
  const head = [
    "method",
    "CLIP-I",
    "instance",
    "top-1",
    "top-5",
    "CLIP-T",
    "prompt",
    ...named,
    "top-5 × prompt",
    "seconds",
  ];
  const cells = (r: Row): string[] => [
    plusMinus(r.clipI, three),
    plusMinus(r.instance, three),
    plusMinus(r.top1, percent),
    plusMinus(r.top5, percent),
    plusMinus(r.clipT, three),
    plusMinus(r.prompt, percent),
    ...named.map((a) => (r.attributes[a] ? percent(r.attributes[a].mean) : "")),
    percent(together(r)),
    r.seconds.mean.toFixed(2),
  ];
  const trust = photos
    ? `\n\nOf the photos themselves, retrieval finds ${percent(photos.top1)} first and ${percent(photos.top5)} among five.`
    : "";
  return `## Methods\n\n${table(head, rows, cells, plan)}${trust}`;
}

/** The rows without the reference, as differences from it. */
function against(evaluation: Evaluation): string {
  const { reference } = evaluation.config;
  if (reference === undefined) return "";
  const body = differences(evaluation, reference)
    .filter((d) => d.subjects > 0)
    .map((d) => [
      d.method.name,
      String(d.subjects),
      plusMinus(d.instance, three, (x) => signed(x, three)),
      plusMinus(d.top5, percent, (x) => signed(x, percent)),
      plusMinus(d.prompt, percent, (x) => signed(x, percent)),
    ]);
  const head = ["method", "subjects", "instance", "top-5", "prompt"];
  return `## Against ${reference}\n\nMean differences over subjects and their standard errors, from the seeds that both rows have; those of shares in points.\n\n${markdown(head, body)}`;
}

function collapse({ rows }: Summary, plan: Plan): string {
  const head = ["method", "different nearest words", "entropy", "largest", "cosine to it", "‖v*‖", "‖AB‖²"];
  const cells = (r: Row): string[] => [
    `${r.words} of ${r.subjects}`,
    r.entropy.toFixed(2),
    Math.log(r.subjects).toFixed(2),
    plusMinus(r.cosine, three),
    plusMinus(r.norm, three),
    r.offsets.mean.toPrecision(3),
  ];
  return `## Where the embeddings and offsets are\n\n${table(head, rows, cells, plan)}`;
}

/** The two losses that the paper tells about itself. */
function itself({ rows }: Summary): string {
  const [untuned, single] = [firstOf(rows, "encoder"), firstOf(rows, "no-dual-path")];
  const date = firstOf(rows, "date");
  // what is left out is all that differs: the row of the same masks
  const dual = measured(rows).find(
    (r) => r.method.kind === "date" && r.method.settings.mask === single?.method.settings.mask,
  );
  const line = (what: string, from: Estimate, to: Estimate, show: (x: number) => string): string =>
    `${what} goes from ${show(from.mean)} to ${show(to.mean)}${from.mean === 0 ? "" : ` (${signed(to.mean / from.mean - 1)} of it)`}`;
  const lines: string[] = [];
  if (date && untuned)
    lines.push(
      `- Without tuning ${line("CLIP-I", date.clipI, untuned.clipI, three)}, ${line("the cosine of instances", date.instance, untuned.instance, three)}, ${line("top-5", date.top5, untuned.top5, percent)}. The paper: object similarity falls by 20%.`,
    );
  if (dual && single)
    lines.push(
      `- Without the dual path ${line("CLIP-T", dual.clipT, single.clipT, three)}, ${line("prompt accuracy", dual.prompt, single.prompt, percent)}. The paper: text alignment falls by nearly 30%.`,
    );
  return lines.length > 0 ? `## What the paper says about itself\n\n${lines.join("\n")}` : "";
}

function timing({ timing: t }: Summary): string {
  if (!t) return "";
  const times = (xs: readonly number[]): string =>
    `${median(xs).toFixed(1)} s (${xs.map((x) => x.toFixed(1)).join(", ")})`;
  return `## Time\n\nWhole processes on ${t.cores} cores (${t.cpu}), the middle of ${t.personalize.length}: from photo to concept file ${times(t.personalize)}, four pictures ${times(t.generate)}.`;
}

/** What was to be shown, and whether it is. */
function bars({ rows, backbone: b, timing: t }: Summary, { plan, records }: Evaluation): string {
  const [date, word] = [firstOf(rows, "date"), firstOf(rows, "class-word")];
  const lines: string[] = [];
  const bar = (met: boolean, text: string): number => lines.push(`- ${met ? "met" : "**not met**"}: ${text}`);
  if (b) {
    bar(b.name >= 0.6, `the right subject in at least 60% of the base model's pictures: ${percent(b.name)}`);
    bar(b.scene >= 0.9, `the right place or look in at least 90%: ${percent(b.scene)}`);
  }
  if (date && word) {
    const often = `${percent(date.top5.mean)} and ${percent(word.top5.mean)}`;
    bar(
      date.top5.mean > 0 && date.top5.mean >= 3 * word.top5.mean,
      `top-5 at least three times the class word's: ${often}`,
    );
    const both = `${percent(date.prompt.mean)} and ${percent(word.prompt.mean)}`;
    bar(date.prompt.mean >= 0.9 * word.prompt.mean, `at least 90% of the class word's prompt accuracy: ${both}`);
  }
  const loras = measured(rows).filter((r) => r.method.kind === "lora" && Number(r.method.settings.steps) >= 400);
  for (const lora of date ? loras : []) {
    const ours = rowOver(date!.method, plan, records, lora.subjects);
    const both = `${percent(together(ours))} and ${percent(together(lora))} on the same ${lora.subjects} subjects`;
    bar(together(ours) > together(lora), `ahead of ${lora.method.name} in top-5 × prompt: ${both}`);
  }
  if (t) {
    bar(median(t.personalize) <= 5, `photo to concept file in at most 5 s: ${median(t.personalize).toFixed(1)} s`);
    bar(median(t.generate) <= 5, `four pictures in at most 5 s: ${median(t.generate).toFixed(1)} s`);
  }
  return lines.length > 0 ? `## What was to be shown\n\n${lines.join("\n")}` : "";
}

function table(
  head: readonly string[],
  rows: readonly Row[],
  cells: (row: Row) => readonly string[],
  { subjects, seeds }: Plan,
): string {
  const body = rows.map((r) => {
    const why = r.method.skipped ?? (r.subjects === 0 ? "not measured" : undefined);
    const part = [
      r.subjects < subjects && `${r.subjects} subject${r.subjects === 1 ? "" : "s"}`,
      r.seeds < seeds.length && `${Number(r.seeds.toFixed(2))} of ${seeds.length} seeds`,
    ].filter((x) => x !== false);
    if (why === undefined) return [`${r.method.name}${part.length > 0 ? ` (${part.join(", ")})` : ""}`, ...cells(r)];
    return [r.method.name, `skipped: ${why}`, ...head.slice(2).map(() => "")];
  });
  return markdown(head, body);
}

function markdown(head: readonly string[], body: readonly (readonly string[])[]): string {
  const line = (texts: readonly string[]): string => `| ${texts.join(" | ")} |`;
  return [line(head), `|${head.map(() => "---|").join("")}`, ...body.map(line)].join("\n");
}

const measured = (rows: readonly Row[]): Row[] => rows.filter((r) => r.subjects > 0);

/** The row of a kind as the config names it first. */
const firstOf = (rows: readonly Row[], kind: MethodSpec["method"]): Row | undefined =>
  measured(rows.filter((r) => r.method.kind === kind).slice(0, 1))[0];

/** Identity and prompt in one number. */
export const together = (r: Row): number => r.top5.mean * r.prompt.mean;

const three = (x: number): string => x.toFixed(3);
const percent = (x: number): string => (Number.isNaN(x) ? "" : `${(100 * x).toFixed(1)}%`);
const signed = (x: number, show = percent): string => `${x < 0 ? "−" : "+"}${show(Math.abs(x))}`;

function plusMinus({ mean, error }: Estimate, show: (x: number) => string, showMean = show): string {
  if (Number.isNaN(mean)) return "";
  return Number.isNaN(error) ? showMean(mean) : `${showMean(mean)} ± ${show(error)}`;
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

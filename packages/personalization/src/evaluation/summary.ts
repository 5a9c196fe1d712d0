/** From a run's lines to the numbers of its report. */
import { groupBy } from "@likeness/diffusion";
import type { Method } from "../baselines/method.ts";
import { entropy } from "./metrics.ts";
import type { Plan, Trial } from "./protocol.ts";
import type {
  BackboneRecord,
  CellRecord,
  ConceptRecord,
  JudgedRecord,
  Named,
  RecordFile,
  RunRecord,
  TimingRecord,
} from "./records.ts";
import type { Choice, EvaluationSet } from "./set.ts";

/** A mean over subjects with its standard error; NaN for nothing, and for the error of one subject. */
export interface Estimate {
  readonly mean: number;
  readonly error: number;
}

export interface Row {
  readonly method: Method;
  /** Subjects measured; the rest is undefined for none. */
  readonly subjects: number;
  /** Seeds measured of each of them, on average. */
  readonly seeds: number;
  readonly clipI: Estimate;
  readonly clipT: Estimate;
  /** Cosine of photo and picture as instances. */
  readonly instance: Estimate;
  /** Share of pictures whose nearest instance is the right one; whose five nearest have it. */
  readonly top1: Estimate;
  readonly top5: Estimate;
  /** Share of right answers about all attributes that the prompts name, and about each. */
  readonly prompt: Estimate;
  readonly attributes: Readonly<Record<string, Estimate>>;
  /** Seconds to teach. */
  readonly seconds: Estimate;
  /** Nearest words of v*: how many differ, their entropy in nats, cosine to them; norms. */
  readonly words: number;
  readonly entropy: number;
  readonly cosine: Estimate;
  readonly norm: Estimate;
  readonly offsets: Estimate;
}

/** Shares of pictures whose subject, and whose places and looks, are named rightly; NaN for what no prompt asks. */
export interface Naming {
  readonly name: number;
  readonly scene: number;
  readonly place: number;
  readonly look: number;
}

/** What a row has more than the reference, on average over the subjects and seeds that both have. */
export interface Difference {
  readonly method: Method;
  readonly subjects: number;
  readonly instance: Estimate;
  readonly top5: Estimate;
  readonly prompt: Estimate;
}

/** Of the base model's pictures, and of true ones for the same prompts. */
export interface Backbone extends Naming {
  readonly prompts: number;
  readonly truth: Naming;
}

export interface Summary {
  readonly rows: readonly Row[];
  /** Shares of the photos themselves whose instance is found: how far retrieval can be trusted. */
  readonly photos: { readonly top1: number; readonly top5: number } | undefined;
  readonly backbone: Backbone | undefined;
  /** The same of the prompts that ask for each look, and of those that ask for none. */
  readonly looks: readonly (Backbone & { readonly asked: string })[];
  readonly timing: TimingRecord | undefined;
  /** Commits and days of the lines that count. */
  readonly commits: readonly string[];
  readonly dates: readonly string[];
}

/** What a summary is made of: an evaluation has all of it. */
export interface SummarySource {
  readonly methods: readonly Method[];
  readonly plan: Plan;
  readonly records: RecordFile;
  readonly set: Pick<EvaluationSet, "backbone">;
}

const foundIn =
  ({ known }: RecordFile) =>
  <K extends RunRecord["kind"]>(kind: K, keys: readonly string[]) =>
    keys.flatMap((key) => {
      const record = known.get(key);
      return record?.kind === kind ? [record as Extract<RunRecord, { kind: K }>] : [];
    });

/** The row of a method over the set's first subjects, to compare it with one that was tried on no more than these. */
export function rowOver(method: Method, { trials, shots }: Plan, records: RecordFile, subjects: number): Row {
  const found = foundIn(records);
  const mine = (t: Trial): boolean => t.method === method && t.subject < subjects;
  return rowOf(
    method,
    found(
      "concept",
      trials.filter(mine).map((t) => t.key),
    ),
    judgedOf(shots, records, mine),
  );
}

/** What was judged of some trials. */
const judgedOf = (
  shots: Plan["shots"],
  records: SummarySource["records"],
  mine: (t: Trial) => boolean,
): JudgedRecord[] =>
  foundIn(records)(
    "judged",
    shots.filter((s) => mine(s.trial)).map((s) => s.judged),
  );

/**
 * Over the subjects and seeds that a row and the reference both have. Pairs take out what is easy or hard about a subject and a
 * seed's noise: their standard errors are smaller than those of the rows.
 */
export function differences({ methods, plan: { shots }, records }: SummarySource, reference: string): Difference[] {
  const shotOf = (r: JudgedRecord): string => `${r.subject} ${r.seed}`;
  const shared = (some: readonly JudgedRecord[], others: readonly JudgedRecord[]): Map<string, CellRecord[]> => {
    const there = new Set(others.map(shotOf));
    return cellsBySubject(some.filter((r) => there.has(shotOf(r))));
  };
  const theirs = judgedOf(shots, records, (t) => t.method.name === reference);
  return methods
    .filter(({ name }) => name !== reference)
    .map((method) => {
      const own = judgedOf(shots, records, (t) => t.method === method);
      const others = shared(theirs, own);
      const pairs = [...shared(own, theirs)].map(([subject, mine]) => ({ mine, other: others.get(subject)! }));
      const over = (f: (cell: CellRecord) => readonly number[]): Estimate =>
        estimate(pairs.map(({ mine, other }) => meanOf(mine.flatMap(f)) - meanOf(other.flatMap(f))));
      const [instance, top5, prompt] = [over(instanceOf), over(top5Of), over(attributesOf)];
      return { method, subjects: pairs.length, instance, top5, prompt };
    });
}

export function summarize({ methods, plan, records, set }: SummarySource): Summary {
  const found = foundIn(records);
  const concepts = found(
    "concept",
    plan.trials.map((t) => t.key),
  );
  const judged = found(
    "judged",
    plan.shots.map((s) => s.judged),
  );
  const backbone = found(
    "backbone",
    plan.backbone.map((b) => b.key),
  );
  const [timing] = plan.timing ? found("timing", [plan.timing.key]) : [];
  const all: RunRecord[] = [...concepts, ...judged, ...backbone, ...(timing ? [timing] : [])];
  const different = (values: readonly string[]): string[] => [...new Set(values)].sort();
  return {
    photos: photosOf(judged),
    rows: methods.map((method) => rowOver(method, plan, records, plan.subjects)),
    backbone: backbone.length > 0 ? backboneOf(backbone) : undefined,
    looks: [...groupBy(backbone, (r) => lookOf(set.backbone.prompts[r.prompt]!))]
      .map(([asked, of]) => ({ asked, ...backboneOf(of) }))
      .sort((a, b) => (a.asked < b.asked ? -1 : 1)),
    timing,
    commits: different(all.map((r) => r.commit)),
    dates: different(all.map((r) => r.date)),
  };
}

/** What was judged of each subject, all seeds together. */
function cellsBySubject(judged: readonly JudgedRecord[]): Map<string, CellRecord[]> {
  const bySubject = groupBy(judged, (r) => String(r.subject));
  return new Map([...bySubject].map(([subject, mine]) => [subject, mine.flatMap((r) => r.cells)]));
}

function rowOf(method: Method, records: readonly ConceptRecord[], judged: readonly JudgedRecord[]): Row {
  const over = (f: (r: ConceptRecord) => number): Estimate => estimate(records.map(f));
  const cells = [...cellsBySubject(judged).values()];
  const pictures = (f: (cell: CellRecord) => readonly number[]): Estimate =>
    estimate(cells.map((mine) => meanOf(mine.flatMap(f))));
  const named = [...new Set(cells.flat().flatMap((c) => Object.keys(c.attributes)))];
  const counts = new Map<string, number>();
  for (const { word } of records) counts.set(word, (counts.get(word) ?? 0) + 1);
  return {
    ...{ method, subjects: cells.length, seeds: judged.length / cells.length },
    clipI: pictures((c) => [c.clip_i]),
    clipT: pictures((c) => [c.clip_t]),
    instance: pictures(instanceOf),
    top1: pictures((c) => [Number(c.rank <= 1)]),
    top5: pictures(top5Of),
    prompt: pictures(attributesOf),
    attributes: Object.fromEntries(
      named.map((a) => [a, pictures((c) => (a in c.attributes ? [c.attributes[a]!] : []))]),
    ),
    seconds: over((r) => r.seconds),
    words: counts.size,
    entropy: entropy([...counts.values()]),
    cosine: over((r) => r.cosine),
    norm: over((r) => r.norm),
    offsets: over((r) => r.offsets),
  };
}

const instanceOf = (c: CellRecord): number[] => [c.instance];
const top5Of = (c: CellRecord): number[] => [Number(c.rank <= 5)];
const attributesOf = (c: CellRecord): number[] => Object.values(c.attributes);

function photosOf(records: readonly JudgedRecord[]): Summary["photos"] {
  const ranks = [...new Map(records.map((r) => [r.subject, r.photo_rank])).values()];
  if (ranks.length === 0) return undefined;
  const share = (n: number): number => meanOf(ranks.map((r) => Number(r <= n)));
  return { top1: share(1), top5: share(5) };
}

function backboneOf(records: readonly BackboneRecord[]): Backbone {
  return { prompts: records.length, ...namingOf(records), truth: namingOf(records.map((r) => r.truth)) };
}

function namingOf(named: readonly Named[]): Naming {
  const about = (attribute: string): number => meanOf(named.flatMap((r) => r.attributes[attribute] ?? []));
  return {
    name: meanOf(named.map((r) => Number(r.rank === 1))),
    scene: meanOf(named.flatMap((r) => Object.values(r.attributes))),
    place: about("place"),
    look: about("look"),
  };
}

/** What the set calls the look that a prompt asks for; "none" if it asks for none. */
export function lookOf({ choices }: { readonly choices: readonly Choice[] }): string {
  const look = choices.find((c) => c.attribute === "look");
  return look === undefined ? "none" : (look.names ?? look.captions)[look.right]!;
}

const meanOf = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

export function estimate(values: readonly number[]): Estimate {
  const mean = meanOf(values);
  const n = values.length;
  const variance = values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (n - 1);
  return { mean, error: n > 1 ? Math.sqrt(variance / n) : Number.NaN };
}

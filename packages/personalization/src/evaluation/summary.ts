/** From a run's lines to the numbers of its report. */
import type { Method } from "../baselines/method.ts";
import { entropy } from "./metrics.ts";
import type { Plan } from "./protocol.ts";
import type { BackboneRecord, ConceptRecord, Named, RecordFile, RunRecord, TimingRecord } from "./records.ts";

/** A mean over subjects with its standard error; NaN for nothing, and for the error of one subject. */
export interface Estimate {
  readonly mean: number;
  readonly error: number;
}

export interface Row {
  readonly method: Method;
  /** Subjects measured; the rest is undefined for none. */
  readonly subjects: number;
  readonly clipI: Estimate;
  readonly clipT: Estimate;
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

/** Shares of pictures whose subject, and whose places and looks, are named rightly. */
export interface Naming {
  readonly name: number;
  readonly scene: number;
}

export interface Summary {
  readonly rows: readonly Row[];
  /** Shares of the photos themselves whose instance is found: how far retrieval can be trusted. */
  readonly photos: { readonly top1: number; readonly top5: number } | undefined;
  readonly backbone: (Naming & { readonly prompts: number; readonly truth: Naming }) | undefined;
  readonly timing: TimingRecord | undefined;
  /** Commits and days of the lines that count. */
  readonly commits: readonly string[];
  readonly dates: readonly string[];
}

export function summarize(methods: readonly Method[], plan: Plan, { known }: RecordFile): Summary {
  const found = <K extends RunRecord["kind"]>(kind: K, keys: readonly string[]) =>
    keys.flatMap((key) => {
      const record = known.get(key);
      return record?.kind === kind ? [record as Extract<RunRecord, { kind: K }>] : [];
    });
  const concepts = (method: Method) =>
    found(
      "concept",
      plan.trials.filter((t) => t.method === method).map((t) => t.key),
    );
  const backbone = found(
    "backbone",
    plan.backbone.map((b) => b.key),
  );
  const [timing] = plan.timing ? found("timing", [plan.timing.key]) : [];
  const all: RunRecord[] = [...methods.flatMap(concepts), ...backbone, ...(timing ? [timing] : [])];
  const different = (values: readonly string[]): string[] => [...new Set(values)].sort();
  return {
    photos: photosOf(methods.flatMap(concepts)),
    rows: methods.map((method) => rowOf(method, concepts(method))),
    backbone: backbone.length > 0 ? backboneOf(backbone) : undefined,
    timing,
    commits: different(all.map((r) => r.commit)),
    dates: different(all.map((r) => r.date)),
  };
}

function rowOf(method: Method, records: readonly ConceptRecord[]): Row {
  const over = (f: (r: ConceptRecord) => number): Estimate => estimate(records.map(f));
  const pictures = (f: (cell: ConceptRecord["cells"][number]) => readonly number[]): Estimate =>
    over((r) => meanOf(r.cells.flatMap(f)));
  const named = [...new Set(records.flatMap((r) => r.cells.flatMap((c) => Object.keys(c.attributes))))];
  const counts = new Map<string, number>();
  for (const { word } of records) counts.set(word, (counts.get(word) ?? 0) + 1);
  return {
    ...{ method, subjects: records.length },
    clipI: pictures((c) => c.clip_i),
    clipT: pictures((c) => c.clip_t),
    top1: pictures((c) => c.rank.map((r) => Number(r <= 1))),
    top5: pictures((c) => c.rank.map((r) => Number(r <= 5))),
    prompt: pictures((c) => Object.values(c.attributes).flat()),
    attributes: Object.fromEntries(named.map((a) => [a, pictures((c) => c.attributes[a] ?? [])])),
    seconds: over((r) => r.seconds),
    words: counts.size,
    entropy: entropy([...counts.values()]),
    cosine: over((r) => r.cosine),
    norm: over((r) => r.norm),
    offsets: over((r) => r.offsets),
  };
}

function photosOf(records: readonly ConceptRecord[]): Summary["photos"] {
  const ranks = [...new Map(records.map((r) => [r.subject, r.photo_rank])).values()];
  if (ranks.length === 0) return undefined;
  const share = (n: number): number => meanOf(ranks.map((r) => Number(r <= n)));
  return { top1: share(1), top5: share(5) };
}

function backboneOf(records: readonly BackboneRecord[]): NonNullable<Summary["backbone"]> {
  return { prompts: records.length, ...namingOf(records), truth: namingOf(records.map((r) => r.truth)) };
}

const namingOf = (named: readonly Named[]): Naming => ({
  name: meanOf(named.map((r) => Number(r.rank === 1))),
  scene: meanOf(named.flatMap((r) => Object.values(r.attributes))),
});

const meanOf = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

export function estimate(values: readonly number[]): Estimate {
  const mean = meanOf(values);
  const n = values.length;
  const variance = values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (n - 1);
  return { mean, error: n > 1 ? Math.sqrt(variance / n) : Number.NaN };
}

export * from "./baselines/method.ts";
export * from "./baselines/recipes.ts";
export * from "./baselines/spec.ts";
export * from "./concept.ts";
export { MOST_CUT_OUTS } from "./cut-outs.ts";
export * from "./encoder-file.ts";
export { type EvaluationConfig, readEvaluationConfig, samplingOptions } from "./evaluation/config.ts";
export type { Measured, RecordFile, RunRecord, TimingRecord } from "./evaluation/records.ts";
export { evaluationReport, type SheetLink } from "./evaluation/report.ts";
export {
  type Evaluation,
  type EvaluationHooks,
  keepMeasurements,
  openEvaluation,
  runEvaluation,
} from "./evaluation/run.ts";
export { type EvaluationSheet, evaluationSheets, firstPictures, type SheetTile } from "./evaluation/sheets.ts";
export { type Estimate, type Row, type Summary, summarize } from "./evaluation/summary.ts";
export * from "./export.ts";
export { type FoundSubject, findSubject, seenSubject } from "./find-subject.ts";
export * from "./flatten.ts";
export * from "./generate.ts";
export * from "./method/config.ts";
export * from "./method/dual-path.ts";
export * from "./method/encoder.ts";
export * from "./method/hypernetwork.ts";
export * from "./method/losses.ts";
export * from "./method/personal-text.ts";
export * from "./method/personal-unet.ts";
export * from "./personalize.ts";
export * from "./photo.ts";
export type { PersonalizePlan } from "./plan.ts";
export * from "./pretrain.ts";
export * from "./pretrain-config.ts";
export * from "./prompts.ts";
export * from "./tuning.ts";

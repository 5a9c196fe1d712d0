/** Contact sheets of a run: what the methods drew of the first subjects, one picture a prompt. */
import type { Method } from "../baselines/method.ts";
import type { Shot } from "./protocol.ts";
import { type Evaluation, keptPictures } from "./run.ts";

export interface SheetTile {
  /** (side, side, 3) bytes */
  readonly pixels: Uint8Array;
  readonly caption: string;
}

export interface EvaluationSheet {
  /** Goes into the file name. */
  readonly name: string;
  readonly title: string;
  readonly columns: number;
  readonly tiles: readonly SheetTile[];
}

const COMPARED = { subjects: 3, prompts: 3 };

/** One sheet of the method, all prompts; one of all methods on a few subjects and prompts. */
export function evaluationSheets(evaluation: Evaluation): EvaluationSheet[] {
  const { methods, config, plan } = evaluation;
  const shown = Math.min(config.sheet_subjects, plan.subjects);
  if (shown === 0) return [];
  const subjects = Array.from({ length: shown }, (_, i) => i);
  const few = subjects.slice(0, COMPARED.subjects);
  const shots = few.map((subject) => (m: Method) => shotOf(evaluation, m.name, subject));
  // a row has all its pictures, or it isn't on the sheet
  const ran = methods.filter((m) => m.skipped === undefined && shots.every((of) => keptPictures(evaluation, of(m))));
  const main = ran.find((m) => m.kind === "date") ?? ran.find((m) => m.kind === "no-encoder") ?? ran[0];
  if (!main) return [];
  const prompts = Math.min(COMPARED.prompts, plan.prompts);
  return [
    {
      name: "subjects",
      title: `Held-out subjects: ${main.name}`,
      columns: plan.prompts + 1,
      tiles: subjects.flatMap((s) => rowOf(evaluation, main.name, s, plan.prompts)),
    },
    {
      name: "methods",
      title: "The same subjects, prompts and seeds by all methods",
      columns: few.length * (prompts + 1),
      tiles: ran.flatMap((m) => few.flatMap((s) => rowOf(evaluation, m.name, s, prompts, m.name))),
    },
  ];
}

/** The first of a method and a subject. */
const shotOf = ({ plan }: Evaluation, method: string, subject: number): Shot =>
  plan.shots.find(({ trial: t }) => t.method.name === method && t.subject === subject)!;

/** The photo, then a picture of each prompt. */
function rowOf(evaluation: Evaluation, method: string, subject: number, prompts: number, label?: string): SheetTile[] {
  const { set } = evaluation;
  const pictures = keptPictures(evaluation, shotOf(evaluation, method, subject)) ?? [];
  const photo = { pixels: set.photo(subject).pixels, caption: label ?? set.subjects[subject]!.name };
  return [photo, ...pictures.slice(0, prompts).map((pixels, i) => ({ pixels, caption: set.prompts[i]!.prompt }))];
}

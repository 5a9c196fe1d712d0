/** Contact sheets of a run: what the methods drew of the first subjects, one picture a prompt. */
import type { Method } from "../baselines/method.ts";
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
  const pictures = (m: Method, subject: number) => firstPictures(evaluation, m, subject);
  // a row has all its pictures, or it isn't on the sheet
  const ran = methods.filter((m) => m.skipped === undefined && few.every((s) => pictures(m, s)));
  const main = ran.find((m) => m.kind === "date") ?? ran.find((m) => m.kind === "no-encoder") ?? ran[0];
  if (!main) return [];
  const prompts = Math.min(COMPARED.prompts, plan.prompts);
  return [
    {
      name: "subjects",
      title: `Held-out subjects: ${main.name}`,
      columns: plan.prompts + 1,
      tiles: subjects.filter((s) => pictures(main, s)).flatMap((s) => rowOf(evaluation, main, s, plan.prompts)),
    },
    {
      name: "methods",
      title: "The same subjects, prompts and seeds by all methods",
      columns: few.length * (prompts + 1),
      tiles: ran.flatMap((m) => few.flatMap((s) => rowOf(evaluation, m, s, prompts, m.name))),
    },
  ];
}

/** What a row drew of a subject with the first seed; none if they aren't made, or the method isn't tried on that subject. */
export function firstPictures(
  evaluation: Pick<Evaluation, "config" | "plan">,
  { name }: Pick<Method, "name">,
  subject: number,
): Uint8Array[] | undefined {
  const shot = evaluation.plan.shots.find(({ trial: t }) => t.method.name === name && t.subject === subject);
  return shot && keptPictures(evaluation, shot);
}

/** The photo, then a picture of each prompt. */
function rowOf(evaluation: Evaluation, method: Method, subject: number, prompts: number, label?: string): SheetTile[] {
  const { set } = evaluation;
  const pictures = firstPictures(evaluation, method, subject) ?? [];
  const photo = { pixels: set.photo(subject).pixels, caption: label ?? set.subjects[subject]!.name };
  return [photo, ...pictures.slice(0, prompts).map((pixels, i) => ({ pixels, caption: set.prompts[i]!.prompt }))];
}

/** From an error to one line and an exit code. */
import { LikenessError } from "@likeness/engine/errors";

export interface Failure {
  readonly exitCode: 1 | 2;
  readonly code: string;
  /** One line for a bad input; the stack for a defect of ours. */
  readonly text: string;
}

/** Codes of errors that aren't about an input. */
const DEFECTS: ReadonlySet<string> = new Set(["E_RUN", "E_CLOSED", "E_FEED", "E_VARIABLE", "E_SHAPE"]);
/** What the system says about files and folders that were named. */
const SYSTEM: ReadonlySet<string> = new Set(
  "ENOENT EACCES EPERM EROFS ENOSPC EDQUOT EISDIR ENOTDIR EEXIST ENOTEMPTY ELOOP ENAMETOOLONG EMFILE EBUSY EINVAL EFBIG".split(
    " ",
  ),
);

export function describeFailure(error: unknown): Failure {
  const { code, message, stack } = error as { code?: string; message?: string; stack?: string };
  const known = typeof code === "string" && (SYSTEM.has(code) || (code.startsWith("E_") && !DEFECTS.has(code)));
  if (error instanceof LikenessError || known)
    return { exitCode: 2, code: code!, text: message!.replace(/\s*\n\s*/g, " ") };
  return { exitCode: 1, code: code ?? "E_INTERNAL", text: `This is a defect of likeness: ${stack ?? String(error)}` };
}

/** What all errors about somebody's input have in common: a code to branch on, the facts, one clear line of text. */

export interface ErrorDetail {
  /** What is wrong: a key, a flag, "header". */
  readonly what: string;
  /** The file or the place where it stands. */
  readonly where?: string;
  readonly needed?: string;
  readonly found?: string;
  /** What to do about it: one sentence with its full stop. */
  readonly next?: string;
}

/** "what (where): needed X, found Y. Next step.", on one line whatever the facts hold. */
export function errorText({ what, where, needed, found, next }: ErrorDetail): string {
  const facts = [needed && `needed ${needed}`, found && `found ${found}`].filter(Boolean).join(", ");
  const text = `${what}${where ? ` (${where})` : ""}${facts && `: ${facts}`}.${next ? ` ${next}` : ""}`;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: what a terminal would obey, not show
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, " ");
}

/** A value from outside as JSON, cut to a length that fits a line. */
export function brief(value: unknown, most: number = 80): string {
  if (typeof value === "string") return JSON.stringify(value.length > most ? `${value.slice(0, most)}…` : value);
  if (Array.isArray(value)) {
    const flat = value.slice(0, 9).map((v) => (typeof v === "object" && v !== null ? "…" : brief(v, 20)));
    return `[${flat.join(", ")}${value.length > 9 ? ", …" : ""}]`;
  }
  if (typeof value === "object" && value !== null) return "an object";
  return value === undefined ? "nothing" : String(value);
}

/** A bad input: the command line shows the text and ends with exit code 2. */
export class LikenessError extends Error {
  override readonly name: string = "LikenessError";
  readonly code: string;
  readonly detail: ErrorDetail;
  constructor(code: string, detail: ErrorDetail) {
    super(`${errorText(detail)} [${code}]`);
    this.code = code;
    this.detail = detail;
  }
}

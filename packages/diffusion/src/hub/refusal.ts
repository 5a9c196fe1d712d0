/** What the hub refuses, in words. */
import { brief, LikenessError } from "@likeness/engine/errors";
import type { Answer } from "./client.ts";

interface Asked {
  readonly path: string;
  readonly endpoint: string;
  /** Whether a token was sent. */
  readonly token: boolean;
}

/** The hub tells apart by x-error-code what has the same status; a missing model and a private one look alike, on purpose. */
export function refusal(answer: Answer, { path, endpoint, token }: Asked): LikenessError {
  const { status } = answer;
  const code = answer.header("x-error-code");
  const [, model = path, revision] =
    /^\/(?:api\/models\/)?([^/?]+\/[^/?]+)(?:\/(?:revision|resolve)\/([^/?]+))?/.exec(path) ?? [];
  const error = (what: string, needed: string, found: string, next: string): LikenessError =>
    new LikenessError("E_HUB", { what, where: `${endpoint}/${model}`, needed, found, next });
  if (code === "GatedRepo")
    return error(
      "gated model",
      "an account that has accepted its terms",
      token ? "a token of another" : "no token",
      `Accept them on its page${token ? "" : ", and set HF_TOKEN"}.`,
    );
  if (code === "RevisionNotFound")
    return error(
      "revision",
      "a branch, a tag or a commit of the model",
      brief(decodeURIComponent(revision ?? "")),
      "Check --revision.",
    );
  if (code === "EntryNotFound") return error("file", "one of the model's", decodeURIComponent(path), "Pull again.");
  if (answer.header("x-error-message") === "Invalid credentials in Authorization header")
    return error("token", "one that the hub knows", "another", "Check HF_TOKEN, or log in again.");
  if (status === 401 || status === 403 || status === 404 || code === "RepoNotFound")
    return error(
      "model",
      "one that is there and may be read",
      `none (${status})`,
      token ? "Check its name, and whether the token may read it." : "Check its name; a private model needs HF_TOKEN.",
    );
  const said = answer.header("x-error-message");
  return error("request", "an answer", `${status}${said ? `, ${brief(said)}` : ""}`, "Try again later.");
}

/** Names from a server become paths only if they stay inside the folder that they are meant for. */
import { brief, LikenessError } from "@likeness/engine/errors";

/** A file's name in a repository: "unet/config.json". @throws LikenessError E_HUB if it could lead elsewhere */
export function expectFileName(name: string): string {
  const parts = name.split("/");
  // no drive letters, no back slashes, nothing that a terminal obeys
  const plain = (part: string): boolean => /^[^\\:*?"<>|\p{Cc}]+$/u.test(part) && !/^\.+$|[. ]$/.test(part);
  if (name.length <= 500 && parts.every(plain)) return name;
  throw new LikenessError("E_HUB", {
    what: "file name on the server",
    needed: "a path inside the model's folder",
    found: brief(name),
    next: "Nothing was fetched: do not trust this server.",
  });
}

/** A content's name and what it is checked against: sha256, or git's sha1. @throws LikenessError E_HUB if it is neither */
export function expectEtag(file: string, etag: string | undefined): string {
  const word = etag?.replace(/^W\//, "").replace(/^"|"$/g, "");
  if (word !== undefined && /^([0-9a-f]{40}|[0-9a-f]{64})$/.test(word)) return word;
  throw new LikenessError("E_HUB", {
    what: "etag",
    where: file,
    needed: "the sha256 or git hash of the file's content",
    found: etag === undefined ? "none" : brief(etag),
    next: "Does HF_ENDPOINT point to a Hugging Face hub?",
  });
}

/** A commit's full hash. @throws LikenessError E_HUB */
export function expectCommit(where: string, commit: unknown): string {
  if (typeof commit === "string" && /^[0-9a-f]{40}$/.test(commit)) return commit;
  const next = "Does HF_ENDPOINT point to a Hugging Face hub?";
  throw new LikenessError("E_HUB", {
    what: "commit",
    where,
    needed: "40 hexadecimal digits",
    found: brief(commit),
    next,
  });
}

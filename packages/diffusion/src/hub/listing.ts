/** What a revision of a model holds: the commit, and the chosen files with size and hash. */
import { LikenessError } from "@likeness/engine/errors";
import { z } from "zod";
import type { RemoteFile } from "./blobs.ts";
import type { RepoName } from "./cache.ts";
import type { HubClient } from "./client.ts";
import { expectCommit, expectEtag, expectFileName } from "./names.ts";
import { type SelectOptions, selectFiles } from "./select.ts";

export interface Listing {
  readonly commit: string;
  readonly files: readonly RemoteFile[];
}

const ModelInfo = z.object({
  sha: z.string(),
  siblings: z.array(z.object({ rfilename: z.string(), size: z.number().int().nonnegative().nullish() })),
});

/** The chosen files of a revision, pinned to its commit. */
export async function listFiles(
  client: HubClient,
  { id, revision }: RepoName,
  choice: Omit<SelectOptions, "id">,
): Promise<Listing> {
  const path = `/api/models/${id}/revision/${encodeURIComponent(revision)}?blobs=true`;
  const info = ModelInfo.safeParse(await client.json(path));
  if (!info.success) {
    const next = "Does HF_ENDPOINT point to a Hugging Face hub?";
    const needed = "a model's files and commit";
    throw new LikenessError("E_HUB", {
      what: "answer",
      where: client.endpoint + path,
      needed,
      found: "other JSON",
      next,
    });
  }
  const commit = expectCommit(`${client.endpoint}${path}`, info.data.sha);
  const sizes = new Map(info.data.siblings.map((s) => [expectFileName(s.rfilename), s.size ?? undefined]));
  const names = selectFiles([...sizes.keys()], { ...choice, id });
  const one = async (name: string): Promise<RemoteFile> => {
    const at = `/${id}/resolve/${commit}/${name.split("/").map(encodeURIComponent).join("/")}`;
    const answer = await client.head(at);
    const linked = answer.header("x-linked-etag");
    const length =
      answer.header("x-linked-size") ?? (linked === undefined ? answer.header("content-length") : undefined);
    const size = Number(length ?? sizes.get(name) ?? Number.NaN);
    if (!Number.isSafeInteger(size) || size < 0)
      throw new LikenessError("E_HUB", { what: name, where: client.endpoint, needed: "its size", found: "none" });
    return { name, path: at, etag: expectEtag(name, linked ?? answer.header("etag")), size };
  };
  const files: RemoteFile[] = [];
  for (let i = 0; i < names.length; i += 8) files.push(...(await Promise.all(names.slice(i, i + 8).map(one))));
  return { commit, files };
}

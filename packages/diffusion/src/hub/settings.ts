/** Where the hub is and who asks, by huggingface_hub's own environment variables. */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { brief, LikenessError } from "@likeness/engine/errors";
import { type Environment, hubCache, hubOffline } from "./cache.ts";

export interface HubSettings {
  /** Without a slash at its end. */
  readonly endpoint: string;
  readonly token: string | undefined;
  readonly offline: boolean;
  /** The folder that holds models--ORG--NAME. */
  readonly cache: string;
  /** Proxies by the scheme of what is fetched, and the hosts that need none. */
  readonly httpProxy: string | undefined;
  readonly httpsProxy: string | undefined;
  readonly noProxy: string | undefined;
}

const PUBLIC_HUB = "https://huggingface.co";

/** @throws LikenessError E_HUB if HF_ENDPOINT, a proxy or the token cannot be used; the token itself is never shown */
export function hubSettings(env: Environment = process.env): HubSettings {
  return {
    endpoint: url("HF_ENDPOINT", env.HF_ENDPOINT || PUBLIC_HUB)!.replace(/\/+$/, ""),
    token: token(env),
    offline: hubOffline(env),
    cache: hubCache(env),
    httpProxy: url("HTTP_PROXY", env.http_proxy || env.HTTP_PROXY),
    httpsProxy: url("HTTPS_PROXY", env.https_proxy || env.HTTPS_PROXY),
    noProxy: env.no_proxy || env.NO_PROXY,
  };
}

function url(name: string, text: string | undefined): string | undefined {
  if (!text || (/^https?:\/\//.test(text) && URL.canParse(text))) return text || undefined;
  const needed = "an address that begins with http:// or https://";
  throw new LikenessError("E_HUB", { what: name, needed, found: name === "HF_ENDPOINT" ? brief(text) : "another" });
}

/** HF_TOKEN, or the file that `hf auth login` writes. */
function token(env: Environment): string | undefined {
  if (/^(1|on|yes|true)$/i.test(env.HF_HUB_DISABLE_IMPLICIT_TOKEN ?? "")) return undefined;
  const given = clean(env.HF_TOKEN || env.HUGGING_FACE_HUB_TOKEN);
  const home = env.HF_HOME || dirname(hubCache({ ...env, HF_HUB_CACHE: undefined, HUGGINGFACE_HUB_CACHE: undefined }));
  const path = hubCache({ ...env, HF_HUB_CACHE: env.HF_TOKEN_PATH || join(home, "token") }); // expands ~ and $NAME
  const found = given ?? clean(read(path));
  if (found === undefined || /^[\x21-\x7e]+$/.test(found)) return found;
  throw new LikenessError("E_HUB", {
    what: given ? "HF_TOKEN" : "token",
    ...(!given && { where: path }),
    needed: "a token: one word of plain characters",
    found: "other characters in it",
    next: "Copy it again from the hub's settings.",
  });
}

const clean = (text: string | undefined): string | undefined => text?.trim() || undefined;

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined; // nobody has logged in
  }
}

/** What can't be pulled gets one clear line, and leaves no file. */
import { describe, expect, test } from "vitest";
import type { PullOptions } from "../src/hub/pull.ts";
import type { HubOptions } from "./fake-hub.ts";
import { hubModel } from "./hub-model.ts";
import { cache, env, get, serve, tree, UNET, useHub } from "./pull-setup.ts";

useHub();

describe("one clear line", () => {
  const huge = (name: string): Record<string, string> => (name === UNET ? { "x-linked-size": "4000000000000000" } : {});
  const etag = (name: string): Record<string, string> => (name === UNET ? { "x-linked-etag": '"../../../evil"' } : {});
  const onlyPickles = { "model_index.json": "{}", "unet/config.json": "{}", "unet/diffusion_pytorch_model.bin": "x" };
  const onlyFp16 = { "model_index.json": "{}", "unet/diffusion_pytorch_model.fp16.safetensors": "x" };
  test.each<
    [
      string,
      string,
      RegExp,
      { files?: typeof hubModel; hub?: HubOptions; pull?: PullOptions; env?: Record<string, string> },
    ]
  >([
    ["a name that is none", "name", /^model: needed ORG\/NAME or ORG\/NAME@REVISION, found "name"\..*\[E_USAGE\]$/, {}],
    ["a name that leads elsewhere", "../name", /needed ORG\/NAME/, {}],
    ["a revision that leads elsewhere", "org/name@../../x", /needed ORG\/NAME/, {}],
    [
      "no such model",
      "org/none",
      /^model \(http:.*\/org\/none\): needed one that is there and may be read, found none \(401\)\. Check its name; a private model needs HF_TOKEN\. \[E_HUB\]$/,
      {},
    ],
    [
      "no such revision",
      "org/name@v9",
      /^revision \(.*\): needed a branch, a tag or a commit of the model, found "v9"\. Check --revision\./,
      {},
    ],
    [
      "a gated model",
      "org/name",
      /^gated model \(.*\/org\/name\): needed an account that has accepted its terms, found no token\. Accept them on its page, and set HF_TOKEN\./,
      { hub: { gated: true } },
    ],
    [
      "a wrong token",
      "org/name",
      /Check its name, and whether the token may read it\./,
      { hub: { token: "x" }, env: { HF_TOKEN: "y" } },
    ],
    [
      "offline",
      "org/name",
      /^HF_HUB_OFFLINE: needed the network, found it forbidden\. Unset it to fetch the model\. \[E_OFFLINE\]$/,
      { env: { HF_HUB_OFFLINE: "1" } },
    ],
    [
      "an endpoint that is none",
      "org/name",
      /^HF_ENDPOINT: needed an address that begins with http/,
      { env: { HF_ENDPOINT: "hub.example" } },
    ],
    [
      "nobody there",
      "org/name",
      /^no answer from the hub \(http:\/\/127\.0\.0\.1:1\): found 127\.0\.0\.1:1: ECONNREFUSED.*Is the network there\?/,
      { env: { HF_ENDPOINT: "http://127.0.0.1:1" } },
    ],
    [
      "no such variant",
      "org/name",
      /^variant "q4" \(org\/name\): needed one that the model has, found "fp16", "non_ema"\./,
      { pull: { variant: "q4" } },
    ],
    [
      "a pattern without files",
      "org/name",
      /^--include \(org\/name\): needed files that match "\*\.gguf", found none among 24\./,
      { pull: { include: ["*.gguf"] } },
    ],
    [
      "pickles by pattern",
      "org/name",
      /^--include \(org\/name\): needed safe files, found v1-5-pruned\.ckpt\. A pickle can run any code/,
      { pull: { include: ["*.ckpt"] } },
    ],
    [
      "pickles only",
      "org/name",
      /^unet weights \(org\/name\): needed a \.safetensors, found diffusion_pytorch_model\.bin\. A pickle can run any code/,
      { files: onlyPickles },
    ],
    [
      "one variant only",
      "org/name",
      /needed a plain \.safetensors, found variants only: fp16\. Add --variant fp16\./,
      { files: onlyFp16 },
    ],
    [
      "no diffusers model",
      "org/name",
      /needed a diffusers model with model_index\.json, found lora\.safetensors\. Fetch single files with --include "lora\.safetensors"\./,
      { files: { "lora.safetensors": "x" } },
    ],
    [
      "a file name that leads elsewhere",
      "org/name",
      /^file name on the server: needed a path inside the model's folder, found "unet\/\.\.\/\.\.\/x\.json"\..*do not trust/,
      { files: { ...hubModel, "unet/../../x.json": "x" } },
    ],
    ["an absolute file name", "org/name", /^file name on the server/, { files: { ...hubModel, "/etc/x.json": "x" } }],
    ["a back slash", "org/name", /^file name on the server/, { files: { ...hubModel, "unet\\..\\x.json": "x" } }],
    [
      "a hash that leads elsewhere",
      "org/name",
      /^etag \(unet.*\): needed the sha256 or git hash of the file's content, found "\\"\.\.\/\.\.\/\.\.\/evil\\""/,
      { hub: { headers: etag } },
    ],
    [
      "a disk that is too small",
      "org/name",
      /^disk \(.*\): needed 4000000\.0 GB, found [\d.]+ GB free\. Make room, or set HF_HOME.*\[E_DISK\]$/,
      { hub: { headers: huge } },
    ],
    [
      "no hub behind it",
      "org/name",
      /^commit \(.*\): needed 40 hexadecimal digits, found "x"\. Does HF_ENDPOINT point to a Hugging Face hub\?/,
      { hub: { commit: "x" } },
    ],
  ])("%s", async (_name, name, message, { files, hub: options, pull: more, env: variables }) => {
    await serve(files, options);
    const error = await get({ ...more, env: env(variables) }, name).catch((e: Error) => e);
    expect((error as Error).message).toMatch(message);
    expect(tree(cache)).toEqual([]);
  });
});

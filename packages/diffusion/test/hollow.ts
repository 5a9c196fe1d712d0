/** Files of the right size that hold nothing but their header, so that full-size models can be opened: holes on the disk. */
import { createHash } from "node:crypto";
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { FIXTURES } from "@likeness/engine/testing";

export type Shapes = Readonly<Record<string, readonly number[]>>;

/** A .safetensors file in float16, all zeros. */
export function writeHollow(path: string, shapes: Shapes, metadata?: Readonly<Record<string, string>>): void {
  let end = 0;
  const entries = Object.entries(shapes).map(([key, shape]) => {
    const begin = end;
    end += 2 * shape.reduce((n, d) => n * d, 1);
    return [key, { dtype: "F16", shape, data_offsets: [begin, end] }];
  });
  const header = { ...(metadata && { __metadata__: metadata }), ...Object.fromEntries(entries) };
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const file = openSync(path, "w");
  writeSync(file, Buffer.concat([length, json]));
  ftruncateSync(file, 8 + json.length + end);
  closeSync(file);
}

/** A gzipped JSON fixture. @throws Error if the maker has changed since the file was made */
export function readJsonFixture<T>(name: string): T {
  const bytes = readFileSync(join(FIXTURES, name));
  const json = JSON.parse((name.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString("utf8")) as T & {
    made_by: string;
    sha256: string;
  };
  const now = createHash("sha256")
    .update(readFileSync(join(FIXTURES, "..", json.made_by)))
    .digest("hex");
  if (now !== json.sha256) throw new Error(`${name}: made by another version of ${json.made_by}. Run it again.`);
  return json;
}

/** `likeness evaluate` from outside: what it refuses before it starts. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FIXTURES } from "@likeness/engine/testing";
import { afterAll, beforeAll, expect, test } from "vitest";
import { runLikeness } from "./likeness.ts";

const folder = mkdtempSync(join(tmpdir(), "likeness-evaluate-"));
afterAll(() => rmSync(folder, { recursive: true }));

const model = join(FIXTURES, "models", "sd1");
const config = {
  model,
  judge: join(model, "image_encoder"),
  run: "run",
  out: "report.md",
  methods: [] as object[],
};
const good = { ...config, set: "set.safetensors", methods: [{ method: "date" }] };

beforeAll(() => {
  writeFileSync(join(folder, "set.safetensors"), "no such thing");
});

test.each<[string, object, RegExp]>([
  ["no methods", { ...good, methods: [] }, /"methods": found \[\]/],
  ["an unknown method", { ...good, methods: [{ method: "magic" }] }, /methods\.0\.method.*found "magic"/],
  ["an unknown key", { ...good, guidance: 7 }, /"guidance" is a key that isn't implemented/],
  ["a set that isn't there", { ...good, set: "none.safetensors" }, /set \(none\.safetensors\): .*no such file/],
  ["a judge that is no CLIPModel", good, /image_encoder.config\.json: .*model_type/],
  ["a report that is no .md", { ...good, out: "report.txt" }, /"out": found "report\.txt"/],
])("%s: one line, exit code 2, no file", async (name, json, message) => {
  const file = `${name.replaceAll(" ", "-")}.json`;
  writeFileSync(join(folder, file), JSON.stringify(json));
  const before = readdirSync(folder);
  const { code, out, err } = await runLikeness(["evaluate", file], { cwd: folder });
  expect({ code, out }, err).toEqual({ code: 2, out: "" });
  expect(err.trim().split("\n")).toHaveLength(1);
  expect(err).toMatch(message);
  expect(readdirSync(folder)).toEqual(before);
});

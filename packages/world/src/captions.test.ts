import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { sceneAt } from "./dataset.ts";
import { isUncounted, plural, withArticle } from "./nouns.ts";
import { HELD_OUT_NAMES, HELD_OUT_SUBGROUPS } from "./subject-list.ts";
import { type Split, splitNames, subjects, subjectsOf } from "./subjects.ts";
import { vocabulary, wordsOf } from "./vocabulary.ts";

const splits: readonly Split[] = ["train", "validation", "held-out"];

test("at least 800 subjects, each in at least three hands, with a name of its own", () => {
  const all = subjects();
  expect(all.length).toBeGreaterThanOrEqual(800);
  expect(all.every((s) => s.hands.length >= 3)).toBe(true);
  expect(new Set(all.map((s) => s.name)).size).toBe(all.length);
  expect(all.every((s) => /^[a-z0-9]+( [a-z0-9]+)*$/.test(s.name))).toBe(true);
});

test("the splits are disjoint, and whole subgroups are held out", () => {
  const [train, validation, heldOut] = splits.map((split) => new Set(subjectsOf(split).map((s) => s.hexcode)));
  expect(train!.size + validation!.size + heldOut!.size).toBe(subjects().length);
  expect(validation!.size).toBeGreaterThanOrEqual(35);
  expect(heldOut!.size).toBeGreaterThanOrEqual(100);
  const inTraining = new Set(subjectsOf("train").map((s) => s.subgroup));
  for (const subgroup of HELD_OUT_SUBGROUPS) expect(inTraining).not.toContain(subgroup);
  const names = new Set(subjectsOf("held-out").map((s) => s.name));
  expect(HELD_OUT_NAMES.filter((name) => !names.has(name))).toEqual([]);
});

test("the splits are the ones on record", () => {
  const file = new URL("../../../models/pocket/world/splits.json", import.meta.url);
  expect(splitNames()).toEqual(JSON.parse(readFileSync(file, "utf8")));
});

test("every class word is seen in training", () => {
  const trained = new Set(subjectsOf("train").map((s) => s.kind));
  expect(subjects().filter((s) => !trained.has(s.kind))).toEqual([]);
});

test("every caption is of words of the vocabulary, and of its own split's subjects", () => {
  const words = new Set(vocabulary());
  for (const split of splits) {
    const own = new Set(subjectsOf(split).map((s) => s.hexcode));
    for (let i = 0; i < 3000; i++) {
      const scene = sceneAt({ split, seed: 11, count: 1 }, i);
      expect(own).toContain(scene.subject);
      const strange = wordsOf(scene.caption).filter((w) => !words.has(w));
      expect(strange, scene.caption).toEqual([]);
    }
  }
});

test("captions say mostly all, in many ways", () => {
  const scenes = Array.from({ length: 3000 }, (_, i) => sceneAt({ split: "train", seed: 5, count: 1 }, i));
  const named = scenes.filter((s) => s.caption.split(" ").length >= 2);
  expect(named.length / scenes.length).toBeGreaterThan(0.99);
  expect(new Set(scenes.map((s) => s.caption)).size).toBeGreaterThan(2900);
  const plainLook = scenes.filter((s) => s.look === "none").length / scenes.length;
  expect(plainLook).toBeGreaterThan(0.6);
  expect(plainLook).toBeLessThan(0.7);
  const neon = scenes.filter((s) => s.look === "neon");
  expect(neon.filter((s) => s.caption.includes("neon")).length / neon.length).toBeGreaterThan(0.9);
});

test("articles and plurals", () => {
  for (const [name, many] of [
    ["fox", "foxes"],
    ["glass of milk", "glasses of milk"],
    ["baby", "babies"],
    ["woman with headscarf", "women with headscarf"],
    ["octopus", "octopuses"],
    ["person mountain biking", "people mountain biking"],
  ] as const) {
    expect(isUncounted(name)).toBe(false);
    expect(plural(name)).toBe(many);
  }
  expect(["french fries", "bread", "jeans", "santa claus"].filter((n) => !isUncounted(n))).toEqual([]);
  expect(
    ["owl", "unicorn", "hourglass", "umbrella", "one piece swimsuit", "jeans"].map((n) => withArticle(n, n)),
  ).toEqual(["an owl", "a unicorn", "an hourglass", "an umbrella", "a one piece swimsuit", "jeans"]);
});

import { expect, test } from "vitest";
import { createProgress, type ProgressOptions } from "./progress.ts";

/** Everything written, with a clock that is turned by hand. */
function double(options: ProgressOptions & { isTTY?: boolean; columns?: number } = {}) {
  const written: string[] = [];
  const clock = { ms: 0 };
  const sink = {
    write: (t: string) => written.push(t),
    isTTY: options.isTTY ?? false,
    columns: options.columns ?? 100,
  };
  const progress = createProgress({ env: { NO_COLOR: "1" }, ...options, sink, now: () => clock.ms });
  return { written, clock, progress };
}

test("on a terminal: one line, drawn over", () => {
  const { written, clock, progress } = double({ isTTY: true });
  const bar = progress.bar("Steps", 12);
  clock.ms = 3125;
  bar.update(5, { loss: 0.13 });
  expect(written.join("")).toBe("\r\u001b[KSteps:  42%|████████▍           | 5/12 [00:03<00:04, 1.6it/s, loss=0.13]");
  clock.ms += 50;
  bar.update(6);
  expect(written).toHaveLength(1); // too soon
  clock.ms += 5000;
  bar.update(12);
  expect(written.at(-2)).toContain("100%|████████████████████| 12/12 [00:08<00:00, 1.5it/s]");
  expect(written.at(-1)).toBe("\n");
});

test("a narrow terminal gets a shorter line, a slow run seconds per step, a long one hours", () => {
  const { written, clock, progress } = double({ isTTY: true, columns: 40 });
  const bar = progress.bar("Steps", 1000);
  clock.ms = 7_200_000;
  bar.update(500, { loss: 0.123456 });
  expect(written[0]!.slice(4)).toBe("Steps:  50%|| 500/1000 [2:00:00<2:00:00");
});

test("in a file: a line for each tenth, no control characters", () => {
  const { written, clock, progress } = double();
  const bar = progress.bar("Steps", 200);
  for (let i = 1; i <= 200; i++) {
    clock.ms += 10;
    bar.update(i);
  }
  expect(written).toHaveLength(11);
  expect(written.join("")).not.toContain("\u001b");
  expect(written[5]).toMatch(/^Steps: {2}50%\|█{10} {10}\| 100\/200 \[00:01<00:01, 100\.0it\/s\]\n$/);
});

test("colour only where it is wanted", () => {
  const { written, clock, progress } = double({ isTTY: true, env: {} });
  clock.ms = 10;
  progress.bar("A", 2).update(1);
  expect(written.join("")).toContain("\u001b[36m");
  const dumb = double({ isTTY: true, env: { TERM: "dumb" } });
  dumb.progress.bar("A", 2).update(1);
  expect(dumb.written.join("")).not.toContain("\u001b");
});

test("a resumed run has the rate of this run", () => {
  const { written, clock, progress } = double({ json: true });
  const bar = progress.bar("Steps", 110, { start: 90 });
  clock.ms = 5000;
  bar.update(100, { loss: 1.5 });
  expect(JSON.parse(written[0]!)).toEqual({
    ...{ event: "progress", label: "Steps", done: 100, total: 110, elapsed_s: 5, rate: 2, eta_s: 5, loss: 1.5 },
  });
});

test("JSON: one object per line", () => {
  const { written, progress } = double({ json: true, isTTY: true });
  progress.note("hello");
  progress.bar("Steps", 2).update(1);
  progress.warn("cut");
  progress.close();
  expect(written.map((w) => JSON.parse(w).event)).toEqual(["note", "progress", "warning"]);
  for (const w of written) expect(w.indexOf("\n")).toBe(w.length - 1);
});

test("bytes in kB, MB, GB with three digits", () => {
  const { written, clock, progress } = double();
  const bar = progress.bar("Pulling", 4_265_000_000, { unit: "B", start: 999 });
  clock.ms = 2000;
  for (const done of [999, 999_600, 4_265_000_000]) bar.update(done, { files: "1/2" });
  expect(written[0]).toContain("| 999/4.26G [00:02<?, ?B/s, files=1/2]");
  expect(written[1]).toContain("100%|████████████████████| 4.26G/4.26G [00:02<00:00, 2.13GB/s, files=1/2]");
  const small = progress.bar("Pulling", 1_000_000, { unit: "B" });
  clock.ms = 4000;
  small.update(999_600);
  expect(written[2]).toContain("| 1.00M/1.00M [00:02<00:00, 500kB/s]");
});

/** Progress on stderr: one line with rate and time left, or NDJSON. */

/** Numbers and words shown after the rate: loss, learning rate. */
export type Facts = Readonly<Record<string, number | string>>;

export interface Bar {
  /** `done` so far, of the bar's total. */
  update(done: number, facts?: Facts): void;
  /** Ends the line, as it stands. */
  end(): void;
}

export interface Progress {
  /** A new bar; the one before is ended. Unit "B" is shown in kB, MB, GB. `start` is what was done before the clock started. */
  bar(label: string, total: number, options?: { unit?: string; start?: number }): Bar;
  /** A line that stays. */
  note(text: string): void;
  /** The same about something that the user may not want. */
  warn(text: string): void;
  /** Leaves the cursor on an empty line. */
  close(): void;
}

/** Where progress goes: process.stderr, or a double in tests. */
export interface Sink {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
}

export interface ProgressOptions {
  readonly sink?: Sink;
  readonly json?: boolean;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Milliseconds. */
  readonly now?: () => number;
}

const MIN_INTERVAL = 100; // ms between two drawings

export function createProgress({
  sink = process.stderr,
  json = false,
  env = process.env,
  now = () => performance.now(),
}: ProgressOptions = {}): Progress {
  const live = !json && sink.isTTY === true && env.TERM !== "dumb";
  const colour = live && !env.NO_COLOR;
  let open: Bar | undefined;
  const line = (o: object): unknown => sink.write(`${JSON.stringify(o)}\n`);
  return {
    bar(label, total, { unit = "it", start = 0 } = {}) {
      open?.end();
      const began = now();
      let drawn = Number.NEGATIVE_INFINITY;
      let shownTenths = -1;
      let ended = false;
      let last = "";
      const bar: Bar = {
        update(done, facts = {}) {
          if (ended) return;
          const seconds = (now() - began) / 1000;
          const state: State = { label, total, unit, done, seconds, facts, rate: (done - start) / seconds };
          if (json) return void line(event(state));
          const tenths = Math.floor((10 * done) / total);
          last = render(state, live ? (sink.columns ?? 80) : 200);
          if (live) {
            if (now() - drawn < MIN_INTERVAL && done < total) return;
            sink.write(`\r\u001b[K${colour ? last.replace(/[▉-▏█]+/, "\u001b[36m$&\u001b[39m") : last}`);
            drawn = now();
          } else if (tenths > shownTenths) sink.write(`${last}\n`);
          shownTenths = tenths;
          if (done >= total) bar.end();
        },
        end() {
          if (ended) return;
          ended = true;
          open = undefined;
          if (live && last) sink.write("\n");
        },
      };
      open = bar;
      return bar;
    },
    note(text) {
      open?.end();
      if (json) line({ event: "note", text });
      else sink.write(`${text}\n`);
    },
    warn(text) {
      open?.end();
      if (json) line({ event: "warning", text });
      else sink.write(`warning: ${text}\n`);
    },
    close: () => open?.end(),
  };
}

interface State {
  readonly label: string;
  readonly total: number;
  readonly unit: string;
  readonly done: number;
  readonly seconds: number;
  readonly facts: Facts;
  /** Units per second; NaN or infinite before there is one. */
  readonly rate: number;
}

function event({ label, total, done, seconds, facts, rate }: State): object {
  const known = Number.isFinite(rate) && rate > 0;
  return {
    event: "progress",
    label,
    done,
    total,
    elapsed_s: round(seconds),
    ...(known && { rate: round(rate), eta_s: round((total - done) / rate) }),
    ...facts,
  };
}

const round = (x: number): number => Number(x.toPrecision(4));

/** As tqdm: `Steps:  42%|███▏     | 5/12 [00:03<00:04, 1.6it/s, loss=0.13]`. */
export function render({ label, total, unit, done, seconds, facts, rate }: State, width: number): string {
  const known = Number.isFinite(rate) && rate > 0;
  const inBytes = unit === "B";
  const amount = (n: number): string => (inBytes ? scaled(n) : String(n));
  const per = rate >= 1 ? `${rate.toFixed(1)}${unit}/s` : `${(1 / rate).toFixed(1)}s/${unit}`;
  const speed = !known ? `?${unit}/s` : inBytes ? `${scaled(rate)}B/s` : per;
  const left = known ? clock((total - done) / rate) : "?";
  const extra = Object.entries(facts).map(([k, v]) => `${k}=${typeof v === "number" ? Number(v.toPrecision(3)) : v}`);
  const head = `${label}: ${String(Math.round((100 * done) / total)).padStart(3)}%|`;
  const tail = `| ${amount(done)}/${amount(total)} [${[`${clock(seconds)}<${left}`, speed, ...extra].join(", ")}]`;
  const cells = Math.max(0, Math.min(20, width - 1 - head.length - tail.length));
  return `${head}${blocks(done / total, cells)}${tail}`.slice(0, width - 1);
}

/** Bytes with three digits, as tqdm: 4.27G. */
function scaled(bytes: number): string {
  const power = bytes < 999.5 ? 0 : Math.min(4, Math.floor(Math.log10(bytes * 1.0005) / 3));
  return power === 0 ? bytes.toFixed(0) : `${(bytes / 1000 ** power).toPrecision(3)}${" kMGT"[power]}`;
}

/** A bar of `cells` characters, in eighths. */
function blocks(share: number, cells: number): string {
  const eighths = Math.round(Math.min(1, Math.max(0, share)) * cells * 8);
  const rest = eighths % 8;
  return ("█".repeat(Math.floor(eighths / 8)) + (rest ? String.fromCharCode(0x2590 - rest) : "")).padEnd(cells);
}

/** 1:02:03, or 02:03. */
export function clock(seconds: number): string {
  const s = Math.round(seconds);
  const two = (n: number): string => String(n).padStart(2, "0");
  const minutes = `${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
  return s >= 3600 ? `${Math.floor(s / 3600)}:${minutes}` : minutes;
}

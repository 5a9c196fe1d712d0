/**
 * Draws the losses of the pocket model's training, from the logs in models/pocket/training, as docs/pocket-curves.svg: a panel for
 * each part, over the samples that it has seen, its runs in their order.
 *
 *     node --import tsx scripts/pocket-curves.ts
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename } from "node:path";

const TRAINING = "models/pocket/training";
/** What of the logs is drawn: of the UNet the error without the runs' different weights, of the tuning-encoder without its other losses. */
const PANELS = [
  { title: "autoencoder: loss", runs: /^1/, of: "loss" },
  { title: "CLIP pair: loss", runs: /^2/, of: "loss" },
  { title: "UNet: squared error", runs: /^3/, of: "mse" },
  { title: "tuning-encoder: squared error", runs: /^4/, of: "diffusion" },
  { title: "judge: loss", runs: /^5/, of: "loss" },
  { title: "subject mask: loss", runs: /^7/, of: "loss" },
];
const [WIDTH, HEIGHT, GAP, LEFT] = [720, 150, 46, 56];
/** Points of a run's curve, each the mean of the log lines since the one before. */
const POINTS = 25;

interface Run {
  readonly name: string;
  /** Samples seen by this run, and the loss or error. */
  readonly points: readonly (readonly [samples: number, loss: number])[];
}

const json = (path: string): unknown => JSON.parse(readFileSync(path, "utf8"));

function readRun(file: string, of: string): Run {
  const name = basename(file, ".ndjson");
  const { batch_size: batch } = json(`${TRAINING}/${name}.json`) as { batch_size: number };
  const lines = readFileSync(`${TRAINING}/logs/${file}`, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Readonly<Record<string, number>>);
  const each = Math.ceil(lines.length / POINTS);
  const points = lines.flatMap((line, i) => {
    if (i % each !== each - 1 && i !== lines.length - 1) return [];
    const some = lines.slice(Math.max(0, i - each + 1), i + 1);
    return [[batch * line.step!, some.reduce((sum, each) => sum + each[of]!, 0) / some.length] as const];
  });
  return { name, points };
}

const round = (x: number): string => x.toFixed(1);
const text = (x: number, y: number, what: string, more: string = ""): string =>
  `<text x="${round(x)}" y="${round(y)}" ${more}>${what}</text>`;

function panel(title: string, runs: readonly Run[], top: number): string {
  const lengths = runs.map(({ points }) => points.at(-1)![0]);
  const total = lengths.reduce((a, b) => a + b, 0);
  const losses = runs.flatMap(({ points }) => points.map(([, loss]) => loss)).sort((a, b) => a - b);
  // the first steps of a fresh model would press all the rest to the ground
  const [low, high] = [losses[0]!, losses[Math.floor(0.97 * (losses.length - 1))]!];
  const x = (samples: number): number => LEFT + (WIDTH * samples) / total;
  const y = (loss: number): number => top + HEIGHT * (1 - Math.min(1, (loss - low) / (high - low || 1)));
  let seen = 0;
  const drawn = runs.map(({ name, points }, i) => {
    const line = points.map(([samples, loss]) => `${round(x(seen + samples))},${round(y(loss))}`).join(" ");
    const label = text(x(seen) + 3, top + 10, name.split("-")[0]!, 'class="run"');
    const edge = `<line x1="${round(x(seen))}" x2="${round(x(seen))}" y1="${top}" y2="${top + HEIGHT}" class="edge"/>`;
    seen += lengths[i]!;
    return `${edge}${label}<polyline points="${line}"/>`;
  });
  return [
    text(
      LEFT,
      top - 8,
      `${title} over ${Math.round(total / 1000).toLocaleString("en")} thousand samples`,
      'class="title"',
    ),
    text(LEFT - 6, top + 10, high.toPrecision(3), 'text-anchor="end"'),
    text(LEFT - 6, top + HEIGHT, low.toPrecision(3), 'text-anchor="end"'),
    `<rect x="${LEFT}" y="${top}" width="${WIDTH}" height="${HEIGHT}" class="frame"/>`,
    ...drawn,
  ].join("\n");
}

const files = readdirSync(`${TRAINING}/logs`).sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
const panels = PANELS.map(({ title, runs, of }) => ({
  title,
  runs: files.filter((f) => runs.test(f)).map((f) => readRun(f, of)),
}));
const height = panels.length * (HEIGHT + GAP) + 10;
const style =
  "text{font:11px sans-serif;fill:#444}.title{font-size:13px;fill:#111}.run{font-size:9px;fill:#888}.frame{fill:none;stroke:#ccc}.edge{stroke:#ddd}polyline{fill:none;stroke:#2563eb;stroke-width:1.2}";
writeFileSync(
  "docs/pocket-curves.svg",
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${LEFT + WIDTH + 10} ${height}" width="${LEFT + WIDTH + 10}" height="${height}"><style>${style}</style><rect width="100%" height="100%" fill="#fff"/>
${panels.map(({ title, runs }, i) => panel(title, runs, 30 + i * (HEIGHT + GAP))).join("\n")}
</svg>
`,
);
console.log("docs/pocket-curves.svg");

"""What a tuning step of Stable Diffusion 1.5 costs by resolution, batch and rank, and concepts in turn on one loaded model.

    .venv/bin/python bench/sd15/curves.py [--model FOLDER] [--steps 3]

Each row is a process of its own, whose first step isn't counted. Writes docs/results/sd15-curves.md and
bench/results/sd15-curves.json (another folder with --results). No package is needed; bench/sd-parity/make_models.py makes the model.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "bench"))
from memory import watched  # noqa: E402

SIZES = [256, 384, 512, 640, 768]
BATCHES = [1, 2, 4]
RANKS = [1, 4, 16, 64]
CONCEPTS = [2, 10, 100]


def measure(kind: str, args: argparse.Namespace, **flags: int) -> dict:
    pairs = [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    out, memory = watched(["node", "--import", "tsx", "bench/sd15/ours.ts", kind, "--model", args.model, *pairs], ROOT)
    told = json.loads(out.strip().splitlines()[-1])
    ends = told["ends"]
    steps = [b - a for a, b in zip(ends, ends[1:])]
    found = {**flags, "step_s": statistics.median(steps), "steps_s": steps, "anon_bytes": memory["anon"]}
    if "ready" in told:
        found["first_s"] = ends[0] - told["ready"]
    found["flops"] = sum(told["flops"].values())
    print(kind, flags, f"{found['step_s']:.2f} s, {found['anon_bytes'] / 1e6:,.0f} MB", file=sys.stderr, flush=True)
    return found


def line(xs: list[float], ys: list[float]) -> tuple[float, float, float]:
    """Intercept and slope of least squares, and the largest residual over its value."""
    mx, my = statistics.mean(xs), statistics.mean(ys)
    slope = sum((x - mx) * (y - my) for x, y in zip(xs, ys)) / sum((x - mx) ** 2 for x in xs)
    start = my - slope * mx
    return start, slope, max(abs(start + slope * x - y) / y for x, y in zip(xs, ys))


def table(title: str, key: str, rows: list[dict]) -> list[str]:
    lines = [f"| {title} | seconds a step | TFLOP | GFLOP/s | anonymous memory |", "|---:|---:|---:|---:|---:|"]
    for r in rows:
        lines.append(
            f"| {r[key]} | {r['step_s']:.2f} | {r['flops'] / 1e12:.2f} | {r['flops'] / r['step_s'] / 1e9:.0f} | {r['anon_bytes'] / 1e6:,.0f} MB |"
        )
    return [*lines, ""]


def markdown(found: dict[str, list[dict]], args: argparse.Namespace, commit: str) -> str:
    start, slope, worst = line([r["size"] ** 2 for r in found["size"]], [r["anon_bytes"] for r in found["size"]])
    one, many = found["concepts"][0], found["concepts"][-1]
    lines = [
        "# What a tuning step of Stable Diffusion 1.5 costs",
        "",
        f"Written by `bench/sd15/curves.py`, do not edit. The dual-path step on two CPU cores, float32, random weights at full size; a row is a process, times are",
        f"medians of {args.steps - 1} steps after the first. FLOPs are counted from the graph, two a multiply-add. Commit {commit}.",
        "",
        "## Resolution, rank 4, one draw",
        "",
        *table("pixels a side", "size", found["size"]),
        f"Memory: {start / 1e6:,.0f} MB and {slope * 1e-6 * 256**2:,.0f} MB for each 256x256 pixels, within {worst:.0%} of each row.",
        "",
        "## Draws at once, 256x256, rank 4",
        "",
        *table("draws", "batch_size", found["batch_size"]),
        "## Rank, 256x256, one draw",
        "",
        *table("rank", "rank", found["rank"]),
        "## Concepts on one loaded model",
        "",
        "One picture of 128x128 in one step for each concept in turn, all of rank 4 and held in memory; the runtime keeps its programs (`keepPrograms`).",
        "",
        "| concepts | first picture | each after it | anonymous memory |",
        "|---:|---:|---:|---:|",
        *(f"| {r['concepts']} | {r['first_s']:.2f} s | {r['step_s']:.2f} s | {r['anon_bytes'] / 1e6:,.0f} MB |" for r in found["concepts"]),
        "",
        f"A concept has 3.2 MB of float32 values; the {many['concepts'] - one['concepts']} more take {(many['anon_bytes'] - one['anon_bytes']) / 1e6:,.0f} MB.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="data/sd-parity/sd15")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--results", type=pathlib.Path)
    args = parser.parse_args()
    if args.steps < 2:
        parser.error("--steps: needed 2 or more, as the first isn't counted")
    steps = args.steps
    small = {"size": 256, "steps": steps}
    found = {
        "size": [measure("dual", args, size=n, steps=steps) for n in SIZES],
        "batch_size": [measure("dual", args, **small, batch_size=n) for n in BATCHES],
        "rank": [measure("dual", args, **small, rank=n) for n in RANKS],
        "concepts": [measure("concepts", args, size=128, steps=1, concepts=n) for n in CONCEPTS],
    }
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    docs, data = (args.results, args.results) if args.results else (ROOT / "docs/results", ROOT / "bench/results")
    data.joinpath("sd15-curves.json").write_text(json.dumps(found, indent=1) + "\n")
    docs.joinpath("sd15-curves.md").write_text(markdown(found, args, commit))


if __name__ == "__main__":
    main()

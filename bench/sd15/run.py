"""Full-size Stable Diffusion 1.5 on this machine: ours beside diffusers and PEFT on PyTorch, in turn, step by step.

    .venv/bin/python bench/sd15/run.py [--model FOLDER] [--size 512] [--rounds 2] [--steps 3] [--rival FLAGS]

Each round starts every kind of run once, one after the other, each in a process of its own; the first step of a process warms up
and isn't counted. Writes docs/results/sd15.md and bench/results/sd15.json (another folder with --results).
--rival takes rival.py's flags as one text, such as "--checkpointing --channels-last". bench/sd-parity/make_models.py makes the model.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "bench"))
from memory import watched  # noqa: E402

# what is run: label, whose, kind, flags
RUNS = [
    ("our plain LoRA step", "ours", "plain", []),
    ("our plain LoRA step, recompute 200", "ours", "plain", ["--recompute", "200"]),
    ("PEFT's LoRA step", "rival", "train", []),
    ("our dual-path step", "ours", "dual", []),
    ("our dual-path step, recompute 200", "ours", "dual", ["--recompute", "200"]),
    ("our sampling step, guided", "ours", "generate", []),
    ("diffusers' sampling step, guided", "rival", "generate", []),
    ("our matrix products", "ours", "peak", []),
    ("PyTorch's matrix products", "rival", "peak", []),
]
# ratio of two labels, and the bar for it
RATIOS = [
    ("step_s", "our plain LoRA step", "PEFT's LoRA step", 0.7),
    ("peak_bytes", "our plain LoRA step", "PEFT's LoRA step", 1 / 3),
    ("step_s", "our plain LoRA step, recompute 200", "PEFT's LoRA step", 0.7),
    ("peak_bytes", "our plain LoRA step, recompute 200", "PEFT's LoRA step", 1 / 3),
    ("step_s", "our dual-path step", "PEFT's LoRA step", 1.0),
    ("step_s", "our dual-path step", "our plain LoRA step", 1.35),
    ("step_s", "our sampling step, guided", "diffusers' sampling step, guided", 0.75),
    ("start_s", "our sampling step, guided", "diffusers' sampling step, guided", 0.3),
]
NAMES = {"step_s": "time", "peak_bytes": "peak memory", "start_s": "process start to the end of the first step, less one step"}


def command(whose: str, kind: str, more: list[str], args: argparse.Namespace) -> list[str]:
    sizes = ["--size", str(args.size), "--steps", str(args.steps)]
    if whose == "ours":
        return ["node", "--import", "tsx", "bench/sd15/ours.ts", kind, "--model", args.model, *sizes, *more]
    flags = [] if kind == "peak" else args.rival.split()
    return [sys.executable, "bench/sd15/rival.py", kind, args.model, *sizes, *flags]


def measure(whose: str, kind: str, more: list[str], args: argparse.Namespace) -> dict:
    load = os.getloadavg()[0]
    out, memory = watched(command(whose, kind, more, args), ROOT)
    told = json.loads(out.strip().splitlines()[-1])
    ends = told["ends"]
    processes = [memory["parent"], memory["child"]]
    return {
        "load": load,
        "steps_s": [b - a for a, b in zip(ends, ends[1:])],
        "first_s": ends[0] - told["began"],
        "anon_bytes": memory["anon"],
        "peak_bytes": max(p.get("VmHWM", 0) for p in processes),
        **{key: told[key] for key in ("flops", "nodes", "losses") if key in told},
    }


def summary(measured: list[dict]) -> dict:
    """Medians over all rounds; of memory the most."""
    step = statistics.median(s for m in measured for s in m["steps_s"])
    flops = measured[0].get("flops")
    return {
        "step_s": step,
        "start_s": max(0.0, statistics.median(m["first_s"] for m in measured) - step),
        "anon_bytes": max(m["anon_bytes"] for m in measured),
        "peak_bytes": max(m["peak_bytes"] for m in measured),
        "flops": flops,
        "nodes": measured[0].get("nodes"),
        "flops_per_s": sum(flops.values()) / step if flops else None,
    }


def markdown(found: dict[str, dict], args: argparse.Namespace, commit: str) -> str:
    peak = found["our matrix products"]["flops_per_s"]
    lines = [
        f"# Stable Diffusion 1.5 at {args.size}x{args.size}, batch 1, fp32, on a CPU",
        "",
        "Written by `bench/sd15/run.py`, do not edit. Random weights at full size; low-rank changes of rank 4 on all q, k and v, and one",
        f"word's embedding. {args.rounds} rounds, in each of which every kind of run has a process of its own; times are medians without a process's first step.",
        "Peak memory is VmHWM of the largest process, which counts pages of mapped weight files; anonymous memory is the highest sum of",
        "RssAnon over all processes. FLOPs are counted from our graph, two a multiply-add; the peak is that of 2048-wide products.",
        "",
        f"Rival: diffusers and PEFT on PyTorch, scaled-dot-product attention, flags `{args.rival or 'none'}`. Commit {commit}.",
        f"Load average before each run: {', '.join(f'{m:.1f}' for m in args.loads)}.",
        "",
        "| | seconds a step | anonymous | VmHWM | TFLOP | nodes | share of the peak |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for label, f in found.items():
        total = f"{sum(f['flops'].values()) / 1e12:.3f}" if f["flops"] else ""
        share = f"{f['flops_per_s'] / peak:.0%}" if f["flops_per_s"] else ""
        lines.append(f"| {label} | {f['step_s']:.2f} | {f['anon_bytes'] / 1e6:,.0f} MB | {f['peak_bytes'] / 1e6:,.0f} MB | {total} | {f['nodes'] or ''} | {share} |")
    lines += ["", f"The machine's peak: {peak / 1e9:.0f} GFLOP/s.", "", "| ratio | of | found | bar |", "|---|---|---:|---:|"]
    for key, a, b, bar in RATIOS:
        ratio = found[a][key] / found[b][key] if found[b][key] else float("nan")
        lines.append(f"| {a} / {b} | {NAMES[key]} | {ratio:.2f} | {bar:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="data/sd-parity/sd15")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rival", default="")
    parser.add_argument("--results", type=pathlib.Path)
    args = parser.parse_args()
    if args.steps < 2:
        sys.exit("--steps: needed 2 or more, as the first step isn't counted")
    measured: dict[str, list[dict]] = {label: [] for label, *_ in RUNS}
    for round_ in range(args.rounds):
        for label, whose, kind, more in RUNS:
            measured[label].append(measure(whose, kind, more, args))
            print(f"round {round_ + 1}: {label}: {measured[label][-1]['steps_s']}", file=sys.stderr, flush=True)
    args.loads = [m["load"] for runs in measured.values() for m in runs]
    found = {label: summary(runs) for label, runs in measured.items()}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    docs, results = (args.results, args.results) if args.results else (ROOT / "docs/results", ROOT / "bench/results")
    docs.mkdir(parents=True, exist_ok=True)
    settings = {k: v for k, v in vars(args).items() if k not in ("results", "loads")}
    (results / "sd15.json").write_text(json.dumps({"commit": commit, "settings": settings, "runs": measured}, indent=1) + "\n")
    text = markdown(found, args, commit)
    (docs / "sd15.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()

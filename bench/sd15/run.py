"""Full-size Stable Diffusion 1.5 on this machine: ours beside diffusers and PEFT on PyTorch, in turn, step by step.

    .venv/bin/python bench/sd15/run.py [--model FOLDER] [--size 512] [--rounds 2] [--steps 3] [--rival FLAGS] [--gpu] [--node node]

Each round starts every kind of run once, one after the other, each in a process of its own; the first step of a process warms up
and isn't counted. Writes docs/results/sd15.md and bench/results/sd15.json (another folder with --results).
With --gpu ours runs on WebGPU and the rival on CUDA, on one card; that goes to sd15-gpu.md and sd15-gpu.json.
--rival takes rival.py's flags as one text, such as "--checkpointing --channels-last". bench/sd-parity/make_models.py makes the model.
"""

import argparse
import functools
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
    ("our plain LoRA step, recompute 800", "ours", "plain", ["--recompute", "800"]),
    ("our plain LoRA step, 8 bits", "ours", "plain", ["--int8"]),
    ("our plain LoRA step, 8 bits, recompute 800", "ours", "plain", ["--int8", "--recompute", "800"]),
    ("PEFT's LoRA step", "rival", "train", []),
    ("our dual-path step", "ours", "dual", []),
    ("our dual-path step, recompute 800", "ours", "dual", ["--recompute", "800"]),
    ("our dual-path step, 8 bits", "ours", "dual", ["--int8"]),
    ("our dual-path step, 8 bits, recompute 800", "ours", "dual", ["--int8", "--recompute", "800"]),
    ("our sampling step, guided", "ours", "generate", []),
    ("our sampling step, guided, 8 bits", "ours", "generate", ["--int8"]),
    ("diffusers' sampling step, guided", "rival", "generate", []),
    ("our matrix products", "ours", "peak", []),
    ("PyTorch's matrix products", "rival", "peak", []),
]
# on a GPU: memory isn't short there; PyTorch with and without the short float32 of tensor cores
GPU_RUNS = [
    ("our plain LoRA step", "ours", "plain", []),
    ("PEFT's LoRA step", "rival", "train", []),
    ("PEFT's LoRA step, TF32", "rival", "train", ["--tf32"]),
    ("our dual-path step", "ours", "dual", []),
    ("our sampling step, guided", "ours", "generate", []),
    ("diffusers' sampling step, guided", "rival", "generate", []),
    ("diffusers' sampling step, guided, TF32", "rival", "generate", ["--tf32"]),
    ("PyTorch's matrix products", "rival", "peak", []),
]
PEAK_FLOPS = 4 * 2 * 2048**3  # of one step of the kind "peak"
# ratio of two labels, and the bar for it
RATIOS = [
    ("step_s", "our plain LoRA step", "PEFT's LoRA step", 0.7),
    ("peak_bytes", "our plain LoRA step", "PEFT's LoRA step", 1 / 3),
    ("step_s", "our plain LoRA step, recompute 800", "PEFT's LoRA step", 0.7),
    ("peak_bytes", "our plain LoRA step, recompute 800", "PEFT's LoRA step", 1 / 3),
    ("anon_bytes", "our plain LoRA step, recompute 800", "PEFT's LoRA step", 1 / 3),
    ("step_s", "our plain LoRA step, 8 bits", "PEFT's LoRA step", 0.7),
    ("step_s", "our plain LoRA step, 8 bits, recompute 800", "PEFT's LoRA step", 0.7),
    ("peak_bytes", "our plain LoRA step, 8 bits, recompute 800", "PEFT's LoRA step", 1 / 3),
    ("anon_bytes", "our plain LoRA step, 8 bits, recompute 800", "PEFT's LoRA step", 1 / 3),
    ("step_s", "our dual-path step", "PEFT's LoRA step", 1.0),
    ("step_s", "our dual-path step, 8 bits", "PEFT's LoRA step", 1.0),
    ("step_s", "our dual-path step, 8 bits, recompute 800", "PEFT's LoRA step", 1.0),
    ("step_s", "our dual-path step, 8 bits, recompute 800", "our plain LoRA step, 8 bits, recompute 800", 1.35),
    ("step_s", "our dual-path step, 8 bits", "our plain LoRA step, 8 bits", 1.35),
    ("step_s", "our dual-path step", "our plain LoRA step", 1.35),
    ("step_s", "our sampling step, guided", "diffusers' sampling step, guided", 0.75),
    ("step_s", "our sampling step, guided, 8 bits", "diffusers' sampling step, guided", 0.75),
    ("start_s", "our sampling step, guided", "diffusers' sampling step, guided", 0.3),
    ("start_s", "our sampling step, guided, 8 bits", "diffusers' sampling step, guided", 0.3),
]
NAMES = {"step_s": "time", "peak_bytes": "peak memory", "anon_bytes": "anonymous memory", "start_s": "process start to the end of the first step, less one step"}


def command(whose: str, kind: str, more: list[str], args: argparse.Namespace) -> list[str]:
    sizes = ["--size", str(args.size), "--steps", str(args.steps)]
    if whose == "ours":
        device = ["--device", "webgpu"] if args.gpu else []
        return [*node(args.node), "bench/sd15/ours.ts", kind, "--model", args.model, *sizes, *device, *more]
    device = ["--device", "cuda"] if args.gpu else []
    flags = [] if kind == "peak" else args.rival.split()
    return [sys.executable, "bench/sd15/rival.py", kind, args.model, *sizes, *device, *flags, *more]


@functools.cache
def node(path: str) -> list[str]:
    """The command that runs TypeScript: Node alone where it reads that itself, as apps/cli/bin/likeness.js has it."""
    own = subprocess.run([path, "-p", "!!process.features.typescript"], check=True, capture_output=True, text=True).stdout.strip()
    return [path] if own == "true" else [path, "--import", "tsx"]


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
        "ready_s": told["ready"] - told["began"] if "ready" in told else None,
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
    measured_by = "PyTorch's matrix products" if args.gpu else "our matrix products"
    peak = PEAK_FLOPS / found[measured_by]["step_s"]
    where = f"{args.card}: ours on WebGPU, PyTorch on CUDA" if args.gpu else "a CPU"
    lines = [
        f"# Stable Diffusion 1.5 at {args.size}x{args.size}, batch 1, fp32, on {where}",
        "",
        "Written by `bench/sd15/run.py`, do not edit. Random weights at full size; low-rank changes of rank 4 on all q, k and v, and one",
        f"word's embedding. {args.rounds} rounds, in each of which every kind of run has a process of its own; times are medians without a process's first step.",
        "Memory is the computer's, not a card's: VmHWM is that of the largest process and counts pages of mapped weight files; anonymous memory",
        "is the highest sum of RssAnon over all processes. 8 bits are products with frozen weights (`--int8`, docs/decisions/0009-int8.md). FLOPs are counted from our graph, two a multiply-add; the peak is that of products of 2048-wide matrices.",
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
        lines.append(f"| {label} | {f['step_s']:.3g} | {f['anon_bytes'] / 1e6:,.0f} MB | {f['peak_bytes'] / 1e6:,.0f} MB | {total} | {f['nodes'] or ''} | {share} |")
    lines += ["", f"The peak: {peak / 1e9:,.0f} GFLOP/s, {measured_by}.", "", f"| ratio | of | found | bar{' on a CPU' if args.gpu else ''} |", "|---|---|---:|---:|"]
    for key, a, b, bar in RATIOS:
        if a not in found or (args.gpu and key.endswith("_bytes")):
            continue
        ratio = found[a][key] / found[b][key] if found[b][key] else float("nan")
        lines.append(f"| {a} / {b} | {NAMES[key]} | {ratio:.2f} | {bar:.2f} |")
    return "\n".join(lines) + "\n"


def card() -> str:
    import torch

    return torch.cuda.get_device_name()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="data/sd-parity/sd15")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rival", default="")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--node", default="node")
    parser.add_argument("--results", type=pathlib.Path)
    args = parser.parse_args()
    if args.steps < 2:
        sys.exit("--steps: needed 2 or more, as the first step isn't counted")
    runs = GPU_RUNS if args.gpu else RUNS
    args.card = card() if args.gpu else ""
    measured: dict[str, list[dict]] = {label: [] for label, *_ in runs}
    for round_ in range(args.rounds):
        for label, whose, kind, more in runs:
            measured[label].append(measure(whose, kind, more, args))
            print(f"round {round_ + 1}: {label}: {measured[label][-1]['steps_s']}", file=sys.stderr, flush=True)
    args.loads = [m["load"] for runs in measured.values() for m in runs]
    found = {label: summary(runs) for label, runs in measured.items()}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    docs, results = (args.results, args.results) if args.results else (ROOT / "docs/results", ROOT / "bench/results")
    docs.mkdir(parents=True, exist_ok=True)
    settings = {k: v for k, v in vars(args).items() if k not in ("results", "loads", "node")} | {"model": pathlib.Path(args.model).name}
    name = "sd15-gpu" if args.gpu else "sd15"
    (results / f"{name}.json").write_text(json.dumps({"commit": commit, "settings": settings, "runs": measured}, indent=1) + "\n")
    text = markdown(found, args, commit)
    (docs / f"{name}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()

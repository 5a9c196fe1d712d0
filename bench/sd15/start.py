"""From the start of a process to its first sampling step: ours beside diffusers, in turn, on full-size Stable Diffusion 1.5.

    .venv/bin/python bench/sd15/start.py [--model FOLDER] [--size 512] [--rounds 5] [--node node [--node PATH ...]]

Each --node is a row of ours: current Node reads TypeScript itself and keeps what it compiled, as `likeness` asks it to. Files are in
the page cache after a round that isn't counted. Writes docs/results/sd15-start.md.
"""

import argparse
import os
import pathlib
import statistics
import subprocess
import tempfile

from run import ROOT, measure

BAR, BAR_SECONDS = 0.3, 3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="data/sd-parity/sd15")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--node", action="append")
    args = parser.parse_args()
    nodes = args.node or ["node"]
    args.steps, args.gpu, args.rival = 2, False, ""
    version = {n: subprocess.run([n, "--version"], check=True, capture_output=True, text=True).stdout.strip() for n in nodes}
    rows = [(f"ours on Node {version[n]}", "ours", n) for n in nodes] + [("diffusers on PyTorch", "rival", "")]
    measured: dict[str, list[dict]] = {label: [] for label, *_ in rows}
    with tempfile.TemporaryDirectory() as cache:
        os.environ["NODE_COMPILE_CACHE"] = cache
        for round_ in range(args.rounds + 1):
            for label, whose, args.node in rows:
                found = measure(whose, "generate", [], args)
                print(f"{label}: ready {found['ready_s']:.2f}, first step {found['first_s']:.2f}, second {found['steps_s'][0]:.2f}", flush=True)
                if round_ > 0:
                    measured[label].append(found)
    ready = {label: statistics.median(m["ready_s"] for m in all_) for label, all_ in measured.items()}
    whole = {label: statistics.median(m["first_s"] - m["steps_s"][0] for m in all_) for label, all_ in measured.items()}
    theirs = rows[-1][0]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    lines = [
        f"# From process start to the first sampling step, Stable Diffusion 1.5 at {args.size}x{args.size} on a CPU",
        "",
        f"Written by `bench/sd15/start.py`, do not edit. Medians of {args.rounds} rounds, in each of which every row has a process of its own; commit {commit}.",
        "*Ready* is when the first step begins. The first step also brings in what was only mapped: *with that* is the end of the first step less the second's length.",
        f"The bar: {BAR} of diffusers', and {BAR_SECONDS} s.",
        "",
        "| | ready | of diffusers' | with that | of diffusers' |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [f"| {n} | {ready[n]:.2f} s | {ready[n] / ready[theirs]:.2f} | {whole[n]:.2f} s | {whole[n] / whole[theirs]:.2f} |" for n, *_ in rows]
    text = "\n".join(lines) + "\n"
    pathlib.Path(ROOT / "docs/results/sd15-start.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()

"""A whole personalization of full-size Stable Diffusion 1.5 under a hard limit of memory, beside what it said it would take.

    .venv/bin/python bench/sd15/personalize.py [--model FOLDER] [--image-encoder FOLDER] [--encoder FOLDER] [--photo FILE]
        [--limit-gb 6] [--steps 12] [--batch-size 16] [--int8]

Linux, as root: the command runs in a control group that the kernel holds to the limit (cgroup 1 or 2); pages of mapped files count
in it, and may be dropped; the page cache is emptied before, so that none of them counts elsewhere. bench/sd-parity/make_models.py and make-encoder.ts make the models. Adds a row for each run to
bench/results/personalize.json, and writes docs/results/personalize.md from all of them.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "bench"))
from memory import watched  # noqa: E402

V1, V2 = pathlib.Path("/sys/fs/cgroup/memory"), pathlib.Path("/sys/fs/cgroup")


class Group:
    """A control group with a limit of memory; without swap, so nothing but files can leave it."""

    def __init__(self, limit: int) -> None:
        one = V1.is_dir()
        if not one and not (V2 / "cgroup.controllers").exists():
            sys.exit(f"{V2}: needed the kernel's control groups, found none. Run this on Linux, outside a container that hides them.")
        self.path = (V1 if one else V2) / f"likeness-{os.getpid()}"
        self.path.mkdir()
        (self.path / ("memory.limit_in_bytes" if one else "memory.max")).write_text(str(limit))
        self.peak_file = self.path / ("memory.max_usage_in_bytes" if one else "memory.peak")

    def command(self, command: list[str]) -> list[str]:
        return ["sh", "-c", 'echo $$ >"$0"/cgroup.procs && exec "$@"', str(self.path), *command]

    def close(self) -> int:
        peak = int(self.peak_file.read_text()) if self.peak_file.exists() else 0
        self.path.rmdir()
        return peak


def run(args: argparse.Namespace) -> dict:
    subprocess.run(["sync"], check=True)
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("1")
    group = Group(int(args.limit_gb * 1e9))
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "concept.safetensors"
        log = pathlib.Path(folder) / "log"
        flags = ["--image-encoder", args.image_encoder, "--encoder", args.encoder, "--batch-size", str(args.batch_size), "--steps", str(args.steps), *(["--int8"] if args.int8 else [])]
        likeness = ["node", "apps/cli/bin/likeness.js", "personalize", args.photo, "--model", args.model, *flags, "--out", str(out)]
        # stderr goes to a file: it has the plan
        shell = ["sh", "-c", 'log=$0; exec "$@" 2>"$log"', str(log), *likeness]
        try:
            _, memory = watched(group.command(shell), ROOT)
        except SystemExit as error:
            sys.exit(f"{error}\n{log.read_text()[-1500:]}")
        finally:
            in_group = group.close()
        told = log.read_text()
    needs = re.search(r"Needs ([\d.]+) GB of memory and about (?:(\d+):)?(\d+):(\d+)", told)
    hours, minutes, seconds = (int(x or 0) for x in needs.groups()[1:]) if needs else (0, 0, 0)
    processes = [memory["parent"], memory["child"]]
    return {
        "model": pathlib.Path(args.model).name,
        "int8": args.int8,
        "limit_gb": args.limit_gb,
        "steps": args.steps,
        "batch_size": args.batch_size,
        "said_gb": float(needs[1]) if needs else None,
        "said_s": 3600 * hours + 60 * minutes + seconds if needs else None,
        "said": [line for line in told.splitlines() if line.startswith("Memory is short")],
        "seconds": memory["seconds"],
        "anon_bytes": memory["anon"],
        "peak_bytes": max(p.get("VmHWM", 0) for p in processes),
        "group_bytes": in_group,
        "load": os.getloadavg()[0],
        "commit": subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip(),
    }


def markdown(rows: list[dict]) -> str:
    lines = [
        "# A whole personalization of Stable Diffusion 1.5 under a limit of memory",
        "",
        "Written by `bench/sd15/personalize.py`, do not edit. 512x512, random weights at full size, tuning-encoder of 49 million parameters behind",
        "ViT-H/14 and half of the UNet; photo in, concept file out, in a control group that the kernel holds to the limit. \"Said\" is what the command",
        "printed before it began. 8 bits are products with the UNet's weights (`--int8`), whose copies were there already. Resident is VmHWM of the process that computes, with the pages of mapped weight files.",
        "",
        "| weights | limit | steps x draws | resident | said | anonymous | seconds | said | stepped down | load before | commit |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|---:|---|",
    ]
    for r in rows:
        said = f"{r['said_gb']:.1f} GB | " if r["said_gb"] else "| "
        time = f"{r['said_s']:.0f}" if r["said_s"] else ""
        down = "yes" if r["said"] else "no"
        lines.append(
            f"| {r['model']}{', 8 bits' if r.get('int8') else ''} | {r['limit_gb']:g} GB | {r['steps']} x {r['batch_size']} | {r['peak_bytes'] / 1e9:.2f} GB | {said}{r['anon_bytes'] / 1e9:.2f} GB | "
            f"{r['seconds']:.0f} | {time} | {down} | {r['load']:.1f} | {r.get('commit', '')} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="data/sd-parity/sd15")
    parser.add_argument("--image-encoder", default="data/sd-parity/vit-h")
    parser.add_argument("--encoder", default="data/sd-parity/tuning-encoder")
    parser.add_argument("--photo", default="models/pocket/examples/owl.png")
    parser.add_argument("--limit-gb", type=float, default=6)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--int8", action="store_true")
    args = parser.parse_args()
    results = ROOT / "bench/results/personalize.json"
    rows = json.loads(results.read_text()) if results.exists() else []
    rows.append(run(args))
    results.write_text(json.dumps(rows, indent=1) + "\n")
    text = markdown(rows)
    (ROOT / "docs/results/personalize.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()

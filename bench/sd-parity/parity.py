"""The same prompt, seed and weights through diffusers and through `likeness generate`: how far apart are latents and pictures?

    python bench/sd-parity/parity.py [--models sd15 sd21-v] [--schedulers NAME...] [--size N] [--steps N] [--results FOLDER]

A model is a name in data/sd-parity (make_models.py makes them) or a folder. Rows are added to bench/results/sd-parity.json, where a
row of the same model, size, steps, seed and scheduler is replaced; docs/results/sd-parity.md is written from all rows. What diffusers
has made once is kept in data/sd-parity/reference and not made again (--fresh does).
"""

import argparse
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
from PIL import Image
from report import markdown, row_text
from safetensors.numpy import load_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "bench"), str(ROOT / "fixtures/make")]
from memory import watched  # noqa: E402
from scheduler_classes import SCHEDULERS  # noqa: E402

DATA = ROOT / "data/sd-parity"


def folder_of(model: str) -> pathlib.Path:
    path = next((p for p in (DATA / model, pathlib.Path(model), ROOT / model) if (p / "model_index.json").exists()), None)
    if path is None:
        sys.exit(f"{model}: no such model; make it with make_models.py")
    return path.resolve()


def resolution(folder: pathlib.Path) -> int:
    unet, vae = (json.loads((folder / part / "config.json").read_text()) for part in ("unet", "vae"))
    return unet["sample_size"] * 2 ** (len(vae["block_out_channels"]) - 1)


def reference(folder: pathlib.Path, size: int, schedulers: list[str], args: argparse.Namespace) -> pathlib.Path:
    """The folder with what diffusers makes; one process for all that is missing."""
    weights = [(str(p.relative_to(folder)), p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.rglob("*.safetensors"))]
    key = json.dumps([weights, size, args.steps, args.seed, args.guidance, args.prompt])
    out = DATA / "reference" / hashlib.sha256(key.encode()).hexdigest()[:16]
    out.mkdir(parents=True, exist_ok=True)
    missing = [s for s in schedulers if args.fresh or not (out / f"{s}.json").exists()]
    if missing:
        print(f"diffusers: {', '.join(missing)}", file=sys.stderr, flush=True)
        options = {"size": size, "steps": args.steps, "seed": args.seed, "guidance": args.guidance, "prompt": args.prompt}
        flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        script = str(pathlib.Path(__file__).with_name("reference.py"))
        subprocess.run([sys.executable, script, str(folder), str(out), *flags, "--schedulers", *missing], check=True)
    return out


def ours(folder: pathlib.Path, size: int, scheduler: str, args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, dict]:
    with tempfile.TemporaryDirectory() as temp:
        latents = f"{temp}/latents.safetensors"
        options = {
            "--model": folder, "--seed": args.seed, "--steps": args.steps, "--guidance-scale": args.guidance, "--scheduler": scheduler,
            "--width": size, "--height": size, "--save-latents": latents, "--out": f"{temp}/out",
        }  # fmt: skip
        flags = [str(text) for pair in options.items() for text in pair]
        path, facts = watched(["node", "apps/cli/bin/likeness.js", "generate", args.prompt, *flags], ROOT)
        return load_file(latents)["latents"], np.asarray(Image.open(path.strip()).convert("RGB")), facts


def compare(folder: pathlib.Path, size: int, scheduler: str, kept: pathlib.Path, args: argparse.Namespace) -> dict:
    load = os.getloadavg()[0]
    latents, picture, facts = ours(folder, size, scheduler, args)
    golden = np.load(kept / f"{scheduler}.npz")
    theirs = json.loads((kept / f"{scheduler}.json").read_text())
    distance = np.abs(latents.astype(np.float64) - golden["latents"])
    grey = np.abs(picture.astype(int) - golden["picture"].astype(int))
    return {
        "model": folder.name,
        "size": size,
        "steps": args.steps,
        "seed": args.seed,
        "guidance_scale": args.guidance,
        "scheduler": scheduler,
        "latents_max_over_std": float(distance.max() / golden["latents"].std()),
        "latents_rms_over_std": float(np.sqrt((distance**2).mean()) / golden["latents"].std()),
        "latents_std": float(golden["latents"].std()),
        "png_p999": float(np.percentile(grey, 99.9)),
        "png_max": int(grey.max()),
        "png_std": float(golden["picture"].std()),
        "seconds": facts["seconds"],
        "diffusers_seconds": theirs["seconds"],
        "diffusers_load_seconds": theirs["load_seconds"],
        "anon_bytes": facts["anon"],
        "parent": facts["parent"],
        "runtime": facts["child"],
        "diffusers": theirs["memory"],
        "load_average_before": load,
        "date": time.strftime("%Y-%m-%d"),
        "commit": subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip(),
        "versions": f"diffusers {theirs['diffusers']}, torch {theirs['torch']}",
    }


def machine() -> str:
    cpu = next((line.split(": ")[1] for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "unknown")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{cpu}, {os.cpu_count()} cores, {memory:.0f} GiB"


def keep(row: dict, results: pathlib.Path) -> None:
    path = results / "bench/results/sd-parity.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    key = ["model", "size", "steps", "seed", "scheduler"]
    rows = [r for r in rows if any(r[k] != row[k] for k in key)] + [row]
    order = list(SCHEDULERS)
    rows.sort(key=lambda r: (r["model"], r["size"], r["steps"], order.index(r["scheduler"])))
    for file, text in [(path, json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n"), (results / "docs/results/sd-parity.md", markdown(rows, machine()))]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", nargs="+", default=["sd15", "sd21-v"], metavar="MODEL")
    parser.add_argument("--schedulers", nargs="+", default=list(SCHEDULERS), choices=list(SCHEDULERS), metavar="NAME")
    parser.add_argument("--size", type=int, help="pixels along a side; by default the model's")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--guidance", type=float, default=7.5)
    parser.add_argument("--prompt", default="a photo of a red fox in the snow, mountains behind it, soft evening light")
    parser.add_argument("--fresh", action="store_true", help="run diffusers again, too")
    parser.add_argument("--results", type=pathlib.Path, default=ROOT, help="folder to write bench/results and docs/results in")
    args = parser.parse_args()
    for model in args.models:
        folder = folder_of(model)
        size = args.size or resolution(folder)
        kept = reference(folder, size, args.schedulers, args)
        for scheduler in args.schedulers:
            row = compare(folder, size, scheduler, kept, args)
            keep(row, args.results)
            print(row_text(row), flush=True)


main()

"""Where the time of a step goes: ONNX Runtime's own profile of our graphs, by family of operators.

    python3 bench/sd15/where.py [--model FOLDER] [--size 512]

Writes docs/results/sd15-where.md. Beside each step it runs the machine's matrix products. Profiling itself takes a few percent.
"""

import argparse
import collections
import json
import math
import os
import pathlib
import statistics
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PEAK_FLOPS = 4 * 2 * 2048**3  # of one step of the kind "peak"
STEPS = 3
KINDS = [
    ("The method's tuning step (dual path), float32", ["dual"]),
    ("The method's tuning step, 8 bits, recompute 800", ["dual", "--int8", "--recompute", "800"]),
    ("A plain LoRA step, 8 bits, recompute 800", ["plain", "--int8", "--recompute", "800"]),
]
# what was done about the largest of them; figures stand where they were measured
TRIED = """## What was tried on the largest

- *Convolutions and matrix products*, the largest in float32: Winograd's form (docs/decisions/0005-winograd.md, 1.4 to 2.6 times as fast as ONNX Runtime's
  convolution), then 8 bits (docs/decisions/0009-int8.md, two to three times). ONNX Runtime's packed weights: a tenth, and a copy of all of them in memory.
- *Products of attention*, the largest in 8 bits: by head and in tiles of rows (a third less time than whole, engine facts), probabilities made again in the backward pass instead of kept,
  the sum over rows that the softmax's gradient subtracts carried by a 41st column of the product. Smaller tiles: no difference. They have 40
  columns or 40 rows, and run at nine tenths of the peak in the runs above, at three quarters in others.
- *Movement*: the halves of the feed-forward's gate, and maps put side by side, are cut by one Split, whose gradient is one Concat instead of two Pads and an Add.
""".splitlines()
EIGHT_BITS = {"QuantizeLinear", "DynamicQuantizeLinear", "ReduceMax", "ReduceMin", "Max"}
MOVES = {"Transpose", "Slice", "Concat", "Pad", "Reshape", "Expand", "Identity", "SpaceToDepth", "DepthToSpace", "Resize", "Split"}
NORMS = {"LayerNormalization", "ReduceMean", "ReduceSum", "Sqrt"}


def size(shape: list[int]) -> int:
    return math.prod(shape)


def family(op: str, inputs: list[list[int]]) -> str:
    """What a node is for, by its operator and its inputs' shapes."""
    first = inputs[0] if inputs else []
    if op in ("MatMul", "FusedMatMul"):
        winograd = 36 in (first[:1] or [0]) or first == [16, 36]
        return "Winograd's convolutions" if winograd else "products of attention"
    if op == "MatMulIntegerToFloat":
        return "products in 8 bits"
    if op == "Gemm":
        return "Winograd's convolutions" if first == [36, 9] else "matrix products"
    if op in ("Conv", "ConvTranspose"):
        return "convolutions"
    if op == "Softmax":
        return "softmax"
    if op in EIGHT_BITS or (op == "Mul" and len(inputs) == 2 and inputs[1] == [*first[:1], 1]):
        return "to and from 8 bits"
    if op in MOVES:
        return "movement"
    return "norms and their sums" if op in NORMS else "elementwise"


def flops(op: str, inputs: list[list[int]], output: list[int]) -> float:
    """Two a multiply-add of what the node itself computes: Winograd's products, not the convolution they stand for."""
    if op in ("MatMul", "FusedMatMul", "Gemm"):
        batch = size(output[:-2])
        return 2 * size(output) * math.sqrt(size(inputs[0]) * size(inputs[1]) / (size(output) * batch)) if len(inputs[1]) == len(output) else 2 * size(output) * inputs[0][-1]
    if op == "MatMulIntegerToFloat":
        return 2 * size(output) * inputs[0][-1]
    if op == "Conv":
        return 2 * size(output) * size(inputs[1][1:])
    if op == "ConvTranspose":
        return 2 * size(inputs[0]) * size(inputs[1][1:])
    return 0


def run(kind: list[str], args: argparse.Namespace, profile: str = "") -> list[float]:
    """Seconds of each step but the first."""
    command = ["node", "--import", "tsx", "bench/sd15/ours.ts", *kind, "--model", args.model, "--size", str(args.size), "--steps", str(STEPS)]
    out = subprocess.run(command, cwd=ROOT, env={**os.environ, "LIKENESS_PROFILE": profile}, check=True, capture_output=True, text=True).stdout
    ends = json.loads(out.strip().splitlines()[-1])["ends"]
    return [b - a for a, b in zip(ends, ends[1:])]


def table(kind: list[str], args: argparse.Namespace) -> list[str]:
    before = run(["peak"], args)
    with tempfile.TemporaryDirectory() as folder:
        seconds = statistics.median(run(kind, args, f"{folder}/p"))
        trace = max(pathlib.Path(folder).iterdir(), key=lambda f: f.stat().st_size)
        events = json.loads(trace.read_text())
    peak = PEAK_FLOPS / statistics.median(before + run(["peak"], args))
    time: collections.Counter = collections.Counter()
    count: collections.Counter = collections.Counter()
    work: collections.Counter = collections.Counter()
    for e in events:
        if e.get("cat") != "Node" or not e["name"].endswith("_kernel_time"):
            continue
        op = e["args"]["op_name"]
        inputs = [shape for tensor in e["args"]["input_type_shape"] for shape in tensor.values()]
        output = next(iter(e["args"]["output_type_shape"][0].values()))
        name = family(op, inputs)
        time[name] += e["dur"] / 1e6 / STEPS
        count[name] += 1
        work[name] += flops(op, inputs, output) / STEPS
    total = sum(time.values())
    lines = [f"{seconds:.1f} s a step; {total:.1f} s in operators, the first step with them. The machine's products before and after: {peak / 1e9:.0f} GFLOP/s.", ""]
    lines += ["| | share | seconds | nodes | GFLOP | GFLOP/s |", "|---|---:|---:|---:|---:|---:|"]
    for name, s in time.most_common():
        rate = f"{work[name] / 1e9:,.0f} | {work[name] / s / 1e9:.0f}" if work[name] else "|"
        lines.append(f"| {name} | {s / total:.0%} | {s:.2f} | {count[name] // STEPS:,} | {rate} |")
    done = sum(work.values())
    return [*lines, f"| together | | {total:.2f} | {sum(count.values()) // STEPS:,} | {done / 1e9:,.0f} | {done / total / 1e9:.0f} |"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="data/sd-parity/sd15")
    parser.add_argument("--size", type=int, default=512)
    args = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    lines = [f"# Where a step's time goes, Stable Diffusion 1.5 at {args.size}x{args.size} on a CPU", ""]
    lines += [f"Written by `bench/sd15/where.py`, do not edit. ONNX Runtime's profile, {STEPS} steps each, commit {commit}. FLOPs are those of the nodes: a convolution", "in Winograd's form counts as the products that it is made of, a quarter to a half of the definition's."]
    for title, kind in KINDS:
        lines += ["", f"## {title}", "", *table(kind, args)]
    text = "\n".join([*lines, "", *TRIED]) + "\n"
    (ROOT / "docs/results/sd15-where.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()

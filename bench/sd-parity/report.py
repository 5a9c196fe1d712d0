"""The table of parity.py."""

BARS = {"latents_max_over_std": 2e-3, "png_p999": 2, "anon_bytes": 1.5e9}
HEAD = ["scheduler", "latents, max/std", "latents, rms/std", "PNG, 99.9 %", "PNG, max", "seconds", "diffusers' seconds", "anonymous", "runtime's VmHWM", "diffusers' VmHWM"]


def mb(n: int | None) -> str:
    return f"{n / 1e6:,.0f} MB" if n else ""


def cells(row: dict) -> list[str]:
    return [
        row["scheduler"],
        f"{row['latents_max_over_std']:.1e}",
        f"{row['latents_rms_over_std']:.1e}",
        f"{row['png_p999']:g}",
        str(row["png_max"]),
        f"{row['seconds']:.1f}",
        f"{row['diffusers_seconds']:.1f}",
        mb(row["anon_bytes"]),
        mb(row["runtime"].get("VmHWM")),
        mb(row["diffusers"].get("VmHWM")),
    ]


def row_text(row: dict) -> str:
    """One line for the terminal."""
    named = [f"{h} {c}" for h, c in zip(HEAD[1:], cells(row)[1:]) if c]
    return f"{row['model']} {row['size']} x {row['steps']} {row['scheduler']}: " + ", ".join(named)


def markdown(rows: list[dict], machine: str) -> str:
    lines = [
        "# Picture for picture with diffusers",
        "",
        "Written by `bench/sd-parity/parity.py`, do not edit. Folders made by diffusers with random weights at full size (`make_models.py`),",
        "the same prompt and seed through diffusers and through `likeness generate`: the starting noise and the noise of every step are",
        "drawn anew on both sides. Latents: difference after the last step, its maximum and its root mean square over the standard",
        "deviation of diffusers' latents. PNG: difference of grey values out of 255, the 99.9th percentile and the maximum.",
        "",
        "Seconds are those of the whole command, and for diffusers of the call alone, weights loaded. Anonymous memory is the highest",
        "sum of RssAnon over all processes of the command; VmHWM also counts the pages of the mapped weight files.",
        "",
        f"Bars: latents at most {BARS['latents_max_over_std']:.0e}, PNG at most {BARS['png_p999']:g}, at 512 pixels anonymous memory at most {mb(int(BARS['anon_bytes']))}.",
        "",
        f"Machine: {machine}. Load average before each run is in `bench/results/sd-parity.json`, with commit and versions.",
    ]
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault((row["model"], row["size"], row["steps"], row["seed"], row["guidance_scale"]), []).append(row)
    for (model, size, steps, seed, guidance), group in groups.items():
        worst = {bar: max(row[bar] for row in group) for bar in BARS}
        lines += ["", f"## {model}, {size}x{size}, {steps} steps, seed {seed}, guidance {guidance:g}", ""]
        lines += [f"Worst: latents {worst['latents_max_over_std']:.1e}, PNG {worst['png_p999']:g}, anonymous memory {mb(worst['anon_bytes'])}.", ""]
        lines += [f"| {' | '.join(HEAD)} |", f"|---{'|---:' * (len(HEAD) - 1)}|"]
        lines += [f"| {' | '.join(cells(row))} |" for row in group]
    return "\n".join(lines) + "\n"

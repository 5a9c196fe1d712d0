"""Memory of a running command from the kernel's own figures: /proc/PID/status of the process and of its children."""

import pathlib
import subprocess
import threading
import time


def status(pid: int) -> dict[str, int]:
    """Vm and Rss figures, in bytes; empty once the process has gone."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split(":\t") for line in lines if line.startswith(("VmHWM", "RssAnon", "RssFile")))
    return {name: int(value.split()[0]) * 1024 for name, value in pairs}


def family(pid: int) -> list[int]:
    """The process and all its descendants."""
    found = [pid]
    for parent in found:
        for path in pathlib.Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += [int(child) for child in path.read_text().split()]
            except OSError:
                continue  # ended in between
    return found


def watched(command: list[str], cwd: pathlib.Path, interval: float = 0.02) -> tuple[str, dict]:
    """Runs a command; its stdout, and the wall time and peaks. `anon` is the highest sum over all processes at one moment."""
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peaks: dict[int, dict[str, int]] = {}
    together = 0

    def watch() -> None:
        nonlocal together
        while process.poll() is None:
            anon = 0
            for pid in family(process.pid):
                now = status(pid)
                anon += now.get("RssAnon", 0)
                own = peaks.setdefault(pid, {})
                for name, value in now.items():
                    own[name] = max(own.get(name, 0), value)
            together = max(together, anon)
            time.sleep(interval)

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, err = process.communicate()
    watcher.join()
    seconds = time.perf_counter() - began
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\nended with code {process.returncode}: {err.strip()[-2000:]}")
    parent = peaks.pop(process.pid, {})
    child = max(peaks.values(), key=lambda p: p.get("VmHWM", 0), default={})
    return out, {"seconds": seconds, "anon": together, "parent": parent, "child": child}

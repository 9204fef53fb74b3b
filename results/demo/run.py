"""How long does `make demo` take after installation, and how much memory over all its processes?

    python results/demo/run.py

Runs `make demo` into a fresh folder and adds up the memory of all its processes once a second: PSS, which counts a page
that several processes share once. Writes demo.csv beside this file.
"""

from __future__ import annotations

import csv
import os
import subprocess
import tempfile
import time
from pathlib import Path

import psutil

HERE = Path(__file__).parent


def memory(process: psutil.Process) -> float:
    """PSS of the process and all below it, in GB; those that end while being asked count nothing."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return total / 1e9


def main() -> None:
    """Run, sample, write."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        make = psutil.Popen(["make", "demo", f"DEMO={folder}/study"], cwd=HERE.parent.parent, stdout=subprocess.DEVNULL)
        peak = 0.0
        while make.poll() is None:
            try:
                peak = max(peak, memory(make))
            except psutil.NoSuchProcess:
                break
            time.sleep(1)
        seconds = time.monotonic() - began
    row = {
        "exit": make.wait(),
        "seconds": round(seconds, 1),
        "peak_gb_over_all_processes": round(peak, 2),
        "cores": os.cpu_count(),
        "load_before": round(load, 2),
    }
    with (HERE / "demo.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row), lineterminator="\n")
        writer.writeheader()
        writer.writerow(row)
    print(row)


if __name__ == "__main__":
    main()

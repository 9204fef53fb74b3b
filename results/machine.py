"""What every figure under `results/` is told with: the environment it was measured in, and its CSV.

Knows: versions, processor, files. Does not know: what is measured.
"""

from __future__ import annotations

import csv
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any


def environment(*packages: str) -> str:
    """One line: processor, cores and how busy they are, bf16 instructions, Python, and the versions of `packages`."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    bf16 = any(word in line.split() for line in lines for word in ("avx512_bf16", "amx_bf16"))
    cores = f"{os.cpu_count()} cores (load {os.getloadavg()[0]:.1f}), {'with' if bf16 else 'without'} bf16 instructions"
    return f"{name or platform.machine()}, {cores}; Python {platform.python_version()}, {versions}"


def write_csv(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write `records`, which all have the keys of the first, to `path`."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)


def as_table(records: Sequence[dict[str, Any]]) -> str:
    """`records` as a Markdown table."""
    heads = list(records[0])
    rows = [heads, ["---"] * len(heads), *([str(record[head]) for head in heads] for record in records)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)

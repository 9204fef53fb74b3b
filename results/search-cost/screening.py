"""How many trainings does it spare not to train beaten proposals, and what of the front does it lose? By replay.

Each search is made with and without the rule (`search/screen.py`), named strategies mixed in as a run does it: to 32
candidates, which asks what the front gains or loses at equal cost, and to the end of the table, which asks how many
candidates are never trained. Run from the root of the repository; TABLES holds `measured/` and `published/`:

    python -m results.search-cost.screening TABLES [--seeds 50] [--seeds-to-the-end 8] [--samplers NAME ...]

Knows: the tables and samplers of `samplers.py`. Does not know: how the rule works.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna

from results.machine import as_table, environment

from .volumes import growth

samplers: Any = importlib.import_module("results.search-cost.samplers")  # a name with a hyphen


def share(problem: Any, chosen: list[str]) -> float:
    """The part of the whole table's hypervolume over a constant answer that the chosen patterns reach."""
    reference = problem.references["constant"]
    whole = growth(list(problem.points.values()), reference)[-1]
    return float(growth([problem.points[text] for text in chosen], reference)[-1] / whole)


def compared(problem: Any, name: str, seeds: int, most: int) -> dict[str, str]:
    """One line of the table: means over the seeds, and the largest loss of one seed."""
    trained: dict[bool, list[int]] = {False: [], True: []}
    shares: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            for on in (False, True):
                make = samplers.SAMPLERS[name]
                chosen = samplers.course(problem, make, "mixed", seed, Path(folder), most, screened=on)
                trained[on].append(len(chosen))
                shares[on].append(share(problem, chosen))
    lost = max(before - after for before, after in zip(shares[False], shares[True], strict=True))
    return {
        "table": problem.name,
        "sampler": name,
        "seeds": str(seeds),
        "trained": f"{fmean(trained[False]):.1f} -> {fmean(trained[True]):.1f}",
        "hypervolume": f"{fmean(shares[False]):.4f} -> {fmean(shares[True]):.4f}",
        "largest loss": f"{max(lost, 0):.4f}",
    }


def lines(tables: Path, names: list[str], seeds: int, to_the_end: int) -> Iterator[dict[str, str]]:
    """Both questions for every table and sampler."""
    for problem in samplers.problems(tables):
        for name in names:
            if seeds:
                yield compared(problem, name, seeds, samplers.MOST)
            if to_the_end:
                yield compared(problem, name, to_the_end, len(problem.points))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="What skipping beaten proposals spares and costs, by replay.")
    parser.add_argument("tables", type=Path, help="folder that holds measured/ and published/")
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--seeds-to-the-end", type=int, default=8)
    parser.add_argument("--samplers", nargs="+", default=["random", "PatternSampler"])
    words = parser.parse_args()
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = list(lines(words.tables, words.samplers, words.seeds, words.seeds_to_the_end))
    print(environment("optuna", "numpy", "scipy"))
    print(as_table(found))


if __name__ == "__main__":
    main()

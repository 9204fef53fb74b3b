"""When may a search stop by itself? The plateau rule of `--until-plateau`, by replay, for several windows.

A study is replayed with PatternSampler and with random proposals; at each window the rule says after how many trials it
would have stopped, and what part of the exhaustive front's hypervolume it would then have missed. Run from the root of
the repository; TABLES is the folder that holds `measured/` and `published/`:

    python -m results.search-cost.stopping TABLES [--seeds 20]

Knows: the tables, the noise of their scores. Does not know: the rule itself (`layersearch/search/quality.py`).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any

import optuna

from layersearch.search.quality import hypervolume, stands_still
from results.machine import as_table, write_csv

from .samplers import MODELS, SAMPLERS, Problem, course, problems

HERE = Path(__file__).parent
WINDOWS = (8, 12, 16, 20, 24)
MOST = 63

# Standard errors of the scores on the validation sets that made the tables, from their sizes.
NOISE = {
    "minilm-stsb": 0.007,
    "bert-stsb": 0.006,
    "bert-cola": 0.025,
    "bert-mrpc": 0.016,
    "bert-rte": 0.028,
    "bert-sst2": 0.009,
    "bert-qnli": 0.004,
    "bert-mnli": 0.004,
}


def stopped(problem: Problem, chosen: list[str], window: int) -> tuple[int, float]:
    """After how many trials the rule stops, and the regret then."""
    points = [problem.points[text] for text in chosen]
    numbers = range(1, len(points) + 1)
    number = next((n for n in numbers if stands_still(points[:n], NOISE[problem.name], window)), len(points))
    reference = problem.references["worst"]
    whole = hypervolume(problem.points.values(), reference)
    return number, 1 - hypervolume(points[:number], reference) / whole


def line(model: str, sampler: str, window: int, found: list[tuple[int, float]]) -> dict[str, Any]:
    """One line of the table."""
    numbers, regrets = zip(*found, strict=True)
    return {
        "model": model,
        "sampler": sampler,
        "window": window,
        "trials (median)": round(median(numbers)),
        "missed (median)": round(median(regrets), 3),
        "missed (three quarters)": round(quantiles(regrets, n=4, method="inclusive")[2], 3),
        "runs": len(found),
    }


def main() -> None:
    """Replay, apply the rule, write the table."""
    parser = argparse.ArgumentParser(description="Compare windows of the plateau rule.")
    parser.add_argument("tables", type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    words = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    records = []
    for sampler in ("PatternSampler", "random"):
        for prefix, model in MODELS.items():
            asked = [problem for problem in problems(words.tables) if problem.name.startswith(prefix)]
            with TemporaryDirectory() as folder:
                courses = [
                    (problem, course(problem, SAMPLERS[sampler], "mixed", seed, Path(folder), MOST))
                    for problem in asked
                    for seed in range(words.seeds)
                ]
            for window in WINDOWS:
                found = [stopped(problem, chosen, window) for problem, chosen in courses]
                records.append(line(model, sampler, window, found))
    write_csv(HERE / "stopping.csv", records)
    print(as_table(records))


if __name__ == "__main__":
    main()

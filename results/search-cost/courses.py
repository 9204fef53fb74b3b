"""What a search has in its hands after each thing that it paid for, replayed or run.

Knows: rows of runs, costs, which candidates a search would return. Does not know: samplers, tables, what is reported.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from layersearch.pattern import Pattern
from layersearch.search.quality import error_of, hypervolume, layer_share

from .volumes import at_costs

LAYERS = 6  # of MiniLM
NEEDED = {"task", "seed", "trial", "pattern", "search", "validation", "work"}  # columns of runs


@dataclass(frozen=True)
class Step:
    """Something paid for: a candidate with its errors (by which it is chosen, and on unseen data), or neither.

    `work` is in fine-tunings of the unchanged model, `seconds` in those of one processor.
    """

    work: float
    seconds: float
    pattern: str | None = None
    search: float = math.nan
    unseen: float = math.nan


@dataclass(frozen=True)
class Rate:
    """Seconds of one processor to fine-tune and score a candidate: `fixed` and so many `a_layer`."""

    fixed: float
    a_layer: float

    def of(self, layers: float) -> float:
        """Seconds for a candidate of so many layers."""
        return self.fixed + self.a_layer * layers


@dataclass(frozen=True)
class Curve:
    """One run: hypervolume from each cost on, as a share of the exhaustive front's."""

    works: Sequence[float]
    seconds: Sequence[float]
    volumes: Sequence[float]


@dataclass(frozen=True)
class Method:
    """All runs of one method on one task; `replayed` from the table or run for real."""

    task: str
    name: str
    replayed: bool
    curves: Sequence[Curve]


# -- from steps to curves ----------------------------------------------------------------------------------------------


def returned(steps: Iterable[Step]) -> list[Step]:
    """The candidates that no other beats by the errors that the search saw."""
    front: list[Step] = []
    candidates = [step for step in steps if step.pattern is not None]
    for step in sorted(candidates, key=lambda step: (share_of(step), step.search)):
        if not front or step.search < front[-1].search:
            front.append(step)
    return front


def curve_of(steps: Sequence[Step], constant: float, whole: float) -> Curve:
    """What the returned candidates are worth on unseen data after each step, over `whole`."""
    works, seconds, volumes = [0.0], [0.0], []
    for number, step in enumerate(steps, start=1):
        works.append(works[-1] + step.work)
        seconds.append(seconds[-1] + step.seconds)
        scored = [s for s in returned(steps[:number]) if not math.isnan(s.unseen)]
        volumes.append(hypervolume([(s.unseen, share_of(s)) for s in scored], (constant, 1.0)) / whole)
    return Curve(works[1:], seconds[1:], volumes)


def share_of(step: Step) -> float:
    """The share of layer parameters kept."""
    assert step.pattern is not None
    return layer_share(Pattern.parse(step.pattern), LAYERS)


# -- runs --------------------------------------------------------------------------------------------------------------


def steps_of(rows: Sequence[Mapping[str, str]], a_fine_tuning: float) -> list[Step]:
    """The course of one run: the first trial, what is no candidate (a super-network), the other trials by number."""
    trials = sorted((row for row in rows if row["trial"]), key=lambda row: int(row["trial"]))
    others = [row for row in rows if not row["trial"]]
    return [_step_of(row, a_fine_tuning) for row in (*trials[:1], *others, *trials[1:])]


def _step_of(row: Mapping[str, str], a_fine_tuning: float) -> Step:
    work = float(row["work"])
    if not row["trial"]:
        return Step(work, work * a_fine_tuning)
    unseen = error_of(float(row["validation"]), "maximize") if row["validation"] else math.nan
    return Step(work, work * a_fine_tuning, row["pattern"], error_of(float(row["search"]), "maximize"), unseen)


def read_runs(folder: Path) -> dict[tuple[str, str], list[list[dict[str, str]]]]:
    """By task and method: the rows of each seed."""
    found: dict[tuple[str, str], list[list[dict[str, str]]]] = {}
    for file in sorted(folder.glob("*.csv")):
        with file.open(newline="") as source:
            reader = csv.DictReader(source)
            rows = list(reader) if set(reader.fieldnames or ()) >= NEEDED else []
        for task, seed in dict.fromkeys((row["task"], row["seed"]) for row in rows):
            alike = [row for row in rows if (row["task"], row["seed"]) == (task, seed)]
            found.setdefault((task, file.stem.replace("_", "-")), []).append(alike)
    return found


# -- curves beside each other ------------------------------------------------------------------------------------------


def middle(method: Method, wanted: Sequence[float], axis: str) -> list[float]:
    """The median over runs at each of `wanted` on an axis, `works` or `seconds`."""
    found = [at_costs(getattr(curve, axis), curve.volumes, wanted) for curve in method.curves]
    return [median(values) for values in zip(*found, strict=True)]


def above_from(one: Method, other: Method, axis: str) -> float | None:
    """The cost from which on the median of `one` is never below that of `other`; None where it ends below."""
    costs = sorted({cost for method in (one, other) for curve in method.curves for cost in getattr(curve, axis)})
    pairs = list(zip(costs, middle(one, costs, axis), middle(other, costs, axis), strict=True))
    below = [cost for cost, mine, theirs in pairs if mine < theirs]
    return next((cost for cost in costs if not below or cost > below[-1]), None)


def times_as_much(one: Method, other: Method, axis: str) -> float | None:
    """How many times the cost `other` needs for the best that both reach (medians); None if that is nothing."""
    costs = sorted({cost for method in (one, other) for curve in method.curves for cost in getattr(curve, axis)})
    mine, theirs = middle(one, costs, axis), middle(other, costs, axis)
    level = min(mine[-1], theirs[-1])
    if level <= 0:
        return None
    first = [next(cost for cost, v in zip(costs, values, strict=True) if v >= level) for values in (mine, theirs)]
    return first[1] / first[0]

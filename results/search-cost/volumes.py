"""The course of a hypervolume: as points come in, what is left of the best one, and what was there at a cost.

Knows: points, hypervolumes, costs, as plain numbers. Does not know: methods, samplers, tables, what is reported.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

from layersearch.search.quality import Point, hypervolume


def growth(points: Sequence[Point], reference: Point) -> list[float]:
    """The hypervolume after the first point, the first two, ..., all."""
    return [hypervolume(points[: number + 1], reference) for number in range(len(points))]


def regret(volumes: Iterable[float], best: float) -> list[float]:
    """The part of the hypervolume `best` that each of `volumes` leaves out: 0 is nothing, 1 all of it."""
    return [1.0 - volume / best for volume in volumes]


def at_costs(costs: Sequence[float], values: Sequence[float], wanted: Iterable[float]) -> list[float]:
    """What had been reached when each of `wanted` was spent: `values[i]` from `costs[i]` (rising) on, 0 before.

    So a result counts only when it is paid for in full.
    """
    return [values[index - 1] if (index := bisect_right(costs, spent)) else 0.0 for spent in wanted]

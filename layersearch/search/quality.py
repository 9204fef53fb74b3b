"""How good a set of candidates is: hypervolume over error and size, and when it stands still.

Knows: points (error, share of layer parameters kept or of other costs), all better when smaller. Does not know: where
scores come from, what was spent on them, samplers, studies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from math import prod
from statistics import median

from layersearch.counts import count
from layersearch.pattern import Pattern, thirds
from layersearch.search.trials import HALF_WIDTH, Direction, Row, baseline_of

Point = tuple[float, ...]

WINDOW = 16  # trials without growth after which a search stands still


def layer_share(pattern: Pattern, num_layers: int) -> float:
    """The share of the unchanged model's layer parameters that `pattern` keeps; above 1 if it repeats layers."""
    return thirds(pattern.owned) / (3 * num_layers)


def error_of(score: float, direction: Direction) -> float:
    """1 - score where more is better, else the score itself."""
    return 1.0 - score if direction == "maximize" else score


def point_of(row: Row, direction: Direction, num_layers: int, costs: Sequence[float] = ()) -> Point:
    """(error, share) of a complete row; with the unchanged model's `costs`, the shares of these in place of layers'."""
    assert row.score is not None
    shares = [its / whole for its, whole in zip(row.costs, costs, strict=True)] if costs else []
    return error_of(row.score, direction), *(shares or [_share_of(row.pattern, num_layers)])


@cache
def _share_of(text: str, num_layers: int) -> float:
    return layer_share(Pattern.parse(text), num_layers)


def reference_of(*studies: tuple[Iterable[Row], Direction, int]) -> Point:
    """Where hypervolume is counted from: the worst score of any trial, and the unchanged model's layers in full.

    A study is its rows, the direction of its score and its layers. Of studies without a complete trial it is (0, 1).
    """
    points = [
        point_of(row, direction, layers) for rows, direction, layers in studies for row in rows if row.score is not None
    ]
    return max((error for error, _ in points), default=0.0), 1.0


def hypervolume(points: Iterable[Point], reference: Point) -> float:
    """The area (volume) between `points` and `reference` that at least one point beats in all coordinates.

    `reference` is the error of a constant answer and the share 1 (Klein et al. 2024, arXiv 2405.02267, compare searches
    of sub-networks so). Points that do not beat it in all add nothing. Three coordinates are cut into slices along the
    last.
    """
    if len(reference) > 2:
        inside = sorted((point for point in points if point[-1] < reference[-1]), key=lambda point: point[-1])
        ends = [*(point[-1] for point in inside), reference[-1]][1:]
        slices = ((end - point[-1], inside[: n + 1]) for n, (point, end) in enumerate(zip(inside, ends, strict=True)))
        return sum(
            depth * hypervolume([point[:-1] for point in below], reference[:-1]) for depth, below in slices if depth
        )
    area, lowest = 0.0, reference[0]
    for share, error in sorted((point[1], point[0]) for point in points):
        if share >= reference[1]:
            break
        if error < lowest:
            area += (reference[1] - share) * (lowest - error)
            lowest = error
    return area


def noise_of(rows: Iterable[Row]) -> float:
    """The standard error of a score on its split: the median over the rows' intervals, 0 where none has any."""
    widths = [row.interval[1] - row.interval[0] for row in rows if row.interval is not None and row.done]
    return median(widths) / (2 * HALF_WIDTH) if widths else 0.0


@dataclass(frozen=True)
class Standstill:
    """A front that grows no more: the hypervolume that its last `window` points added, and what luck alone may add."""

    grown: float
    luck: float
    window: int

    def __str__(self) -> str:
        return (
            f"the front stands still: the last {count(self.window, 'trial')} added {self.grown:.2g} to its "
            f"hypervolume, and the noise of the scores may add {self.luck:.2g}"
        )


def stands_still(points: Sequence[Point], noise: float, window: int = WINDOW) -> Standstill | None:
    """The standstill, if the last `window` points added no more hypervolume than noise could, else None.

    Noise of one standard error on every score moves the front by `noise` over the shares that it spans: growth up to
    that area is luck. The reference is the worst point, so that the answer needs no constant's error. None until there
    are `window` points more than the first.
    """
    if len(points) <= window:
        return None
    worst, *sizes = zip(*points, strict=True)
    reference = (max(worst), *(max(1.0, *shares) for shares in sizes))
    grown = hypervolume(points, reference) - hypervolume(points[:-window], reference)
    span = prod(most - min(shares) for most, shares in zip(reference[1:], sizes, strict=True))
    return Standstill(grown, noise * span, window) if grown <= noise * span else None


def plateau(
    rows: Iterable[Row], direction: Direction, num_layers: int, window: int = WINDOW, *, own_costs: bool = False
) -> Standstill | None:
    """The standstill of a study's front, given its rows, or None (`--until-plateau`).

    The last trials are those that ended last; one that was stopped at a rung has no score and does not count, nor does
    one over a limit. With `own_costs` shares are those of the study's objectives, else of the layers' parameters.
    """
    done = sorted((row for row in rows if row.done), key=lambda row: (row.ended or datetime.min, row.number))
    unchanged = baseline_of(done, str(Pattern.full(num_layers)))
    costs = unchanged.costs if own_costs and unchanged is not None else ()
    if own_costs and not costs:
        return None
    kept = [row for row in done if row.allowed]
    return stands_still([point_of(row, direction, num_layers, costs) for row in kept], noise_of(kept), window)

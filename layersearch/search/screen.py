"""Which proposals are not worth a training: what is known of a study says that they cannot reach its front.

Knows: rows, patterns, parameters, the surrogate's bound, cheap scores that have shown their worth. Does not
know: Optuna, samplers, who proposes, how a skipped proposal is written down.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from layersearch.pattern import Pattern
from layersearch.search.cheap import CheapRanking, best_agreement, cheap_score, parsed
from layersearch.search.objectives import LISTED, SCORE, Costs, reachable
from layersearch.search.purpose import Purpose
from layersearch.search.quality import error_of
from layersearch.search.surrogate import NOISE, Floats, Surrogate, coded, fitted, one_thread
from layersearch.search.trials import BEATEN, LOW_RANKED, Direction, Row, front_of
from layersearch.search_space import SearchSpace
from layersearch.tasks.metrics import METRICS

FROM = 16  # complete trials from which on the surrogate's bound counts (results/search-cost)
DEVIATIONS = 3.0  # of the surrogate, between what it expects and the best imaginable score; or
WIDER = 1.25  # times as many as cover the scores that it was not told
LEARNT_FROM = 128  # complete trials: the front, and the latest

DRAWN = 512  # patterns of a larger space that are looked at instead

Parameters = Callable[[Pattern], int | tuple[int, ...]]  # or other costs, all of which shall be small


@dataclass(frozen=True)
class Screen:
    """What stands between the proposals of a study and their training; without `parameters`, nothing does.

    `parameters` counts those of a pattern of the space, or its other costs; `starts` are patterns that are tried in any
    case; `costs` tell, also without `parameters`, which patterns keep the limits.
    """

    space: SearchSpace
    num_layers: int
    purpose: Purpose
    parameters: Parameters | None = None
    starts: frozenset[Pattern] = frozenset()
    costs: Costs | None = None

    def skipped(self, patterns: Sequence[Pattern], rows: Sequence[Row]) -> dict[str, str]:
        """The reasons, by pattern, of those that are not worth a training; start points always are."""
        if self.parameters is None:
            return {}
        asked = [pattern for pattern in patterns if pattern not in self._never]
        metric, direction = self.purpose.metric, self.purpose.direction
        beaten = hopeless(
            asked,
            rows,
            self.parameters,
            metric=metric,
            direction=direction,
            num_layers=self.num_layers,
            costs=self.purpose.costs,
        )
        agreement = best_agreement(rows, direction)
        if agreement is None or not agreement.filters:
            return beaten
        taken = {row.pattern for row in rows if row.state != "PRUNED" or row.stopped}
        near = [self._by_size.get(size, {}) for size in {self.parameters(pattern) for pattern in asked}]
        untried = [pattern for alike in near for text, pattern in alike.items() if text not in taken]
        return low_ranked(asked, untried, self.parameters, agreement) | beaten

    def draw(self, rows: Sequence[Row], rng: random.Random) -> Pattern | None:
        """A pattern that none of `rows` has and that is worth a training, drawn at random; None if none is found."""
        unseen = [pattern for pattern in self._unseen({row.pattern for row in rows}, rng) if self._allows(pattern)]
        skipped = self.skipped(unseen, rows)
        return next((pattern for pattern in unseen if str(pattern) not in skipped), None)

    def _unseen(self, seen: Collection[str], rng: random.Random) -> list[Pattern]:
        """Patterns that are not among `seen`, in random order: all of a small space, some of a large one."""
        if self.space.size(self.num_layers) <= LISTED:
            found = [pattern for text, pattern in self._pool.items() if text not in seen]
            return rng.sample(found, len(found))
        drawn = (self.space.sample(self.num_layers, rng) for _ in range(DRAWN))
        near = rng.sample(self._near_limits, min(DRAWN, len(self._near_limits)))
        return [pattern for pattern in dict.fromkeys([*drawn, *near]) if str(pattern) not in seen]

    def _allows(self, pattern: Pattern) -> bool:
        return self.costs is None or self.costs.allows(pattern)

    @cached_property
    def _near_limits(self) -> list[Pattern]:
        """Patterns of a large space within its limits, which a draw may never meet: the cheapest, and their like."""
        if self.costs is None or not any(limit.of != SCORE for limit in self.costs.limits):
            return []
        known = reachable(self.space, self.num_layers, self.costs)
        beside = (other for pattern in known for other in self.space.neighbours(pattern, self.num_layers))
        return [pattern for pattern in dict.fromkeys([*known, *beside]) if self._allows(pattern)]

    @cached_property
    def _never(self) -> frozenset[Pattern]:
        """What is trained in any case: the unchanged model, the space's start points and those of other studies."""
        return self.starts.union({Pattern.full(self.num_layers), *self.space.start_points(self.num_layers)})

    @cached_property
    def _pool(self) -> dict[str, Pattern]:
        """The patterns of a small space by text, of a large one as many drawn at random."""
        layers, rng = self.num_layers, random.Random(0)
        small = self.space.size(layers) <= LISTED
        found = self.space.patterns(layers) if small else (self.space.sample(layers, rng) for _ in range(LISTED))
        return {str(pattern): pattern for pattern in found}

    @cached_property
    def _by_size(self) -> dict[int | tuple[int, ...], dict[str, Pattern]]:
        """The pool by parameters: counting those of thousands would take longer than all else in a decision."""
        assert self.parameters is not None
        sizes: dict[int | tuple[int, ...], dict[str, Pattern]] = {}
        for text, pattern in self._pool.items():
            sizes.setdefault(self.parameters(pattern), {})[text] = pattern
        return sizes


def hopeless(
    patterns: Sequence[Pattern],
    rows: Iterable[Row],
    parameters: Parameters,
    *,
    metric: str,
    direction: Direction,
    num_layers: int,
    costs: Sequence[str] = ("parameters",),
) -> dict[str, str]:
    """Why a proposal cannot reach the front, by its text, for those of `patterns` that cannot.

    That is so where a complete trial within the limits, with no more `parameters` (what `costs` names), scores at least
    as well as the best imaginable score: the metric's limit or the surrogate's bound, whichever allows less.
    """
    done = sorted((row for row in rows if row.done), key=lambda row: row.sizes)
    if not done or not patterns:
        return {}
    floors = np.maximum(_limit(metric, done), _bounds(patterns, done, direction, num_layers))
    best = _best_by_size([row for row in done if row.allowed], direction)
    found = {}
    for pattern, floor in zip(patterns, floors, strict=True):
        row = best(parameters(pattern))
        if row is not None and _error(row, direction) <= floor:
            score = 1 - floor if direction == "maximize" else floor
            found[str(pattern)] = (
                f"{BEATEN}: {score:.4f} at best, and trial {row.number} has {row.score:.4f} with no more "
                f"{' and '.join(costs)}"
            )
    return found


def _best_by_size(done: Sequence[Row], direction: Direction) -> Callable[[int | tuple[int, ...]], Row | None]:
    """What tells the best of those rows that are in nothing larger than a size."""
    if not done:
        return lambda _: None
    sizes = np.array([row.sizes for row in done], dtype=float)
    errors = np.array([_error(row, direction) for row in done])

    @cache
    def best(size: int | tuple[int, ...]) -> Row | None:
        smaller = (sizes <= np.atleast_1d(size)).all(axis=-1)
        return done[int(np.where(smaller, errors, np.inf).argmin())] if smaller.any() else None

    return best


def low_ranked(
    patterns: Sequence[Pattern], untried: Sequence[Pattern], parameters: Parameters, agreement: CheapRanking
) -> dict[str, str]:
    """Why a proposal is not tried, by its text, for those whose cheap score is in the worst third of its size.

    At least two thirds of the `untried` patterns with as many parameters, three or more, have a better one.
    """
    sizes: dict[int | tuple[int, ...], list[float]] = {}
    wanted = {parameters(pattern) for pattern in patterns}
    for pattern in untried:
        if (size := parameters(pattern)) in wanted:
            sizes.setdefault(size, []).append(cheap_score(pattern, agreement.influence))
    found = {}
    for pattern in patterns:
        alike, own = sizes.get(parameters(pattern), []), cheap_score(pattern, agreement.influence)
        if len(alike) > 2 and 3 * sum(score > own for score in alike) >= 2 * len(alike):
            found[str(pattern)] = f"{LOW_RANKED}: in the worst third of its size by {agreement}"
    return found


def _error(row: Row, direction: Direction) -> float:
    assert row.score is not None
    return error_of(row.score, direction)


def _limit(metric: str, done: Sequence[Row]) -> float:
    """The smallest error there is: every metric of ours ends at 1; of others, or in percent, nothing is known."""
    ends = metric in METRICS and all(row.score is not None and row.score <= 1 for row in done)
    return 0.0 if ends else -math.inf


def _bounds(patterns: Sequence[Pattern], done: Sequence[Row], direction: Direction, num_layers: int) -> Floats:
    """The smallest errors that the surrogate can imagine, [n]; minus infinity before it has learnt enough."""
    if len(done) < FROM:
        return np.full(len(patterns), -math.inf)
    with one_thread():
        process = _learnt(done, direction, num_layers)
        if process.errors.std() == 0:
            return np.full(len(patterns), -math.inf)
        mean, deviation = process.predict(coded(patterns, num_layers))
        wide = reach(process)
    return np.asarray(mean - wide * np.sqrt(np.square(deviation) + NOISE * process.errors.var()))


def _learnt(done: Sequence[Row], direction: Direction, num_layers: int) -> Surrogate:
    latest = sorted(done, key=lambda row: -row.number)
    rows = {row.pattern: row for row in [*front_of(done, direction), *latest][:LEARNT_FROM]}
    errors = np.array([_error(row, direction) for row in rows.values()])
    return fitted(coded(map(parsed, rows), num_layers), errors)


def reach(process: Surrogate) -> float:
    """Standard deviations below the mean that a bound needs: three, or a quarter more than cover the known errors.

    Each known error is told from the others and compared (a conformal bound by leaving one out: Barber et al., Annals
    of Statistics 49, 2021). The process takes itself for surer than it is: in replays three cover too little, and
    without the quarter searches of BERT's RTE table lost up to 0.06 of the front's hypervolume.
    """
    mean, deviation = process.left_out()
    return float(max(DEVIATIONS, WIDER * ((mean - process.errors) / deviation).max()))

"""Further seeds for patterns near the front: who gets the next one, and what all seeds of a pattern say together.

Knows: rows of a search and of its replicates, the front, how seeds scatter. Does not know: SQL, who trains, the
confirmation, whose seeds are others.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import fmean, variance

from layersearch.search.certainty import around, spreads, standard_error
from layersearch.search.quality import noise_of
from layersearch.search.trials import HALF_WIDTH, Direction, Row, best_no_larger, front_of

FIRST_SEED = 1000  # further seeds begin so far behind the search's own, out of the confirmation's way
MOST = 8  # patterns that get a seed in one round


def averaged(rows: Iterable[Row], again: Iterable[Row]) -> list[Row]:
    """The rows of a search with the seeds `again` taken in: a mean score, its interval over seeds and examples.

    Seeds count as in a confirmation (`certainty.py`): Student's t over what all replicated patterns tell of their
    noise. A row without replicates stays as it is, with an interval over examples alone.
    """
    rows, further = list(rows), _by_pattern(again)
    known = {row.number: [row, *further[row.pattern]] for row in rows if row.done and row.pattern in further}
    scores = [[one.score or 0.0 for one in its] for its in known.values()]
    means = {
        number: _mean(its, around(fmean(values), spread, len(values), _over_examples(its)))
        for (number, its), values, spread in zip(known.items(), scores, spreads(scores), strict=True)
    }
    return [means.get(row.number, row) for row in rows]


def _by_pattern(again: Iterable[Row]) -> dict[str, list[Row]]:
    """The complete rows of each pattern, one a seed, by seed."""
    found: dict[str, dict[int, Row]] = {}
    for row in again:
        if row.done:
            found.setdefault(row.pattern, {})[row.seed] = row
    return {pattern: [by_seed[seed] for seed in sorted(by_seed)] for pattern, by_seed in found.items()}


def _mean(its: Sequence[Row], interval: tuple[float, float] | None) -> Row:
    drawn = tuple(map(fmean, zip(*(one.redrawn for one in its), strict=True))) if all(o.redrawn for o in its) else ()
    scores = tuple(one.score or 0.0 for one in its)
    return replace(its[0], score=fmean(scores), interval=interval, redrawn=drawn, seeds=scores)


def _over_examples(its: Sequence[Row]) -> float | None:
    """The variance of the mean over examples: on the same draws, or that of a single seed's score."""
    if all(one.redrawn for one in its):
        return variance(map(fmean, zip(*(one.redrawn for one in its), strict=True)))
    known = [one.interval for one in its if one.interval]
    return fmean(standard_error(interval) ** 2 for interval in known) if known else None


def contested(rows: Sequence[Row], direction: Direction) -> list[str]:
    """Patterns of `averaged` rows that one more seed each could bring onto the front or off it, the closest first.

    A race (Maron and Moore, NIPS 6, 1994): each row is held against the best front member that is no larger; where the
    difference lies within 1.96 standard errors of the two means, both run on. How much seeds scatter is pooled over all
    replicated patterns; before there are any, the standard error of the scores over examples stands for it.
    """
    noise = _noise(rows)
    front = front_of(rows, direction)
    close: dict[str, float] = {}
    for row in rows:
        if not (row.done and row.allowed):
            continue
        rival = best_no_larger([other for other in front if other.number != row.number], row, direction)
        if rival is None:
            continue
        error = noise * math.sqrt(1 / len(row.seeds or (0,)) + 1 / len(rival.seeds or (0,)))
        apart = abs((row.score or 0.0) - (rival.score or 0.0)) / error if error else math.inf
        if apart <= HALF_WIDTH:
            for one in (row, rival):
                close[one.pattern] = min(apart, close.get(one.pattern, math.inf))
    return sorted(close, key=lambda pattern: close[pattern])


def _noise(rows: Sequence[Row]) -> float:
    """The standard deviation of a score over seeds."""
    told = [spread.variance for spread in spreads([row.seeds for row in rows if row.seeds]) if spread]
    return math.sqrt(fmean(told)) if told else noise_of(rows)


def round_of(
    number: int, rows: Sequence[Row], again: Sequence[Row], direction: Direction, seed: int
) -> list[tuple[str, int]]:
    """Patterns and seeds of round `number`, from 1: what the rounds before it leave contested, and no more than MOST.

    `seed` is the search's own. The answer does not change with what later rounds find, so that a round which is done
    stays done.
    """
    first = seed + FIRST_SEED
    before = [row for row in again if row.seed < first + number]
    return [(pattern, first + number) for pattern in contested(averaged(rows, before), direction)[:MOST]]

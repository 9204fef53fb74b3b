"""The winner's curse: how much better the front looked when it was selected than its confirmation bears out.

Knows: rows at selection, what confirmed them. Does not know: SQL, who trained, looks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from layersearch.search.certainty import (
    Interval,
    Spread,
    around,
    redrawn_means,
    spreads,
    standard_error,
    variance_over_examples,
)
from layersearch.search.trials import Confirmed, Direction, Row


@dataclass(frozen=True)
class Optimism:
    """By how much selection flattered each of `patterns`, and all of them on average; above 0 is too good.

    In units of the score, against the unchanged model: the search's split and the validation set are not equally hard.
    `interval` (95 %) is that of the average; None where no pattern was confirmed with two seeds.
    """

    patterns: Mapping[str, float]
    mean: float
    interval: Interval | None


def optimism_of(
    front: Sequence[Row], baseline: Row | None, confirmed: Mapping[str, Confirmed], direction: Direction
) -> Optimism | None:
    """What selection looked better than the confirmation: (candidate - unchanged) then less the same confirmed.

    Only over members of `front` that are confirmed, as the unchanged model, `baseline`, must be; None without any. The
    interval carries the noise of seeds on both sides, taken for independent (pairs of one seed are nearer to each
    other, which would make it narrower), and that of the examples of both splits. So it tells flattery from luck.
    """
    whole = confirmed.get(baseline.pattern) if baseline is not None else None
    if baseline is None or baseline.score is None or whole is None:
        return None
    sign = 1.0 if direction == "maximize" else -1.0
    members = [(row, confirmed[row.pattern]) for row in front if row != baseline and row.pattern in confirmed]
    found = {row.pattern: sign * ((row.score or 0.0) - baseline.score - one.mean + whole.mean) for row, one in members}
    if not found:
        return None
    mean, seeds = fmean(found.values()), _over_seeds([(baseline, whole), *members])
    examples = _of_the_search([row for row, _ in members], baseline) + _of_the_validation(
        [one for _, one in members], whole
    )
    return Optimism(found, mean, None if seeds is None else around(mean, seeds, 1, examples))


def _over_seeds(pairs: Sequence[tuple[Row, Confirmed]]) -> Spread | None:
    """The variance of the average over seeds, at selection and in the confirmation; the unchanged model comes first."""
    known = spreads([one.scores for _, one in pairs])
    each = [
        (spread.variance * (1 / max(1, len(row.seeds)) + 1 / len(one.seeds)), spread.freedom)
        for spread, (row, one) in zip(known, pairs, strict=True)
        if spread is not None
    ]
    if not each:
        return None
    (unchanged, freedom), *others = each
    return Spread(unchanged + sum(its for its, _ in others) / len(others) ** 2, freedom)


def _of_the_search(rows: Sequence[Row], baseline: Row) -> float:
    """The variance over the examples of the search's split."""
    single = [standard_error(row.interval) ** 2 for row in (baseline, *rows)]
    return _over_examples([row.redrawn for row in (baseline, *rows)], single)


def _of_the_validation(members: Sequence[Confirmed], whole: Confirmed) -> float:
    """The variance over the examples of the validation set."""
    single = [variance_over_examples(one) or 0.0 for one in (whole, *members)]
    return _over_examples([redrawn_means(one, one.seeds) or () for one in (whole, *members)], single)


def _over_examples(redrawn: Sequence[Sequence[float]], single: Sequence[float]) -> float:
    """The variance of the others' average less the first: on the same draws, or of `single` ones if they are not there.

    Then the first is taken for independent and the others for one, which is the widest.
    """
    if all(redrawn):
        return float(variance(fmean(others) - whole for whole, *others in zip(*redrawn, strict=True)))
    whole, *others = single
    return whole + fmean(math.sqrt(its) for its in others) ** 2

"""How well shared scores rank the candidates that were fine-tuned.

Knows: pairs of scores, their rank correlation and its interval. Does not know: how either score came about.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from layersearch.search.trials import HALF_WIDTH, Row

FEWEST = 5  # candidates, below which a rank correlation says nothing


@dataclass(frozen=True)
class Agreement:
    """Spearman's `rho` over `number` candidates, its 95 % interval, and how far their real scores lie apart."""

    rho: float
    low: float
    high: float
    number: int
    spread: float


def agreement_of(rows: Iterable[Row], shared: Mapping[str, float], unchanged: str) -> Agreement | None:
    """How well the scores `shared` (over a super-network's weights, by pattern) rank the candidates tuned from it.

    The interval is Fisher's with the variance of Bonett and Wright (Psychometrika 65, 2000), which knows none around 1:
    a perfect order counts as half of the smallest step below it that so many ranks can make. None below five, and where
    all real scores are equal; shared scores that are all equal rank nothing: 0.
    """
    pairs = [
        (shared[row.pattern], row.score)
        for row in rows
        if row.score is not None and row.pattern in shared and row.pattern != unchanged and from_network(row)
    ]
    before, after = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    if len(pairs) < FEWEST or len(set(after)) < 2:
        return None
    if len(set(before)) < 2:
        rho = 0.0
    else:
        from scipy.stats import spearmanr

        rho = float(spearmanr(before, after).statistic)
    most = 1 - 6 / (len(pairs) * (len(pairs) ** 2 - 1))
    middle = math.atanh(max(-most, min(most, rho)))
    width = HALF_WIDTH * math.sqrt((1 + rho**2 / 2) / (len(pairs) - 3))
    low, high = min(rho, math.tanh(middle - width)), max(rho, math.tanh(middle + width))
    return Agreement(rho, low, high, len(pairs), max(after) - min(after))


def from_network(row: Row) -> bool:
    """Whether the candidate started from a super-network."""
    return row.start is not None and row.start.startswith("super-")

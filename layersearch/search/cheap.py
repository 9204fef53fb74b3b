"""Cheap scores: what the influence of the halves that a pattern drops says of it, and whether a study bears that out.

Knows: influences measured on the unchanged model, rows, ranks within a size. Does not know: how influence is measured,
Optuna, what is done with a cheap score that is worth something (`screen.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from layersearch.pattern import Pattern
from layersearch.search.quality import error_of
from layersearch.search.trials import Direction, Row

Floats = NDArray[np.float64]

FEWEST = 12  # complete trials, the unchanged model and those without another of their size apart
NEEDED = 0.3  # of the rank correlation: the lower end of its interval must lie above, or the score filters nothing
RESAMPLES = 500
LATEST = 128  # complete trials that are looked at
ABOUT = {
    "block": "attention/FFN block influence",
    "token": "attention/FFN first-token cosine",
    "gradient": "attention/FFN gradient score",
}


@dataclass(frozen=True)
class CheapRanking:
    """How well a cheap score ranks complete trials of equal size: the correlation, its 95 % interval, their number."""

    name: str
    influence: tuple[float, ...]
    rho: float
    low: float
    high: float
    trials: int

    @property
    def filters(self) -> bool:
        """Whether the study has shown that the score is worth following."""
        return self.low > NEEDED

    def __str__(self) -> str:
        return f"{ABOUT[self.name]}, rank correlation {self.rho:.2f} ({self.low:.2f} to {self.high:.2f}) within sizes"


@cache
def parsed(text: str) -> Pattern:
    """The pattern of a row: every decision reads many of them again."""
    return Pattern.parse(text)


def cheap_score(pattern: Pattern, influence: Sequence[float]) -> float:
    """Minus the influence of all halves that `pattern` drops; `influence` holds two a layer, attention and FFN."""
    kept = {
        2 * block.layer + half
        for block in pattern.blocks
        for half in (0, 1)
        if block.halves == "both" or half == (block.halves == "ffn")
    }
    return -sum(value for half, value in enumerate(influence) if half not in kept)


def best_agreement(rows: Iterable[Row], direction: Direction) -> CheapRanking | None:
    """The cheap score that ranks best (by the lower end), or None without influences or FEWEST trials to compare."""
    done = [row for row in rows if row.done]
    measured = next((row for row in done if row.influence), None)
    if measured is None or measured.influence is None:
        return None
    rest = [row for row in done if row.pattern != measured.pattern][-LATEST:]
    sizes = np.array([row.parameters for row in rest])
    alike = [row for row, many in zip(rest, [(sizes == size).sum() for size in sizes], strict=True) if many > 1]
    if len(alike) < FEWEST:
        return None
    patterns = [parsed(row.pattern) for row in alike]
    sizes = np.array([row.parameters for row in alike])
    real = ranks_within(sizes, np.array([-error_of(row.score or 0.0, direction) for row in alike]))
    found = []
    for name, influence in measured.influence.items():
        cheap = ranks_within(sizes, np.array([cheap_score(pattern, influence) for pattern in patterns]))
        found.append(CheapRanking(name, tuple(influence), *correlation(cheap, real), len(alike)))
    return max(found, key=lambda agreement: agreement.low, default=None)


def ranks_within(sizes: NDArray[np.int64], values: Floats) -> Floats:
    """The rank [n] of each value among those of its size, from -1/2 to 1/2 around 0; ties share their mean."""
    same = sizes[:, None] == sizes[None, :]
    below = (same & (values[None, :] < values[:, None])).sum(axis=1)
    above = (same & (values[None, :] > values[:, None])).sum(axis=1)
    return np.asarray((below - above) / (2 * same.sum(axis=1)))


def correlation(one: Floats, other: Floats) -> tuple[float, float, float]:
    """Correlation of centred ranks [n] and its 95 % bootstrap interval, trials drawn with replacement; 0 of constants.

    Ranks within sizes are pooled, so that size, with which every score rises, plays no part.
    """
    products = np.stack([one * other, one * one, other * other], axis=1)
    both, first, second = np.einsum("rn,nk->kr", _resampled(len(one)), products)
    apart = np.sqrt(first * second)
    rho = np.divide(both, apart, out=np.zeros_like(both), where=apart > 0)
    low, high = np.quantile(rho[1:], [0.025, 0.975])
    return float(rho[0]), float(low), float(high)


@lru_cache(maxsize=1)
def _resampled(number: int) -> Floats:
    """How often each of `number` trials is drawn, [1 + RESAMPLES, number]: once each, then at random."""
    drawn = np.random.default_rng(0).multinomial(number, np.full(number, 1 / number), size=RESAMPLES)
    return np.concatenate([np.ones((1, number)), drawn])

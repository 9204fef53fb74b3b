"""Whether a claim holds here: paired differences over seeds, their intervals, and one of three words.

Knows: scores by seed, Student's t. Does not know: papers, models, how scores came about.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

HOLDS, FAILS, OPEN = "holds here", "does not hold here", "cannot be told"
SHARE = 0.95


@dataclass(frozen=True)
class Difference:
    """What pairs (one a seed) differ by: the mean and its 95 % interval by Student's t, infinite for a single pair."""

    mean: float
    low: float
    high: float
    pairs: int

    def __str__(self) -> str:
        if math.isinf(self.high):
            return f"{100 * self.mean:+.2f} (one seed)"
        return f"{100 * self.mean:+.2f} ({100 * self.low:+.2f} to {100 * self.high:+.2f}; {self.pairs} seeds)"


Scores = Mapping[int, float]
"""Scores by seed."""


def difference(ours: Scores, theirs: Scores) -> Difference | None:
    """What `ours` are better by than `theirs`, over the seeds that both have; None where they share none."""
    return interval_of([ours[seed] - theirs[seed] for seed in sorted(ours.keys() & theirs.keys())])


def interval_of(values: Sequence[float]) -> Difference | None:
    """The mean of values, one a seed, with its interval; None of none."""
    if not values:
        return None
    from scipy.stats import t

    mean, number = fmean(values), len(values)
    if number == 1:
        return Difference(mean, -math.inf, math.inf, 1)
    half = float(t.ppf((1 + SHARE) / 2, number - 1)) * stdev(values) / math.sqrt(number)
    return Difference(mean, mean - half, mean + half, number)


def verdict(found: Difference | None, above: float = 0.0) -> str:
    """Whether a difference is greater than `above`: yes or no where its interval lies on one side, else OPEN."""
    if found is None:
        return OPEN
    if found.low > above:
        return HOLDS
    return FAILS if found.high < above else OPEN


def not_above(found: Difference | None, most: float = 0.0) -> str:
    """Whether a difference is no greater than `most`."""
    return {HOLDS: FAILS, FAILS: HOLDS, OPEN: OPEN}[verdict(found, most)]


def together(verdicts: Iterable[str]) -> str:
    """What is true of all: holds if all do, fails if all fail, `holds here in 2 of 3 ...` in between."""
    known = list(verdicts)
    if not known or set(known) == {OPEN}:
        return OPEN
    if len(set(known)) == 1:
        return known[0]
    parts = [f"{known.count(word)} {short}" for word, short in SHORT.items() if word in known]
    return f"mixed: of {len(known)}, {', '.join(parts)}"


SHORT = {HOLDS: "hold", FAILS: "do not", OPEN: "cannot be told"}


def by_seed(lines: Iterable[Mapping[str, Any]], **where: Any) -> dict[int, float]:
    """The scores by seed of the lines that have these values; failures are left out."""
    return {
        int(line["seed"]): float(line["score"])
        for line in lines
        if line["score"] not in (None, "") and all(str(line[key]) == str(value) for key, value in where.items())
    }


def cell(scores: Scores) -> str:
    """Mean and standard deviation in points, and the number of seeds: `82.1 ± 0.4 (3)`."""
    values = [100 * score for score in scores.values()]
    if not values:
        return ""
    return f"{fmean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "") + f" ({len(values)})"

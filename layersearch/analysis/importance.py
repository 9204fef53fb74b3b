"""What each layer and half is worth to a study's score, told from its own scores: costs of dropping, with intervals.

Knows: the record of a study, which of its scores are fitted, when a fit says too little. Does not know: how it is
fitted (`effects.py`), terminals, pictures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from statistics import fmean
from typing import Literal

import numpy as np

from layersearch.analysis.effects import HALVES, Effects, Part, effects_of
from layersearch.analysis.ridge import Floats
from layersearch.counts import count
from layersearch.errors import StudyError, WordsError
from layersearch.pattern import Halves, Pattern
from layersearch.search.record import Record

Source = Literal["trials", "shared"]

FEWEST = 12  # patterns, below which nothing is fitted
MORE = 2  # patterns that there must be beyond the effects
NEEDED_RHO = 0.5  # of the left-out scores; below either nothing is said of layers
NEEDED_R2 = 0.25
STRONGEST = 8  # pairs that are listed
INFLUENCES = 5  # parts, below which no rank correlation with their influence is told
KINDS: Mapping[tuple[Halves, bool], str] = {
    ("both", False): "layer",
    ("attention", False): "attention half",
    ("ffn", False): "FFN half",
    ("both", True): "a copy",
    ("attention", True): "attention copy",
    ("ffn", True): "FFN copy",
}


@dataclass(frozen=True)
class Estimate:
    """A cost: what it takes off the score (adds to it, where less is better), with its 95 % interval."""

    cost: float
    low: float
    high: float

    @property
    def is_told(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Quality:
    """How well each score is told from the others: Spearman's rank correlation and R2; `size_...`: from size alone."""

    rho: float
    r2: float
    size_rho: float
    size_r2: float

    @property
    def is_enough(self) -> bool:
        """Whether anything is said of layers."""
        return self.rho >= NEEDED_RHO and self.r2 >= NEEDED_R2


@dataclass(frozen=True)
class Importance:
    """What a study's scores say of its layers; no costs and no pairs where the fit is too poor.

    A cost is what dropping (or repeating) a part takes off the score, on average over the patterns fitted, whatever
    else these drop. A pair's is what dropping both takes off beyond what each does alone; `pairs` are the strongest of
    `all_pairs`. Where `less` is better, a cost is what is added; scores that are all above 0 are then fitted, and costs
    told, as logarithms (`logged`). Intervals are those of the posterior: they hold the noise of scores and that
    patterns are few, not what another seed, recipe or search would give, nor what a model of pairs cannot say.
    `influence` is the rank correlation of the costs with block influence, where the study measured it.
    """

    name: str
    source: Source
    patterns: int
    num_layers: int
    depths: tuple[int, ...]
    metric: str
    less: bool
    logged: bool
    quality: Quality
    costs: Mapping[Part, Estimate]
    dropped: Mapping[Part, int]
    pairs: Mapping[tuple[Part, Part], Estimate]
    all_pairs: int
    influence: float | None = None

    @property
    def silent(self) -> str | None:
        """Why nothing is said of layers, None where something is."""
        if self.quality.is_enough:
            return None
        return (
            f"nothing is said of the layers of {self.name!r}: left out, its {self.patterns} {SCORES[self.source]} are "
            f"told with rank correlation {self.quality.rho:.2f} and R2 {self.quality.r2:.2f}, and {NEEDED_RHO} and "
            f"{NEEDED_R2} are needed"
        )

    @cached_property
    def rows(self) -> dict[str, list[Estimate | None]]:
        """By kind of part, the cost of each layer's; None where it is not told."""
        found = {
            word: [self.costs.get(Part(layer, halves, again)) for layer in range(self.num_layers)]
            for (halves, again), word in KINDS.items()
        }
        return {word: row for word, row in found.items() if any(row)}


SCORES: Mapping[Source, str] = {"trials": "trials' scores", "shared": "shared scores (over a super-network)"}


def importance_of(record: Record, *, shared: bool = False) -> Importance:
    """Fit the complete trials of a study, or with `shared` its scores over a super-network.

    Scores of one pattern are averaged. Raises StudyError for too few patterns, WordsError for `shared` without such
    scores.
    """
    source: Source = "shared" if shared else "trials"
    scores = _scores(record, source)
    values, layers = list(scores.values()), int(record.facts["num_layers"])
    less = record.purpose.direction == "minimize"
    logged = less and min(values, default=0.0) > 0
    losses = [math.log(value) if logged else value if less else -value for value in values]
    patterns, depths = [Pattern.parse(text) for text in scores], tuple(record.facts.get("depths", ()))
    if len(patterns) < FEWEST:
        raise _too_few(record, source, len(patterns), FEWEST)
    effects = effects_of(patterns, losses, layers, depths)
    if len(patterns) < len(effects.parts) + MORE:
        raise _too_few(record, source, len(patterns), len(effects.parts) + MORE)
    quality = _quality(effects)
    parts = _asked(effects) if quality.is_enough else []
    pairs = list(combinations(effects.parts, 2)) if quality.is_enough else []
    costs = dict(zip(parts, _estimates(effects, *effects.of(parts)), strict=True))
    both = dict(zip(pairs, _estimates(effects, *effects.of_pairs(pairs)), strict=True))
    return Importance(
        record.name,
        source,
        len(patterns),
        layers,
        depths,
        record.purpose.metric,
        less,
        logged,
        quality,
        costs,
        {part: _times(patterns, part) for part in parts},
        dict(sorted(both.items(), key=lambda pair: (not pair[1].is_told, -abs(pair[1].cost)))[:STRONGEST]),
        len(pairs),
        _influence(record, costs),
    )


def _scores(record: Record, source: Source) -> dict[str, float]:
    """The scores to fit, by pattern."""
    if source == "shared":
        if not record.shared:
            raise WordsError(
                f"study {record.name!r} has no shared scores, which come with --method one-shot; leave out --shared"
            )
        return dict(record.shared)
    alike: dict[str, list[float]] = {}
    for row in record.rows:
        if row.score is not None:
            alike.setdefault(row.pattern, []).append(row.score)
    return {pattern: fmean(scores) for pattern, scores in alike.items()}


def _too_few(record: Record, source: Source, there: int, needed: int) -> StudyError:
    trials = f"{count(there, 'complete trial')} of different patterns"
    there_are = trials if source == "trials" else count(there, "shared score")
    then = "continue it with `layersearch run` and more --trials"
    if source == "trials" and len(record.shared) >= needed:
        then = f"fit its {count(len(record.shared), 'shared score')} with --shared"
    return StudyError(
        f"study {record.name!r} has {there_are}, and {needed} are needed to tell its layers apart; {then}"
    )


def _quality(effects: Effects) -> Quality:
    return Quality(
        *_agreement(effects.scores, effects.fit.left_out()), *_agreement(effects.scores, effects.by_size.left_out())
    )


def _agreement(values: Floats, told: Floats) -> tuple[float, float]:
    """Rank correlation, and R2 against the mean of the others; both 0 for scores that are all equal."""
    from scipy.stats import spearmanr

    means = (values.sum() - values) / (len(values) - 1)
    apart = np.square(values - means).sum()
    if np.ptp(values) == 0 or np.ptp(told) == 0:
        return 0.0, 0.0
    return float(spearmanr(values, told).statistic), float(1 - np.square(values - told).sum() / apart)


def _asked(effects: Effects) -> list[Part]:
    """The parts, and the whole layers of which both halves are among them, layer after layer."""
    halved = [(part.layer, part.again) for part in effects.parts if part.halves != "both"]
    whole = [Part(layer, "both", again) for layer, again in set(halved) if halved.count((layer, again)) > 1]
    order = list(KINDS)
    return sorted([*effects.parts, *whole], key=lambda part: (part.layer, order.index((part.halves, part.again))))


def _estimates(effects: Effects, means: Floats, deviations: Floats) -> list[Estimate]:
    """With intervals of Student's t, as the noise's variance is estimated."""
    from scipy.stats import t

    width = float(t.ppf(0.975, len(effects.scores) - 1)) * deviations
    return [Estimate(float(m), float(m - w), float(m + w)) for m, w in zip(means, width, strict=True)]


def _times(patterns: Iterable[Pattern], part: Part) -> int:
    """In how many patterns the part is dropped, or repeated; of a whole layer: both its halves."""
    return sum(_has(pattern, part) for pattern in patterns)


def _has(pattern: Pattern, part: Part) -> bool:
    found = [block.halves for block in pattern.blocks if block.layer == part.layer]
    wanted: Sequence[Halves] = HALVES if part.halves == "both" else (part.halves,)
    times = [sum(halves in ("both", one) for halves in found) for one in wanted]
    return min(times) > 1 if part.again else max(times) == 0


def _influence(record: Record, costs: Mapping[Part, Estimate]) -> float | None:
    """The rank correlation of the costs of dropping with the influence of what is dropped."""
    influence = next(
        (row.influence["block"] for row in record.rows if row.influence and "block" in row.influence), None
    )
    smallest: Sequence[Part] = [part for part in costs if not part.again and part.halves != "both"]
    smallest = smallest or [part for part in costs if not part.again]
    if influence is None or len(smallest) < INFLUENCES:
        return None
    of_half = {"attention": slice(0, 1), "ffn": slice(1, 2), "both": slice(0, 2)}
    measured = np.array([sum(influence[2 * p.layer : 2 * p.layer + 2][of_half[p.halves]]) for p in smallest])
    return _agreement(measured, np.array([costs[part].cost for part in smallest]))[0]

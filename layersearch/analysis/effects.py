"""What dropping or repeating each layer and half does to a score, fitted from scored patterns.

Knows: patterns, scores, which columns a pattern becomes. Does not know: studies, how scores came about, what is shown.

The model is linear: how much is dropped (a slope for each kind of part, and one curvature), how each part differs from
others of its kind, and each pair of parts. Slopes are as good as free; differences are shrunk to 0, and pairs more so.
So a part that the scores tell little of is taken for one like the others, not for one without effect.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from layersearch.analysis.ridge import Floats, Mixture, mixture
from layersearch.pattern import Block, Halves, Pattern, thirds

SLOPE = 30.0  # deviation of a kind's slope, over that of a part's difference from its kind: as good as free
CURVATURE = 0.3  # of the curvature, over the same: of all pairs alike, as PAIRS of each by itself
PAIRS = (0.1, 0.3, 1.0)  # deviations of what a pair adds, over the same; which is right the scores tell


HALVES: tuple[Halves, Halves] = ("attention", "ffn")


@dataclass(frozen=True)
class Part:
    """A layer or a half of it, dropped; or, with `again`, repeated."""

    layer: int
    halves: Halves = "both"
    again: bool = False

    def __str__(self) -> str:
        return f"{Block(self.layer, self.halves)}{' again' * self.again}"

    @property
    def size(self) -> float:
        """Layers that a pattern has less with it."""
        return thirds([Block(self.layer, self.halves)]) / (-3 if self.again else 3)


def parts_of(patterns: Sequence[Pattern], num_layers: int) -> tuple[Part, ...]:
    """The parts that some of the patterns drop or repeat and others do not, lowest layer first, copies behind.

    Whole layers where all halves go together, as no score tells them apart; so, for themselves, of what is repeated.
    """
    every: list[Part] = []
    for again in (False, True):
        attention, ffn = ([Part(layer, of, again) for layer in range(num_layers)] for of in HALVES)
        if (_amounts(patterns, attention) == _amounts(patterns, ffn)).all():
            every += [Part(layer, "both", again) for layer in range(num_layers)]
        else:
            every += [half for layer in zip(attention, ffn, strict=True) for half in layer]
    varies = np.ptp(_amounts(patterns, every), axis=0) > 0
    return tuple(part for part, does in zip(every, varies, strict=True) if does)


def _amounts(patterns: Iterable[Pattern], parts: Sequence[Part]) -> Floats:
    """Of each part, [patterns, parts]: 1 where it is dropped, or how often it is repeated."""
    rows = []
    for pattern in patterns:
        times = Counter((block.layer, half) for block in pattern.blocks for half in _halves(block))
        rows.append([_amount(times[part.layer, _one_of(part.halves)], again=part.again) for part in parts])
    return np.array(rows, dtype=float).reshape(-1, len(parts))


def _halves(block: Block) -> tuple[Halves, ...]:
    return HALVES if block.halves == "both" else (block.halves,)


def _one_of(halves: Halves) -> Halves:
    return "attention" if halves == "both" else halves


def _amount(times: int, *, again: bool) -> int:
    return max(0, times - 1) if again else int(times == 0)


@dataclass(frozen=True)
class Effects:
    """The model, fitted to `scores` [n]. `depths` are the layers of a model's stacks; `centre` mean amounts [parts].

    `mixing` is the share of patterns that mix their layers, None where none or all do; what that does to a score is
    told apart from the layers, by a slope that is as good as free. An effect is a difference of scores, on average over
    the patterns fitted: whatever else they drop.
    """

    parts: tuple[Part, ...]
    depths: tuple[int, ...]
    centre: Floats
    scores: Floats
    fit: Mixture
    by_size: Mixture  # from how much is dropped alone
    mixing: float | None = None

    def of(self, parts: Sequence[Part]) -> tuple[Floats, Floats]:
        """Mean and standard deviation [parts] of what it does to drop (or repeat) each of `parts`, one by one.

        A whole layer may be asked for where the parts are halves: both at once.
        """
        done = np.array([self._changed(part) for part in parts]).reshape(-1, len(self.parts))
        return self._told([(done * (1 - self.centre), 1), (-done * self.centre, -1)])

    def _changed(self, part: Part) -> Floats:
        """Which of the own parts `part` stands for, as 1 and 0."""
        same = [
            (p.layer, p.again) == (part.layer, part.again) and part.halves in (p.halves, "both") for p in self.parts
        ]
        return np.array(same, dtype=float)

    def of_pairs(self, pairs: Sequence[tuple[Part, Part]]) -> tuple[Floats, Floats]:
        """Mean and standard deviation [pairs] of what it does to drop both, beyond what each does alone."""
        ends = np.array([[self._changed(part) for part in pair] for pair in pairs]).reshape(-1, 2, len(self.parts))
        first, second = ends[:, 0], ends[:, 1]
        none = -self.centre * (first + second)
        return self._told([(none + first + second, 1), (none + first, -1), (none + second, -1), (none, 1)])

    def predict(self, patterns: Iterable[Pattern]) -> tuple[Floats, Floats]:
        """Mean and standard deviation [patterns] of the scores of other patterns, noise included."""
        patterns = list(patterns)
        amounts = _amounts(patterns, self.parts) - self.centre
        sets = self._sets(amounts, _mixes(patterns) - (self.mixing or 0.0))
        rows = [columns - one.centre for columns, one in zip(sets, self.fit.ridges, strict=True)]
        means, deviations = self.fit.told(rows)
        noise = self.fit.noise * (1 + 1 / len(self.scores))
        return means + self.scores.mean(), np.sqrt(np.square(deviations) + noise)

    def _told(self, terms: Sequence[tuple[Floats, int]]) -> tuple[Floats, Floats]:
        """Mean and deviation of sums over scores at centred amounts [k, parts], each with its sign."""
        sets = [self._sets(amounts) for amounts, _ in terms]
        signs = [sign for _, sign in terms]
        rows = [sum(s * c for s, c in zip(signs, of_one, strict=True)) for of_one in zip(*sets, strict=True)]
        return self.fit.told([np.asarray(row) for row in rows])

    def _sets(self, amounts: Floats, mixes: Floats | None = None) -> list[Floats]:
        """The columns of `amounts`, whoever mixes (`mixes` [n], all alike where not given)."""
        if self.mixing is None:
            return column_sets(amounts, self.parts, self.depths)
        return column_sets(amounts, self.parts, self.depths, np.zeros(len(amounts)) if mixes is None else mixes)


def column_sets(
    amounts: Floats, parts: Sequence[Part], depths: Sequence[int], mixes: Floats | None = None
) -> list[Floats]:
    """The columns of centred `amounts` [n, parts], one set for each deviation that pairs may have.

    And one for `mixes` [n], centred.
    """
    size = _sizes(amounts, parts, depths, mixes)
    places = np.array(list(combinations(range(len(parts)), 2)), dtype=int).reshape(-1, 2)
    pairs = amounts[:, places[:, 0]] * amounts[:, places[:, 1]]
    return [np.hstack([size, amounts, *([scale * pairs] if scale else [])]) for scale in PAIRS]


def _mixes(patterns: Iterable[Pattern]) -> Floats:
    """Whether each pattern mixes its layers, 1 or 0."""
    return np.array([pattern.mixes for pattern in patterns], dtype=float)


def _sizes(amounts: Floats, parts: Sequence[Part], depths: Sequence[int], mixes: Floats | None) -> Floats:
    """How much of each kind is dropped, and the square of the whole, [n, kinds + 1]; a stack's layers are one kind.

    Then who `mixes`.
    """
    kinds = [(int(np.searchsorted(np.cumsum(depths), part.layer, "right")), part.halves, part.again) for part in parts]
    of_kind = np.array([[kind == one for one in sorted(set(kinds))] for kind in kinds], dtype=float)
    whole = amounts @ np.array([part.size for part in parts])
    mixing = [] if mixes is None else [SLOPE * mixes[:, None]]
    return np.hstack([SLOPE * amounts @ of_kind, CURVATURE * np.square(whole)[:, None], *mixing])


def effects_of(
    patterns: Sequence[Pattern], scores: Sequence[float], num_layers: int, depths: Sequence[int] = ()
) -> Effects:
    """Fit the model to the scores of different patterns of a model with `num_layers` layers."""
    parts, values = parts_of(patterns, num_layers), np.array(scores, dtype=float)
    amounts = _amounts(patterns, parts)
    centre = amounts.mean(axis=0)
    mixes = _mixes(patterns)
    mixing = float(mixes.mean()) if np.ptp(mixes) else None
    apart = None if mixing is None else mixes - mixing
    fit = mixture(column_sets(amounts - centre, parts, depths, apart), values)
    by_size = mixture([_sizes(amounts - centre, parts, depths, apart)], values)
    return Effects(parts, tuple(depths), centre, values, fit, by_size, mixing)

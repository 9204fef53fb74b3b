"""Cheap scores: what a pattern's is, ranks within sizes, and when a study has shown one to be worth something."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from layersearch.pattern import Pattern, thirds
from layersearch.search.cheap import FEWEST, NEEDED, best_agreement, cheap_score, correlation, ranks_within
from layersearch.search.trials import Row

LAYERS = 6
INFLUENCE = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2]


@pytest.mark.parametrize(
    ("pattern", "dropped"),
    [
        ("0-5", 0.0),
        ("0-4", 1.1 + 1.2),
        ("0-4 5a", 1.2),
        ("0f 1-5", 0.1),
        ("0 0-5", 0.0),
        ("0f 0a 1-5", 0.0),
        ("2", sum(INFLUENCE) - 0.5 - 0.6),
    ],
)
def test_a_cheap_score_is_minus_the_influence_of_what_is_dropped(pattern: str, dropped: float) -> None:
    assert cheap_score(Pattern.parse(pattern), INFLUENCE) == pytest.approx(-dropped)


def test_ranks_are_centred_within_sizes_and_ties_share_theirs() -> None:
    sizes = np.array([5, 5, 5, 7, 7, 9])
    ranks = ranks_within(sizes, np.array([0.1, 0.3, 0.2, 8.0, 8.0, 3.0]))
    assert ranks.tolist() == pytest.approx([-1 / 3, 1 / 3, 0, 0, 0, 0])


def test_a_correlation_lies_inside_its_interval_and_constants_have_none() -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(size=30)
    rho, low, high = correlation(one, one + rng.normal(size=30))
    assert -1 <= low < rho < high <= 1
    assert correlation(one, one) == pytest.approx((1, 1, 1))
    assert correlation(one, np.zeros(30)) == (0, 0, 0)


def rows(noise: float, size_matters: float = 0.0, trials: int = 20) -> list[Row]:
    """The unchanged model, then patterns of four and five layers whose scores follow INFLUENCE, but for noise."""
    rng = random.Random(0)
    measured = {"block": INFLUENCE, "token": INFLUENCE[::-1], "gradient": [1.0] * 12}
    found = [Row(0, "COMPLETE", "0-5", 0, score=9.0, parameters=36, influence=measured)]
    patterns = [
        Pattern.of_layers(layer for layer in range(LAYERS) if layer not in (gone, also))
        for gone in range(LAYERS)
        for also in range(gone, LAYERS)
    ]
    for number, pattern in enumerate(patterns[:trials], 1):
        score = cheap_score(pattern, INFLUENCE) + rng.gauss(0, noise) + size_matters * pattern.depth
        size = 18 + thirds(pattern.blocks)
        found.append(Row(number, "COMPLETE", str(pattern), 0, score=score, parameters=size))
    return found


def test_the_best_cheap_score_is_named_with_its_correlation_and_its_trials() -> None:
    agreement = best_agreement(rows(0.2), "maximize")
    assert agreement is not None
    assert (agreement.name, agreement.trials, agreement.influence) == ("block", 20, tuple(INFLUENCE))
    assert 0.7 < agreement.low < agreement.rho <= agreement.high
    assert agreement.filters
    assert str(agreement) == (
        f"attention/FFN block influence, rank correlation {agreement.rho:.2f} "
        f"({agreement.low:.2f} to {agreement.high:.2f}) within sizes"
    )
    lower_is_better = best_agreement([replace(row, score=-(row.score or 0)) for row in rows(0.2)], "minimize")
    assert lower_is_better == agreement


def test_size_alone_shows_nothing() -> None:
    agreement = best_agreement(rows(noise=100.0, size_matters=1e6), "maximize")
    assert agreement is not None
    assert agreement.low < NEEDED
    assert not agreement.filters


def test_few_trials_of_a_size_and_trials_without_influence_are_not_judged() -> None:
    assert best_agreement(rows(0.2, trials=FEWEST - 1), "maximize") is None
    assert best_agreement(rows(0.2)[1:], "maximize") is None
    assert best_agreement([], "maximize") is None
    alone = [replace(row, parameters=1000 + row.number) for row in rows(0.2)]
    assert best_agreement(alone, "maximize") is None

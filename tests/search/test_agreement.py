"""How well shared scores rank candidates, and how sure that is of few."""

from __future__ import annotations

import pytest

from layersearch.search.agreement import Agreement, agreement_of
from layersearch.search.trials import Row


def agreed(scores: list[float]) -> Agreement | None:
    """Candidates whose shared scores rise from one to the next, tuned to `scores`."""
    rows = [
        Row(number, "COMPLETE", str(number), 0, score=score, start="super-0") for number, score in enumerate(scores)
    ]
    return agreement_of(rows, {row.pattern: row.number / 100 for row in rows}, "0-9")


def test_a_perfect_order_of_few_is_no_certainty() -> None:
    few, many = agreed([0.5, 0.6, 0.7, 0.8, 0.9]), agreed([n / 50 for n in range(40)])
    assert few is not None
    assert many is not None
    assert (few.rho, few.high, many.rho) == pytest.approx((1.0, 1.0, 1.0))
    assert 0 < few.low < 0.3
    assert 0.95 < many.low < 1


def test_the_other_way_round_it_is_the_mirror() -> None:
    up, down = agreed([0.1, 0.3, 0.2, 0.4, 0.6, 0.5]), agreed([-0.1, -0.3, -0.2, -0.4, -0.6, -0.5])
    assert up is not None
    assert down is not None
    assert (down.low, down.high) == pytest.approx((-up.high, -up.low))
    assert up.low < up.rho < up.high


def test_four_or_equal_scores_tell_nothing() -> None:
    assert agreed([0.1, 0.2, 0.3, 0.4]) is None
    assert agreed([0.5] * 9) is None

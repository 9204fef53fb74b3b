"""Hypervolume against Optuna's and against counted squares, and the rule for standing still."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna._hypervolume import compute_hypervolume

from layersearch.pattern import PartCounts, Pattern
from layersearch.search.quality import (
    Point,
    error_of,
    hypervolume,
    layer_share,
    noise_of,
    plateau,
    point_of,
    stands_still,
)
from layersearch.search.trials import Row

REFERENCE = (1.0, 1.0)
floats = st.floats(0, 1.25, allow_subnormal=False)
points_of = st.lists(st.tuples(floats, floats), max_size=12)


@given(points_of)
def test_the_hypervolume_is_optunas(points: list[Point]) -> None:
    inside = [point for point in points if point[0] < 1 and point[1] < 1]
    theirs = compute_hypervolume(np.array(inside), np.array(REFERENCE)) if inside else 0.0
    assert hypervolume(points, REFERENCE) == pytest.approx(theirs, abs=1e-9)


@given(st.lists(st.tuples(floats, floats, floats), max_size=12))
def test_the_volume_of_three_objectives_is_optunas(points: list[Point]) -> None:
    inside = [point for point in points if max(point) < 1]
    theirs = compute_hypervolume(np.array(inside), np.ones(3)) if inside else 0.0
    assert hypervolume(points, (1.0, 1.0, 1.0)) == pytest.approx(theirs, abs=1e-9)


def test_a_study_with_costs_of_its_own_stands_still_by_them() -> None:
    def of(number: int, score: float, *costs: float, over: float = 0.0) -> Row:
        return Row(
            number, "COMPLETE", "0-5" if number == 0 else "0-2", 0, score=score, costs=costs, over={"macs": over}
        )

    assert point_of(of(1, 0.8, 50, 30), "maximize", 6, (100, 60)) == pytest.approx((0.2, 0.5, 0.5))
    still = [of(0, 0.9, 100, 60), of(1, 0.8, 50, 30), *(of(n, 0.5, 60, 40) for n in range(2, 6))]
    assert plateau(still, "maximize", 6, window=4, own_costs=True)
    assert not plateau([*still, of(6, 0.8, 50, 6)], "maximize", 6, window=4, own_costs=True)
    assert plateau([*still, of(6, 0.8, 50, 6, over=0.1)], "maximize", 6, window=4, own_costs=True)
    assert not plateau(still[1:], "maximize", 6, window=4, own_costs=True)  # without the unchanged model's costs


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=8), st.integers(1, 8), st.integers(1, 8))
def test_the_hypervolume_is_the_number_of_squares_that_some_point_beats(
    points: list[tuple[int, int]], width: int, height: int
) -> None:
    squares = itertools.product(range(width), range(height))
    beaten = sum(any(x <= column and y <= row for x, y in points) for column, row in squares)
    assert hypervolume([(float(x), float(y)) for x, y in points], (width, height)) == beaten


@given(points_of, st.tuples(floats, floats), st.randoms())
def test_points_in_any_order_add_or_leave_it_as_it_is(points: list[Point], more: Point, rng: random.Random) -> None:
    before = hypervolume(points, REFERENCE)
    shuffled = [*points, more]
    rng.shuffle(shuffled)
    after = hypervolume(shuffled, REFERENCE)
    assert after >= before - 1e-12
    if any(error <= more[0] and share <= more[1] for error, share in points):
        assert after == pytest.approx(before)


def test_the_share_of_layer_parameters_is_that_of_the_counts() -> None:
    counts = PartCounts(fixed=1000, attention=(10,) * 6, ffn=(20,) * 6)
    for text in ("0-5", "0 4", "0-2 3a 4f", "0-5 5"):
        pattern = Pattern.parse(text)
        layers = pattern.parameters(counts) - counts.fixed
        assert layer_share(pattern, 6) == pytest.approx(layers / (counts.total - counts.fixed))


def test_a_row_becomes_a_point() -> None:
    row = Row(0, "COMPLETE", "0-2", 0, score=0.8, parameters=10)
    assert point_of(row, "maximize", 6) == pytest.approx((0.2, 0.5))
    assert point_of(row, "minimize", 6) == (0.8, 0.5)
    assert error_of(3.5, "minimize") == 3.5


def row(number: int, pattern: str, score: float | None, half_width: float | None = None) -> Row:
    interval = None if score is None or half_width is None else (score - half_width, score + half_width)
    state = "FAIL" if score is None else "COMPLETE"
    return Row(number, state, pattern, 0, score=score, interval=interval, parameters=10)


def test_the_noise_is_the_median_standard_error_of_the_scores() -> None:
    rows = [row(n, "0", 0.5, half) for n, half in enumerate([0.0196, 0.0392, 0.196])]
    assert noise_of([*rows, row(9, "0", None)]) == pytest.approx(0.02)
    assert noise_of([row(0, "0", 0.5)]) == 0


def test_a_front_stands_still_where_the_last_trials_add_less_than_noise() -> None:
    good, bad = (0.2, 0.5), (0.9, 0.9)
    better = (0.15, 0.5)  # over half of the shares: grows by 0.05 x 0.5 and no more than a noise of 0.06 could
    assert stands_still([good, *[bad] * 4], 0.0, window=4)
    assert not stands_still([good, *[bad] * 3], 0.0, window=4)  # too few to tell
    assert not stands_still([bad, good, *[bad] * 2, better], 0.0, window=2)
    assert stands_still([bad, good, *[bad] * 2, better], 0.06, window=2)
    assert not stands_still([bad, good, *[bad] * 2, better], 0.04, window=2)
    assert not stands_still([bad, good, *[bad] * 2, (0.2, 0.1)], 0.06, window=2)  # a much smaller one


def test_a_standstill_tells_its_figures() -> None:
    still = stands_still([(0.9, 0.9), (0.2, 0.5), (0.19, 0.5)], 0.06, window=1)
    assert still is not None
    assert (still.grown, still.luck) == pytest.approx((0.01 * 0.5, 0.06 * 0.5))
    assert str(still) == (
        "the front stands still: the last 1 trial added 0.005 to its hypervolume, "
        "and the noise of the scores may add 0.03"
    )


def test_a_study_stands_still_by_its_complete_trials_only() -> None:
    rows = [row(0, "0-5", 0.8, 0.02), row(1, "0-2", 0.8, 0.02)]
    rows += [row(n, "0-4", 0.5, 0.02) for n in range(2, 6)]
    assert plateau(rows, "maximize", 6, window=4)
    assert not plateau([*rows, row(6, "0", 0.8, 0.02)], "maximize", 6, window=4)
    assert not plateau([*rows[:5], *(row(n, "0", None) for n in range(9))], "maximize", 6, window=4)

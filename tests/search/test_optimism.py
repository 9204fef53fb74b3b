"""The winner's curse: found where the best of many is taken, none where nothing was chosen, and luck is told apart."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest

from layersearch.search.optimism import Optimism, optimism_of
from layersearch.search.trials import Confirmed, Row, front_of

NOISE = 0.02


def row(number: int, score: float, parameters: int, redrawn: tuple[float, ...] = ()) -> Row:
    interval = (score - 0.05, score + 0.05)
    return Row(number, "COMPLETE", f"0-{number}", 0, score, interval, redrawn=redrawn, parameters=parameters)


def again(row: Row, truth: float, rng: np.random.Generator, seeds: int = 3) -> Confirmed:
    scores = tuple(truth + NOISE * rng.normal(size=seeds))
    return Confirmed(row.pattern, tuple(range(seeds)), scores, fmean(scores), 0.0)


def curse(rng: np.random.Generator, *, chosen: bool) -> Optimism | None:
    """Sixty candidates of six sizes; the best of each size is confirmed, or the first of each."""
    sizes = [size for size in range(10, 70, 10) for _ in range(10)]
    truths = [0.9, *(0.5 + size / 200 for size in sizes)]
    rows = [
        replace(row(number, truth + NOISE * rng.normal(), size), interval=None)
        for number, (truth, size) in enumerate(zip(truths, [100, *sizes], strict=True))
    ]
    front = front_of(rows, "maximize") if chosen else rows[:60:10]
    confirmed = {one.pattern: again(one, truths[one.number], rng) for one in (rows[0], *front)}
    return optimism_of(front, rows[0], confirmed, "maximize")


def test_the_best_of_ten_look_better_than_they_are_and_the_first_of_ten_do_not() -> None:
    """The best of ten draws lies 1.54 standard deviations above their mean (order statistics of the normal)."""
    rng = np.random.default_rng(0)
    cursed = [found for _ in range(60) if (found := curse(rng, chosen=True))]
    fair = [found for _ in range(60) if (found := curse(rng, chosen=False))]
    assert fmean(found.mean for found in cursed) == pytest.approx(1.54 * NOISE, abs=0.3 * NOISE)
    assert fmean(found.mean for found in fair) == pytest.approx(0, abs=0.4 * NOISE)
    held = [found.interval[0] <= 0 <= found.interval[1] for found in fair if found.interval]
    assert len(held) == 60
    assert fmean(held) > 0.9


def test_it_is_measured_against_the_unchanged_model_so_that_an_easier_split_flatters_nobody() -> None:
    rows = [row(0, 0.90, 100), row(1, 0.85, 50)]
    easier = {r.pattern: Confirmed(r.pattern, (1, 2), (s, s), s, 0.0) for r, s in zip(rows, (0.80, 0.74), strict=True)}
    found = optimism_of(rows, rows[0], easier, "maximize")
    assert found is not None
    assert found.patterns == {"0-1": pytest.approx(0.01)}
    worse = optimism_of(rows, rows[0], easier, "minimize")
    assert worse is not None
    assert worse.mean == pytest.approx(-0.01)


def test_examples_that_are_hard_for_all_cancel() -> None:
    draws = np.random.default_rng(1).normal(size=64) * 0.05
    alone = [row(0, 0.90, 100), row(1, 0.85, 50)]
    paired = [replace(one, redrawn=tuple((one.score or 0) + draws)) for one in alone]
    known = {r.pattern: Confirmed(r.pattern, (1, 2), (0.8, 0.81), 0.805, 0.007) for r in alone}
    wide, narrow = (optimism_of(rows, rows[0], known, "maximize") for rows in (alone, paired))
    assert wide is not None
    assert wide.interval is not None
    assert narrow is not None
    assert narrow.interval is not None
    assert narrow.interval[1] - narrow.interval[0] < 0.8 * (wide.interval[1] - wide.interval[0])


def test_with_one_seed_there_is_no_interval_and_without_a_confirmation_nothing() -> None:
    rows = [row(0, 0.90, 100), row(1, 0.85, 50)]
    once = {r.pattern: Confirmed(r.pattern, (1,), (0.8,), 0.8, None) for r in rows}
    found = optimism_of(rows, rows[0], once, "maximize")
    assert found is not None
    assert found.interval is None
    assert optimism_of(rows, rows[0], {}, "maximize") is None
    assert optimism_of(rows, rows[0], {"0-0": once["0-0"]}, "maximize") is None
    assert optimism_of(rows, None, once, "maximize") is None

"""What few seeds can say: intervals hold what they promise in simulation, pairs are used, and little is told of one."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import fmean, stdev, variance

import numpy as np
import pytest

from layersearch.search.certainty import Spread, around, certainties, quantile_of_t, spreads
from layersearch.search.trials import Confirmed, Direction
from layersearch.tasks.metrics import noise


def confirmed(
    pattern: str, scores: list[float], *, redrawn: list[list[float]] | None = None, half: float | None = None
) -> Confirmed:
    """A pattern with these scores for the seeds 1, 2, ..., each with an interval of plus or minus `half`."""
    return Confirmed(
        pattern,
        tuple(range(1, len(scores) + 1)),
        tuple(scores),
        fmean(scores),
        stdev(scores) if len(scores) > 1 else None,
        tuple((score - half, score + half) if half else None for score in scores),
        tuple(map(tuple, redrawn)) if redrawn else (),
    )


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("uneven", [0.0, 1.0])
def test_another_seed_lies_where_it_is_expected(seeds: int, uneven: float) -> None:
    """19 of 20 times, also where patterns differ in how noisy they are; four patterns, a thousand new scores each."""
    rng = np.random.default_rng(seeds)
    held = []
    for _ in range(100):
        noise = 0.01 * np.exp(uneven * rng.normal(size=4))
        scores = 0.8 + noise[:, None] * rng.normal(size=(4, seeds))
        new = 0.8 + noise[:, None] * rng.normal(size=(4, 1000))
        names = [str(n) for n in range(4)]
        found = certainties({n: confirmed(n, list(s)) for n, s in zip(names, scores, strict=True)}, "0", "maximize")
        for name, its in zip(names, new, strict=True):
            another = found[name].another
            assert another is not None
            held.append(np.mean((another[0] <= its) & (its <= another[1])))
    assert 0.93 < fmean(held) < 0.985


@pytest.mark.parametrize("paired", [True, False])
def test_the_share_kept_is_held_by_its_interval_over_seeds_and_examples(paired: bool) -> None:
    """Models that find the same examples hard: pairs make the interval far narrower, and it holds the truth."""
    rng = np.random.default_rng(7)
    held, widths = [], []
    for _ in range(120):
        hard, draws = rng.normal(size=300), rng.integers(0, 300, size=(64, 300))
        known = {}
        for name, level in (("0-5", 1.0), ("0-4", 0.9), ("0-2", 0.8)):
            own = level + rng.normal(size=300) * 0.2
            answers = own + 1.0 * hard + rng.normal(size=(3, 1)) * 0.02  # a seed moves all examples
            scores, redrawn = answers.mean(1), answers[:, draws].mean(2)
            half = 1.96 * float(np.std(own + hard)) / math.sqrt(300)
            known[name] = confirmed(name, list(scores), redrawn=redrawn.tolist() if paired else None, half=half)
        found = certainties(known, "0-5", "maximize")["0-4"]
        assert found.kept_interval is not None
        held.append(found.kept_interval[0] <= 0.9 <= found.kept_interval[1])
        widths.append(found.kept_interval[1] - found.kept_interval[0])
    assert fmean(held) > 0.93
    assert (fmean(widths) < 0.13) is paired


def test_one_seed_says_nothing_of_seeds_and_that_is_told() -> None:
    found = certainties({"0-5": confirmed("0-5", [0.8], half=0.04)}, "0-5", "maximize")["0-5"]
    assert (found.of_seeds, found.another, found.kept_interval) == (False, None, None)
    assert found.interval == pytest.approx((0.76, 0.84))
    bare = certainties({"0-5": confirmed("0-5", [0.8])}, "0-5", "maximize")["0-5"]
    assert bare.interval is None


@pytest.mark.parametrize("seeds", [1, 2])
def test_answers_that_are_all_right_are_no_certainty(seeds: int) -> None:
    """No draw of 20 right answers is another one: the lower end is the exact one, of the share kept too."""
    answers = np.zeros(20, int)
    noise_of_one = noise("accuracy", answers, answers)
    assert set(noise_of_one.redrawn) == {1.0}
    low = 0.025 ** (1 / 20)
    one = replace(
        confirmed("0-5", [1.0] * seeds, redrawn=[list(noise_of_one.redrawn)] * seeds),
        intervals=(noise_of_one.interval,) * seeds,
    )
    found = certainties({"0-5": one, "0-2": replace(one, pattern="0-2")}, "0-5", "maximize")
    assert found["0-2"].interval == pytest.approx((low, 1.0), abs=1e-3)
    assert found["0-2"].kept_interval == pytest.approx((low, 2 - low), abs=1e-3)
    worse = confirmed("0-2", [0.75] * seeds, redrawn=[[0.7, 0.8] * 32] * seeds)
    its = certainties({"0-5": one, "0-2": worse}, "0-5", "maximize")["0-2"].kept_interval
    assert its == pytest.approx((0.65, 0.85), abs=2e-3)  # the draws tell it


def test_a_pattern_with_one_seed_gets_what_the_others_tell() -> None:
    known = {"0-5": confirmed("0-5", [0.80, 0.82, 0.81]), "0-4": confirmed("0-4", [0.7])}
    found = certainties(known, "0-5", "maximize")["0-4"]
    assert found.another == pytest.approx(
        tuple(0.7 + sign * quantile_of_t(2) * 0.01 * math.sqrt(2) for sign in (-1, 1)), abs=1e-9
    )


@pytest.mark.parametrize(("direction", "kept"), [("maximize", 0.5), ("minimize", 2.0)])
def test_the_share_kept_is_over_the_seeds_of_both(direction: Direction, kept: float) -> None:
    whole = Confirmed("0-5", (1, 2), (0.8, 0.8), 0.8, 0.0)
    half = Confirmed("0-2", (2, 3), (0.4, 0.9), 0.65, 0.35)
    assert certainties({"0-5": whole, "0-2": half}, "0-5", direction)["0-2"].kept == pytest.approx(kept)


def test_scores_that_keep_no_share_have_none() -> None:
    known = {"0-5": confirmed("0-5", [-0.1, 0.0]), "0-4": confirmed("0-4", [0.1, 0.2])}
    found = certainties(known, "0-5", "maximize")
    assert (found["0-4"].kept, found["0-5"].kept) == (None, None)
    assert certainties({"0-4": known["0-4"]}, "0-5", "maximize")["0-4"].kept is None


def test_a_group_counts_with_its_own_variance_or_with_that_of_all() -> None:
    quiet, loud = [0.5, 0.5, 0.5], [0.1, 0.5, 0.9]
    pooled = (variance(quiet) + variance(loud)) / 2
    assert spreads([quiet, loud, [0.3]]) == [Spread(pooled, 4), Spread(variance(loud), 4), Spread(pooled, 4)]
    assert spreads([[0.3], [0.4]]) == [None, None]
    assert around(0.5, Spread(0.0, 4), 3, None) == (0.5, 0.5)

"""The sampler that knows patterns, and the process behind it: exact where that can be checked, better than chance."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from statistics import mean

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial
from threadpoolctl import threadpool_info, threadpool_limits  # type: ignore[import-untyped]

from layersearch.errors import WordsError
from layersearch.pattern import Pattern
from layersearch.search.quality import Point, hypervolume, layer_share
from layersearch.search.sampler_pattern import PatternSampler
from layersearch.search.samplers import check_sampler, make_sampler
from layersearch.search.surrogate import coded, differing, expected_growth, fitted, one_thread
from layersearch.search_space import SearchSpace
from layersearch.space_files import load
from layersearch.training.job import Outcome
from tests.search.support import open_study

WHOLE = SearchSpace(choices=("keep", "drop"), start=("top", "bottom"))
LAYERS = 4


# -- the process -------------------------------------------------------------------------------------------------------


def test_patterns_differ_in_the_bits_of_the_halves_they_keep() -> None:
    texts = ("0-3", "0-2", "0-2 3a", "0-3 3", "0-3 3 3")
    bits = coded([Pattern.parse(text) for text in texts], LAYERS).bits
    assert differing(bits, bits)[0].tolist() == [0, 2, 1, 2, 2]  # a third time looks like a second
    assert differing(bits, bits).tolist() == [[np.abs(a - b).sum() for b in bits] for a in bits]


def test_what_is_known_is_expected_and_what_is_like_it_nearly() -> None:
    space = list(WHOLE.patterns(LAYERS))
    known = coded(space[::2], LAYERS)
    errors = np.array([0.1 + 0.2 * (LAYERS - pattern.depth) for pattern in space[::2]])
    process = fitted(known, errors)
    there, deviation = process.predict(known)
    assert there == pytest.approx(errors, abs=0.05)
    elsewhere, wider = process.predict(coded(space[1::2], LAYERS))
    assert elsewhere == pytest.approx([0.1 + 0.2 * (LAYERS - p.depth) for p in space[1::2]], abs=0.15)
    assert wider.mean() > deviation.mean()


def test_a_running_pattern_counts_as_scored_as_expected() -> None:
    known = coded([Pattern.parse(text) for text in ("0-3", "0-2", "0")], LAYERS)
    other = coded([Pattern.parse("0-1")], LAYERS)
    process = fitted(known, np.array([0.1, 0.2, 0.8]))
    expected, before = process.predict(other)
    believing = process.believing(other)
    again, after = believing.predict(other)
    assert again == pytest.approx(expected, abs=0.02)
    assert after < before / 2


@given(
    st.lists(st.tuples(st.floats(0, 0.9), st.floats(0.05, 1)), min_size=1, max_size=5),
    st.floats(0, 1),
    st.floats(0.05, 1.1),
    st.floats(0.01, 0.3),
)
def test_expected_growth_is_the_mean_of_what_draws_add(
    front: list[tuple[float, float]], error: float, share: float, deviation: float
) -> None:
    reference = (1.0, 1.2)
    draws = error + deviation * np.random.default_rng(0).standard_normal(1500)
    before = hypervolume(front, reference)
    added = [hypervolume([*front, (draw, share)], reference) - before for draw in draws]
    found = expected_growth(np.array([error]), np.array([deviation]), np.array([[share]]), front, reference)
    spread = float(np.std(added)) / len(draws) ** 0.5
    assert found[0] == pytest.approx(mean(added), abs=5 * spread + 1e-4)


@given(
    st.lists(st.tuples(st.floats(0, 0.9), st.floats(0.05, 1), st.floats(0.05, 1)), min_size=1, max_size=5),
    st.floats(0, 1),
    st.tuples(st.floats(0.05, 1.1), st.floats(0.05, 1.1)),
    st.floats(0.01, 0.3),
)
def test_expected_growth_over_two_sizes_is_the_mean_of_what_draws_add(
    front: list[tuple[float, float, float]], error: float, sizes: tuple[float, float], deviation: float
) -> None:
    reference = (1.0, 1.2, 1.1)
    draws = error + deviation * np.random.default_rng(0).standard_normal(400)
    before = hypervolume(front, reference)
    added = [hypervolume([*front, (draw, *sizes)], reference) - before for draw in draws]
    found = expected_growth(np.array([error]), np.array([deviation]), np.array([sizes]), front, reference)
    spread = float(np.std(added)) / len(draws) ** 0.5
    assert found[0] == pytest.approx(mean(added), abs=5 * spread + 1e-3)


def test_equal_errors_break_nothing() -> None:
    known = coded(list(WHOLE.patterns(LAYERS))[:5], LAYERS)
    with one_thread():
        expected, deviation = fitted(known, np.full(5, 0.5)).predict(known)
    assert expected == pytest.approx([0.5] * 5)
    growth = expected_growth(expected, deviation, known.share[:, None], [(0.5, 0.2)], (0.5, 1.2))
    assert growth == pytest.approx([0] * 5, abs=1e-6)


# -- the sampler -------------------------------------------------------------------------------------------------------


def told(space: SearchSpace, layers: int, score: Callable[[Pattern], float], first: list[str]) -> optuna.Study:
    """A study in memory that holds the patterns `first`."""
    study = optuna.create_study(directions=["maximize", "minimize"])
    for text in first:
        pattern = Pattern.parse(text)
        study.add_trial(
            create_trial(values=[score(pattern), layer_share(pattern, layers)], user_attrs={"pattern": text})
        )
    study.sampler = PatternSampler(space, layers, seed=0)
    return study


def propose(study: optuna.Study, space: SearchSpace, layers: int) -> str:
    """Ask once, leaving the trial running."""
    trial = study.ask()
    pattern = space.suggest(trial, layers)
    assert pattern is not None
    trial.set_user_attr("pattern", str(pattern))
    return str(pattern)


def test_no_pattern_is_proposed_twice_running_or_not_until_all_are(tmp_path: Path) -> None:
    study = told(WHOLE, LAYERS, lambda pattern: pattern.depth / 4, ["0-3", "0-2"])
    asked = [propose(study, WHOLE, LAYERS) for _ in range(13)]
    assert len({"0-3", "0-2", *asked}) == 15
    real = open_study(f"{tmp_path}/db", tmp_path, sampler="PatternSampler")
    while (job := real.ask()) is not None:
        real.tell(Outcome(job.number, job.pattern, job.seed, score=0.5, parameters=10))
    assert not [row for row in real.rows() if row.state == "PRUNED" and row.number < 15]
    assert real.finished() == 15


def test_a_trial_that_was_stopped_early_is_not_learnt_from(monkeypatch: pytest.MonkeyPatch) -> None:
    study = told(WHOLE, LAYERS, lambda _: 0.5, ["0-3", "0-2", "0-1"])
    for text in ("1-3", "0-2"):  # one that was stopped, and a repeat of one that is complete
        study.add_trial(create_trial(state=TrialState.PRUNED, user_attrs={"pattern": text}))
    learnt: list[str] = []
    monkeypatch.setattr(study.sampler, "_choose", lambda fresh, *_: learnt.extend(fresh))
    for _ in range(2):  # each is learnt once
        study.ask().suggest_categorical("layer_0", ("keep", "drop"))
    assert learnt == ["0-3", "0-2", "0-1"]


@pytest.mark.parametrize("name", ["halves", "everything", "strategies", "sajjad"])
def test_it_proposes_patterns_of_every_kind_of_space(name: str) -> None:
    space = load(name)
    rng = random.Random(0)
    study = told(space, 12, lambda pattern: pattern.depth / 24, [str(space.sample(12, rng)) for _ in range(4)])
    asked = [propose(study, space, 12) for _ in range(4)]
    assert len(set(asked)) == 4
    assert all(space.params_of(Pattern.parse(text), 12) is not None for text in asked)


def volume_after(sampler: str, seed: int, trials: int) -> float:
    """What a search finds where layer 2 carries nothing, layer 0 a great deal, and depth counts."""
    worth = (0.5, 0.15, 0.0, 0.1, 0.12, 0.13)
    space = SearchSpace(choices=("keep", "drop"))
    drawn = make_sampler(sampler, seed, space, 6)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=drawn)
    points: list[Point] = []
    while len(points) < trials:
        trial = study.ask()
        pattern = space.suggest(trial, 6)
        if pattern is None:
            study.tell(trial, state=TrialState.PRUNED)
            continue
        trial.set_user_attr("pattern", str(pattern))
        score = sum(worth[block.layer] for block in pattern.blocks)
        study.tell(trial, [score, pattern.depth])
        points.append((1 - score, layer_share(pattern, 6)))
    return hypervolume(points, (1.0, 1.0))


def test_it_finds_a_better_front_than_chance() -> None:
    ours, chance = (
        mean(volume_after(name, seed, 14) for seed in range(5)) for name in ("PatternSampler", "RandomSampler")
    )
    assert ours > 1.1 * chance


def test_directions_are_the_studys() -> None:
    """Where less is better, the same figures upside down must lead to the same proposal."""
    proposals = []
    for direction, sign in ((StudyDirection.MAXIMIZE, 1.0), (StudyDirection.MINIMIZE, -1.0)):
        study = optuna.create_study(directions=[direction, StudyDirection.MINIMIZE])
        for text, score in (("0-3", 0.9), ("0-2", 0.5), ("0 1 3", 0.88), ("1-3", 0.2)):
            pattern = Pattern.parse(text)
            study.add_trial(create_trial(values=[sign * score, pattern.depth], user_attrs={"pattern": str(pattern)}))
        study.sampler = PatternSampler(WHOLE, LAYERS, seed=0)
        proposals.append(propose(study, WHOLE, LAYERS))
    assert proposals[0] == proposals[1]


def test_the_same_seed_proposes_the_same() -> None:
    courses = []
    for _ in range(2):
        study = told(load("halves"), 6, lambda pattern: pattern.depth / 6, ["0-5", "0-4", "0-3"])
        courses.append([propose(study, load("halves"), 6) for _ in range(3)])
    assert courses[0] == courses[1]


def test_samplers_go_by_name() -> None:
    check_sampler("PatternSampler")
    check_sampler("GPSampler")
    for name in ("CmaEsSampler", "GridSampler", "patternsampler"):
        with pytest.raises(WordsError, match=rf"unknown sampler '{name}'.*allowed: PatternSampler, greedy, exhaus"):
            check_sampler(name)
    assert isinstance(make_sampler("PatternSampler", 0, WHOLE, 4), PatternSampler)
    assert isinstance(make_sampler("TPESampler", 0, WHOLE, 4), optuna.samplers.TPESampler)
    assert isinstance(make_sampler("PatternSampler", 0, None, 4), optuna.samplers.RandomSampler)


def test_small_problems_take_one_thread_of_every_library() -> None:
    """SciPy brings a linear algebra of its own, which must be limited too."""
    import scipy.linalg  # noqa: F401

    with threadpool_limits(2), one_thread():
        threads = {found["num_threads"] for found in threadpool_info() if found["user_api"] == "blas"}
    assert threads == {1}

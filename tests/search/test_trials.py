"""What a study's trials say: the front against a brute-force one, ties, shares, confirmations."""

from __future__ import annotations

from dataclasses import replace
from statistics import mean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from layersearch.search.trials import (
    IN_WORDS,
    Direction,
    Row,
    as_record,
    baseline_of,
    confirmed_of,
    front_of,
    in_words,
    kept_share,
    rows_of,
    tied,
)

BASE = Row(0, "COMPLETE", "0-3", 0, score=0.8, interval=(0.75, 0.85), parameters=100)


def row(number: int, score: float | None, parameters: int = 10, **more: object) -> Row:
    state = "FAIL" if score is None else "COMPLETE"
    size = None if score is None else parameters
    return replace(Row(number, state, f"0-{number}", 0, score, parameters=size), **more)  # type: ignore[arg-type]


def beats(one: Row, other: Row, direction: Direction) -> bool:
    """Pareto dominance, spelled out: nowhere worse, somewhere better."""
    assert one.score is not None
    assert other.score is not None
    assert one.parameters is not None
    assert other.parameters is not None
    gain = one.score - other.score if direction == "maximize" else other.score - one.score
    saved = other.parameters - one.parameters
    return gain >= 0 and saved >= 0 and (gain > 0 or saved > 0)


ROWS = st.lists(st.tuples(st.none() | st.integers(-3, 3), st.integers(1, 6)), max_size=25).map(
    lambda found: [row(number, score, size) for number, (score, size) in enumerate(found)]
)


@given(ROWS, st.sampled_from(["maximize", "minimize"]))
def test_the_front_is_what_nobody_beats_each_point_once(rows: list[Row], direction: Direction) -> None:
    done = [r for r in rows if r.done]
    unbeaten = [r for r in done if not any(beats(other, r, direction) for other in done)]
    front = front_of(rows, direction)
    assert {(r.score, r.parameters) for r in front} == {(r.score, r.parameters) for r in unbeaten}
    assert len({(r.score, r.parameters) for r in front}) == len(front)
    for member in front:  # of equals the earliest
        twins = [r.number for r in unbeaten if (r.score, r.parameters) == (member.score, member.parameters)]
        assert member.number == min(twins)
    sizes = [r.parameters for r in front]
    assert sizes == sorted(sizes, key=lambda size: -(size or 0))


@given(ROWS, st.randoms())
def test_the_front_does_not_depend_on_the_order_of_the_rows(rows: list[Row], rng: object) -> None:
    shuffled = rows.copy()
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert front_of(shuffled, "maximize") == front_of(rows, "maximize")


@pytest.mark.parametrize(
    ("interval", "answer"), [((0.6, 0.75), True), ((0.85, 0.9), True), ((0.6, 0.74), False), ((0.86, 0.9), False)]
)
def test_scores_are_tied_where_their_intervals_touch(interval: tuple[float, float], answer: bool) -> None:
    other = row(1, 0.7, interval=interval)
    assert tied(other, BASE) is answer
    assert tied(BASE, other) is answer


def test_without_an_interval_nothing_is_tied() -> None:
    assert not tied(row(1, 0.8), BASE)
    assert not tied(BASE, row(1, 0.8))


def test_the_kept_share_is_of_the_unchanged_models_score() -> None:
    assert kept_share(0.6, 0.8, "maximize") == pytest.approx(0.75)
    assert kept_share(25.0, 20.0, "minimize") == pytest.approx(0.8)
    for score, unchanged in ((0.6, None), (None, 0.8), (0.6, 0.0), (0.6, -0.1)):
        assert kept_share(score, unchanged, "maximize") is None
    assert kept_share(0.0, 0.8, "maximize") == 0
    assert kept_share(0.0, 0.8, "minimize") is None


def test_the_baseline_is_the_complete_trial_of_the_unchanged_pattern() -> None:
    failed = Row(0, "FAIL", "0-3", 0)
    again = replace(BASE, number=5)
    assert baseline_of([failed, row(1, 0.9), again], "0-3") == again
    assert baseline_of([failed], "0-3") is None


@given(st.dictionaries(st.integers(1, 9), st.floats(0, 1), min_size=1, max_size=5))
def test_a_confirmation_is_mean_and_sample_deviation_over_seeds(scores: dict[int, float]) -> None:
    rows = [Row(i, "COMPLETE", "0-2", seed, score=s, parameters=1) for i, (seed, s) in enumerate(scores.items())]
    found = confirmed_of([*rows, Row(99, "FAIL", "0-2", 10)])["0-2"]
    assert found.seeds == tuple(sorted(scores))
    assert found.scores == tuple(scores[seed] for seed in found.seeds)
    assert found.mean == pytest.approx(mean(scores.values()))
    if len(scores) == 1:
        assert found.spread is None
    else:
        assert found.spread == pytest.approx(stdev(scores.values()), abs=1e-12)


def test_a_seed_that_was_scored_twice_counts_once_and_patterns_are_kept_apart() -> None:
    rows = [Row(i, "COMPLETE", "0-2", 1, score=0.5, parameters=1) for i in range(2)]
    found = confirmed_of([*rows, Row(2, "COMPLETE", "0", 1, score=0.1, parameters=1)])
    assert found["0-2"].scores == (0.5,)
    assert found["0"].mean == 0.1


def trial(state: TrialState, **attrs: object) -> FrozenTrial:
    done = state == TrialState.COMPLETE
    return create_trial(
        state=state,
        values=[0.5, 12.0] if done else None,
        params={"x": 0.1},
        distributions={"x": FloatDistribution(0, 1)},
        user_attrs=attrs,
    )


def test_rows_are_read_from_trials_and_those_without_a_pattern_left_out() -> None:
    done = trial(TrialState.COMPLETE, pattern="0-1", seed=3, interval=[0.4, 0.6], seconds=2.5, strategy="top")
    failed = trial(TrialState.FAIL, pattern="0", reason="the loss is nan", lost=True)
    rows = rows_of([done, failed, trial(TrialState.RUNNING)])
    assert [(r.pattern, r.seed, r.score, r.parameters, r.interval) for r in rows] == [
        ("0-1", 3, 0.5, 12, (0.4, 0.6)),
        ("0", 0, None, None, None),
    ]
    assert (rows[0].seconds, rows[0].strategy, rows[0].done) == (2.5, "top", True)
    assert (rows[1].state, rows[1].reason, rows[1].lost, rows[1].done) == ("FAIL", "the loss is nan", True, False)


def test_a_record_has_plain_values_and_empty_ones_where_nothing_is_known() -> None:
    confirmed = confirmed_of([Row(i, "COMPLETE", "0-3", i, score=0.7 + i / 10, parameters=1) for i in range(2)])
    full = as_record(replace(BASE, checkpoint="files/0"), BASE, confirmed["0-3"], 200, on_front=True)
    assert (full["parameters_share"], full["score_kept"], full["interval_low"]) == (0.5, 1.0, 0.75)
    assert (full["confirmed_mean"], full["confirmed_seeds"]) == (pytest.approx(0.75), 2)
    assert (full["on_front"], full["weights_kept"]) == (True, True)
    bare = as_record(row(1, 0.6), None, None, 200, on_front=False)
    assert list(bare) == list(full)
    assert (bare["on_front"], bare["weights_kept"]) == (False, False)
    assert [bare[key] for key in ("interval_low", "score_kept", "confirmed_mean", "confirmed_seeds")] == [
        None,
        None,
        None,
        0,
    ]


@pytest.mark.parametrize(
    ("state", "reason", "lost", "words"),
    [
        ("FAIL", "the loss is nan", False, "failed (the loss is nan)"),
        ("FAIL", None, False, "failed (no reason is known)"),
        ("FAIL", "the driver died while it ran", True, "was stopped and queued again (the driver died while it ran)"),
        ("PRUNED", "repeat of trial 4", False, "is a repeat of trial 4"),
        ("RUNNING", None, False, "is running"),
        ("WAITING", None, False, "waits for its turn"),
    ],
)
def test_the_state_of_a_trial_is_told_in_words(state: str, reason: str | None, lost: bool, words: str) -> None:
    assert in_words(Row(3, state, "0-2", 0, reason=reason, lost=lost)) == words


def test_every_state_of_optuna_has_words() -> None:
    assert set(IN_WORDS) == {state.name for state in TrialState}

"""The course of a study: what counts when, and what ended before its time."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest

from layersearch.pattern import Pattern
from layersearch.report.charts import course_chart
from layersearch.report.course import course_of, ended_early
from layersearch.report.layers import halves_of, shares_kept
from layersearch.report.svg import BOTTOM
from layersearch.search.objectives import OVER
from layersearch.search.purpose import Purpose
from layersearch.search.quality import reference_of
from layersearch.search.record import Record
from layersearch.search.trials import BEATEN, LOW_RANKED, Row

NOON = datetime(2026, 1, 1, 12)


def row(number: int, pattern: str, score: float | None, **more: object) -> Row:
    """A trial of a model of four layers that took ten seconds and half a fine-tuning, one a minute from noon on."""
    known: dict[str, object] = {"state": "PRUNED" if score is None else "COMPLETE", "parameters": 100, "work": 0.5}
    known |= {"seconds": 10.0, "ended": NOON + timedelta(minutes=number)} | more
    return Row(number=number, pattern=pattern, seed=0, score=score, **known)  # type: ignore[arg-type]


def record_of(*rows: Row, **more: float) -> Record:
    facts = {"num_layers": 4, "parameters": 100}
    return Record("s", Purpose({}, "accuracy", "maximize"), facts, rows, {}, shared_work=more.get("shared_work", 0.0))


def test_each_complete_trial_adds_what_it_beats() -> None:
    steps = course_of(record_of(row(0, "0-3", 0.5), row(1, "0-1", 0.7), row(2, "0-2", 0.6), row(3, "0", 0.9)))
    # from the worst score (0.5) and all four layers on: half the layers times 0.2, then three quarters times 0.4
    assert [step.volume for step in steps] == pytest.approx([0.0, 0.1, 0.1, 0.3])
    assert [step.trial for step in steps] == [0, 1, 2, 3]


def test_time_counts_from_the_start_of_the_first_trial_evaluated_here_and_trials_stand_as_they_ended() -> None:
    known = row(0, "0-3", 0.5, reused="trial 3 of t", seconds=999.0, ended=NOON)
    late = row(1, "0-2", 0.6, ended=NOON + timedelta(minutes=9))
    steps = course_of(record_of(known, late, row(2, "0-1", 0.7)))
    assert [(step.trial, step.seconds) for step in steps] == [(0, 0.0), (2, 10.0), (1, 430.0)]


def test_work_counts_networks_and_what_was_stopped() -> None:
    stopped = row(1, "0-2", None, rungs={0.3: 0.5})
    steps = course_of(record_of(row(0, "0-3", 0.5), stopped, row(2, "0", 0.6), shared_work=2.0))
    assert [step.work for step in steps] == [2.5, 3.5]
    assert [step.work for step in course_of(record_of(row(0, "0-3", 0.5, work=None)))] == [None]


def test_the_chart_starts_at_the_first_trial_and_not_where_something_was_gained_first() -> None:
    steps = course_of(record_of(row(0, "0-3", 0.5), row(1, "0-1", 0.7), row(2, "0", 0.9)))
    drawn = course_chart(steps, lambda step: step.work, "work")
    line = next(re.finditer(r'class="stairs" points="([^"]*)"', drawn))[1].split()
    places = [tuple(map(float, point.split(","))) for point in line]
    dots = [(float(x), float(y)) for x, y in re.findall(r'cx="([^"]*)" cy="([^"]*)"', drawn)]
    assert len(dots) == 2
    assert places[0][0] < dots[0][0]
    assert places[0][1] == 300 - BOTTOM
    assert places[1] == (dots[0][0], 300 - BOTTOM)


def test_a_study_without_trials_has_no_course() -> None:
    assert course_of(record_of()) == []
    assert reference_of() == (0.0, 1.0)
    assert reference_of(([row(0, "0-3", 0.3)], "maximize", 4), ([row(0, "0-3", 0.1)], "maximize", 4)) == (0.9, 1.0)


def test_what_ended_early_is_told_by_kind() -> None:
    reasons = {
        "stopped at a rung": row(1, "0", None, reason="stopped at rung 0.333 with 0.5", rungs={0.333: 0.5}),
        "not trained: beaten": row(2, "1", None, reason=f"{BEATEN}: 0.5 at best"),
        "not trained: low-ranked": row(3, "2", None, reason=f"{LOW_RANKED}: worst third"),
        "not trained: over a limit": row(7, "0-1", None, reason=f"{OVER}: 9 parameters"),
        "repeats": row(4, "3", None, reason="repeat of trial 1"),
        "failed": row(5, "0-1", None, state="FAIL", reason="the loss is nan"),
        "interrupted": row(6, "0-1", None, state="FAIL", lost=True),
        "others": row(9, "0-1", None, reason="the moon"),
    }
    running = row(8, "0-1", None, state="RUNNING")
    found = ended_early(record_of(row(0, "0-3", 0.5), *reversed(reasons.values()), running))
    assert {kind.title: kind.rows for kind in found} == {title: (only,) for title, only in reasons.items()}
    assert [kind.title for kind in found] == list(reasons)
    assert ended_early(record_of(row(0, "0-3", 0.5))) == []


def test_halves_are_counted_by_layer() -> None:
    pattern = Pattern.parse("0 1a 2f 2f 3 3")
    assert halves_of(pattern, 5) == [(1, 1), (1, 0), (0, 2), (2, 2), (0, 0)]
    assert shares_kept([pattern, Pattern.parse("0")], 4) == [(1.0, 1.0), (0.5, 0.0), (0.0, 0.5), (0.5, 0.5)]
    assert shares_kept([], 1) == [(0.0, 0.0)]

"""What a terminal shows: whole numbers and patterns, whatever the width; live progress in plain lines elsewhere."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from rich.console import Console

from layersearch.report import console as console_module
from layersearch.report.console import Progress, print_front, print_next_commands
from layersearch.search.record import Record
from layersearch.search.study import Study
from layersearch.search.trials import BEATEN, LOW_RANKED, Confirmed, Row
from layersearch.training.job import Job, Outcome
from tests.report.conftest import COUNTS
from tests.search.support import close_all, open_study, outcome_of, purpose


@pytest.mark.parametrize("fixture", ["record", "halves"])
def test_into_a_pipe_nothing_is_cut(
    fixture: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    record: Record = request.getfixturevalue(fixture)
    print_front(record)
    shown = capsys.readouterr().out
    assert "…" not in shown
    for title in ("trial", "pattern", "parameters", "share", "accuracy", "95 % interval", "kept", "training s"):
        assert title in shown.splitlines()[0]
    for row in record.front:
        line = next(line for line in shown.splitlines() if line.split()[0] == str(row.number))
        assert f" {row.pattern} " in line
        assert f"{row.parameters:,}" in line
        assert f"{row.score:.4f}" in line
        assert "0.5500 ± 0.0700 (2)" in line


def test_the_baseline_is_shown_also_where_the_front_beats_it(
    record: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    first = record.rows[0]
    smaller = replace(first, number=99, pattern="0-10", parameters=COUNTS.total // 2, score=0.99)
    print_front(replace(record, rows=(first, smaller), confirmed={}))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["0", "99"]
    assert f"{0.99 / (first.score or 1):.1%}" in lines[2]
    assert lines[3] == "share and kept are relative to the unchanged model"  # a line a note, for pipes too
    assert (
        "trial 0 is the unchanged model and not on the front: a trial that is no larger scores at least as well"
        in lines[4:]
    )
    print_front(replace(record, rows=(first, replace(smaller, score=0.1)), confirmed={}))
    assert "not on the front" not in capsys.readouterr().out


def test_all_complete_trials_are_shown_on_request_and_the_front_marked(
    record: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = Row(99, "FAIL", "0-4", 0, reason="the loss is nan")
    print_front(replace(record, rows=(*record.rows, failed)), everything=True)
    lines = capsys.readouterr().out.splitlines()[1:]
    lines, notes = lines[: len(record.rows)], lines[len(record.rows) :]
    assert [int(line.split()[0]) for line in lines] == [row.number for row in record.rows]
    assert sum(line.endswith("*") for line in lines) == len(record.front)
    assert "*: on the front" in notes


@pytest.mark.parametrize(
    ("seeds", "note"), [((1,), "one fresh seed"), ((1, 2), "mean ± standard deviation (fresh seeds)")]
)
def test_a_deviation_is_spoken_of_where_there_is_one(
    record: Record, capsys: pytest.CaptureFixture[str], seeds: tuple[int, ...], note: str
) -> None:
    pattern = record.front[0].pattern
    spread = 0.1 if len(seeds) > 1 else None
    confirmed = {pattern: Confirmed(pattern, seeds, (0.5,) * len(seeds), 0.5, spread)}
    print_front(replace(record, confirmed=confirmed))
    shown = capsys.readouterr().out
    assert f"confirmed: validation set, {note}" in shown
    assert ("±" in shown) == (len(seeds) > 1)


def test_a_study_without_a_finished_trial_says_so(record: Record, capsys: pytest.CaptureFixture[str]) -> None:
    print_front(replace(record, rows=()))
    assert capsys.readouterr().out == "study bert-mrpc-layers has no finished trial yet\n"


def test_the_next_commands_name_the_storage_where_it_is_not_the_default(
    record: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    print_next_commands(record, "layersearch.db", "layersearch.db")
    assert "--storage" not in capsys.readouterr().out
    print_next_commands(record, "other.db", "layersearch.db")
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in shown[1:]] == ["export", "report", "dashboard"]
    assert all(line.endswith("--storage other.db") for line in shown[1:])


def test_an_export_is_offered_for_halves_too(record: Record, capsys: pytest.CaptureFixture[str]) -> None:
    half = Row(1, "COMPLETE", "0-10 11a", 0, score=0.9, parameters=10)
    print_next_commands(replace(record, rows=(record.rows[0], half)), "a", "a")
    assert "layersearch export bert-mrpc-layers --trial 1" in capsys.readouterr().out


def test_what_diverged_is_not_the_next_export(record: Record, capsys: pytest.CaptureFixture[str]) -> None:
    half = Row(1, "COMPLETE", "0-10 11a", 0, score=0.5, constant=0.5, parameters=10)
    both = replace(record, rows=(record.rows[0], half))
    print_next_commands(both, "a", "a")
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  nothing to export: the front has no sound candidate beside the unchanged model; add --trials, or train "
        "longer (--epochs) under a new --study",
        f"  layersearch report {record.name}",
        "  layersearch dashboard",
    ]


def test_no_export_is_offered_where_scores_came_from_a_table(
    record: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    print_next_commands(replace(record, facts={**record.facts, "replay": "scores.csv"}), "a", "a")
    assert "export" not in capsys.readouterr().out


def test_progress_is_one_line_a_trial_where_nobody_looks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = open_study(f"{tmp_path}/db", tmp_path)
    try:
        study.note(num_layers=4, parameters=1400)
        with Progress() as progress:
            progress.phase(study, 3)
            progress.started(Job(0, "0-3", 0))
            progress.started(Job(1, "0-2", 0))
            progress.finished(Outcome(0, "0-3", 0, score=0.91234, parameters=1400, seconds=2.0))
            progress.finished(Outcome(1, "0-2", 0, reason="the loss is nan at step 3"))
            progress.started(Job(2, "0", 0))
            progress.finished(
                Outcome(2, "0", 0, score=0.5, parameters=1100, seconds=9.0, note="weights not kept: full")
            )
    finally:
        close_all()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "searching: study s, 0 of 3 trials finished"
    assert lines[1].startswith("trial 0: 0-3  acc 0.9123  1,400 parameters  2 s  (1/3 done, 1 running")
    assert lines[2] == "trial 1 (0-2): the loss is nan at step 3"
    assert lines[3] == "trial 2: weights not kept: full"
    assert "(2/3 done, 1 failed, " in lines[4]


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    """A study of three complete trials."""
    study = open_study(f"{tmp_path}/db", tmp_path)
    study.note(num_layers=4, parameters=1400)
    for _ in range(3):
        job = study.ask()
        assert job is not None
        study.tell(outcome_of(job))
    yield study
    close_all()


def view(progress: Progress) -> str:
    """What the live table shows."""
    console = Console(width=120)
    with console.capture() as captured:
        console.print(progress._view())
    return captured.get()


def test_before_the_study_is_open_no_trials_are_counted() -> None:
    assert view(Progress()) == "preparing the model, the data and the study\n"


@pytest.mark.parametrize(("scored_on", "whose"), [("search", "round"), ("validation", "confirmation")])
def test_a_stop_after_the_search_does_not_read_as_if_a_trial_of_it_were_lost(
    scored_on: Literal["search", "validation"], whose: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = open_study(f"{tmp_path}/db", tmp_path, wanted=replace(purpose(), scored_on=scored_on), space=None)
    try:
        with Progress() as progress:
            progress.phase(study, 3)
            progress.finished(Outcome(0, "0-3", 7, reason="stopped before it was finished", lost=True))
    finally:
        close_all()
    assert capsys.readouterr().err.splitlines()[-1] == f"seed 7 of the {whose} (0-3): stopped before it was finished"


def test_a_running_trial_shows_how_far_it_is(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    progress.phase(study, 9)
    progress.started(Job(3, "0-2", 0))
    progress.started(Job(4, "0 3", 0))
    assert view(progress) == "3/9 done, 2 running   running  3: 0-2  4: 0 3\n"
    progress.progressed(3, 0.452)
    assert view(progress) == "3/9 done, 2 running   running  3: 0-2 45 %  4: 0 3\n"
    progress.progressed(3, 1.0)
    assert "3: 0-2 scoring  4: 0 3" in view(progress)
    progress.finished(Outcome(3, "0-2", 0, score=0.5, parameters=1300))
    assert view(progress).startswith("4/9 done, 1 running, ")
    assert "scoring" not in view(progress)
    assert "%" not in "".join(capsys.readouterr().err.splitlines()[1:])


def hears(capsys: pytest.CaptureFixture[str], wanted: str) -> bool:
    """Whether a log comes to hold `wanted`, in 20 seconds."""
    said, until = "", time.monotonic() + 20
    while wanted not in said and time.monotonic() < until:
        time.sleep(0.02)
        said += capsys.readouterr().err
    return wanted in said


def test_a_log_hears_what_runs_where_nothing_finishes_for_long(
    study: Study, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_module, "QUIET_SECONDS", 0.05)
    with Progress() as progress:
        progress.phase(study, 9)
        progress.started(Job(3, "0-2", 0))
        progress.progressed(3, 0.452)
        assert hears(capsys, "still 3/9 done, 1 running   running  3: 0-2 45 %\n")
        progress.finished(Outcome(3, "0-2", 0, score=0.5, parameters=1300))
        progress.say("timing 2 built candidates")
        assert hears(capsys, "still at work since: timing 2 built candidates\n")
    assert progress._teller is not None
    assert not progress._teller.is_alive(), "nothing is said behind the results"


def test_a_paused_trial_is_not_done(study: Study) -> None:
    progress = Progress()
    progress.phase(study, 9)
    progress.started(Job(3, "0-2", 0))
    progress.reached(Outcome(3, "0-2", 0, score=0.5, parameters=1300, rung=1 / 9), goes_on=False)
    assert view(progress).startswith("3/9 done, 1 paused")
    progress.started(Job(3, "0-2", 0))
    progress.finished(Outcome(3, "0-2", 0, score=0.5, parameters=1300))
    assert view(progress).startswith("4/9 done, ")
    assert "paused" not in view(progress)


def test_reused_trials_are_told_and_do_not_count_for_the_time_left(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress()
    progress.phase(study, 9)
    progress.reused(1)
    progress.reused(4)
    lines = capsys.readouterr().err.splitlines()[1:]
    assert lines == [
        "1 trial is known from other studies of this database and not trained again (4/9 done)",
        "4 trials are known from other studies of this database and not trained again (8/9 done)",
    ]


def test_a_study_that_holds_more_than_asked_for_says_so(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    progress.phase(study, 2)
    assert capsys.readouterr().err == "searching: study s, 2 trials asked for, 3 finished\n"
    assert view(progress).startswith("3 done\n")


def test_the_notes_say_what_was_known_before_training(record: Record, capsys: pytest.CaptureFixture[str]) -> None:
    def noted(*more: Row, influence: dict[str, list[float]] | None) -> str:
        rows = [replace(record.rows[0], influence=influence), *record.rows[1:], *more]
        print_front(replace(record, rows=tuple(rows)))
        return " ".join(capsys.readouterr().out.split())

    influence = {"block": [0.5] * 24}
    assert "cheap scores" not in noted(influence=None)
    assert re.search(
        r"cheap scores: attention/FFN block influence, rank correlation 0\.00 \(0\.00 to 0\.00\) within sizes "
        r"over \d+ trials: not used to filter",
        noted(influence=influence),
    )
    skipped = [Row(900, "PRUNED", "0", 0, reason=f"{reason}: why") for reason in (BEATEN, LOW_RANKED)]
    said = noted(*skipped, influence=influence)
    assert said.endswith("trials: 1 skipped for it")
    assert "1 proposal was not trained: at best no better than a trial with no more parameters" in said


class ZMQInteractiveShell:
    """What a cell of a notebook runs in, by the name that rich knows it by."""

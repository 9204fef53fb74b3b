"""What a terminal shows: whole numbers and patterns, whatever the width; live progress in plain lines elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from layersearch.report.console import Progress, front_table, print_front, print_next_commands
from layersearch.search.record import Record
from layersearch.search.trials import Row
from layersearch.training.evaluator import Job, Outcome
from tests.report.conftest import COUNTS, LAYERS
from tests.search.support import close_all, open_study


def table(record: Record, width: int) -> str:
    """The front as a terminal of `width` letters shows it."""
    console = Console(width=width)
    shown = front_table(record.front, record.baseline, LAYERS, COUNTS.total, dict(record.confirmed), "accuracy", width)
    with console.capture() as captured:
        console.print(shown)
    return captured.get()


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


def test_scores_that_cannot_be_told_from_the_baselines_are_marked(record: Record) -> None:
    baseline = record.baseline
    assert baseline is not None
    assert baseline.interval is not None
    close = replace(baseline, number=1, pattern="0-10", score=0.8, interval=(0.7, baseline.interval[1]))
    far = replace(close, number=2, pattern="0-9", interval=(0.1, 0.2))
    shown = table(replace(record, rows=(baseline, replace(far, parameters=1, score=0.2), close), confirmed={}), 200)
    assert "0.8000 =" in table(replace(record, rows=(baseline, replace(close, parameters=9)), confirmed={}), 200)
    assert "0.2000 =" not in shown


@pytest.mark.parametrize(("width", "gone"), [(200, []), (95, ["training s", "layers"]), (80, ["95 % interval"])])
def test_a_narrow_terminal_loses_columns_and_no_letters(record: Record, width: int, gone: list[str]) -> None:
    shown = table(record, width)
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= width
    assert all(title not in shown for title in gone)
    for title in ("trial", "pattern", "parameters", "accuracy", "kept", "confirmed"):
        assert title in shown


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
    assert [line.split()[1] for line in shown[1:]] == ["export", "front", "dashboard"]
    assert all(line.endswith("--storage other.db") for line in shown[1:])


def test_no_export_is_offered_where_every_front_member_has_halves(
    record: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    half = Row(1, "COMPLETE", "0-10 11a", 0, score=0.9, parameters=10)
    print_next_commands(replace(record, rows=(half,)), "a", "a")
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

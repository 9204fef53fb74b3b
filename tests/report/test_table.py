"""Trials as a table: ties are marked, and a narrow terminal loses columns and no letters."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import cast

import pytest
from rich.console import Console
from rich.table import Table

from layersearch.report import table as module
from layersearch.report.table import LAID_OUT, front_table, print_table
from layersearch.search.record import Record
from tests.report.conftest import COUNTS, LAYERS


def table(record: Record, width: int) -> str:
    """The front as a terminal of `width` letters shows it."""
    console = Console(width=width)
    shown = front_table(record.front, record.baseline, LAYERS, COUNTS.total, dict(record.confirmed), "accuracy", width)
    with console.capture() as captured:
        console.print(shown)
    return captured.get()


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


def test_members_of_the_front_are_marked_among_other_trials(record: Record) -> None:
    console = Console(width=200)
    rows = [row for row in record.rows if row.done]
    front = {row.number for row in record.front}
    with console.capture() as captured:
        console.print(front_table(rows, record.baseline, LAYERS, COUNTS.total, {}, marked=front))
    title, *lines = captured.get().splitlines()
    assert title.split()[-1] == "front"
    assert [int(line.split()[0]) for line in lines] == [row.number for row in rows]
    assert {int(line.split()[0]) for line in lines if line.rstrip().endswith("*")} == front


def test_a_long_table_is_written_without_rich_and_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("name")
    table.add_column("number", justify="right")
    for number in (7, 12345):
        table.add_row(f"row {number}", f"{number:,}")
    said = []
    for most in (LAID_OUT, 1):
        monkeypatch.setattr(module, "LAID_OUT", most)
        console = Console(file=io.StringIO(), width=80)
        print_table(console, table)
        said.append([line.rstrip() for line in cast(io.StringIO, console.file).getvalue().splitlines()])
    assert said[0] == said[1] == ["name       number", "row 7           7", "row 12345  12,345"]

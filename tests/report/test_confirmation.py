"""The confirmation in cells and words: beside the selection, with its intervals, and what flattered the front."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rich.console import Console

from layersearch.report.confirmation import confirmation_cells, confirmation_notes, print_confirmation
from layersearch.report.notes import notes_on_front, optimism_line
from layersearch.report.table import front_table, kept_cell
from layersearch.report.trial import as_plain
from layersearch.search.certainty import Certainty
from layersearch.search.purpose import Purpose
from layersearch.search.record import Record
from layersearch.search.trials import Confirmed, Row
from tests.report.conftest import LAYERS


def row(number: int, pattern: str, score: float, parameters: int) -> Row:
    return Row(number, "COMPLETE", pattern, 0, score, (score - 0.02, score + 0.02), parameters=parameters)


def confirmed(pattern: str, *scores: float) -> Confirmed:
    mean = sum(scores) / len(scores)
    return Confirmed(pattern, tuple(range(1, len(scores) + 1)), scores, mean, 0.01 if len(scores) > 1 else None)


@pytest.fixture
def trusted() -> Record:
    """Two candidates, the larger of which looked two points better at selection than its confirmation."""
    rows = (row(0, "0-11", 0.90, 100), row(1, "0-9", 0.89, 80), row(2, "0-4", 0.71, 50))
    found = {
        "0-11": confirmed("0-11", 0.87, 0.89, 0.88),
        "0-9": confirmed("0-9", 0.85, 0.86, 0.84),
        "0-4": confirmed("0-4", 0.69, 0.67, 0.68),
    }
    facts = {"num_layers": LAYERS, "parameters": 100}
    return Record("s", Purpose({}, "accuracy", "maximize"), facts, rows, found)


def test_confirmed_scores_stand_beside_those_at_selection_with_their_intervals(trusted: Record) -> None:
    whole, large, small = confirmation_cells(trusted)
    assert (large["at selection"], large["confirmed"]) == ("0.8900", "0.8500 ± 0.0100 (3)")
    # one variance of 0.0001 over six degrees of freedom: 0.85 plus and minus 2.447 standard errors
    assert large["95 % interval"] == "0.8359-0.8641"
    assert large["another seed"] == "0.8217-0.8783"
    assert large["kept"].startswith("96.6% (")
    assert (large["optimism"], small["optimism"], whole["optimism"]) == ("+0.0200", "+0.0100", "")
    assert "95 % interval, and that of kept: of the mean over all seeds and all such examples" in confirmation_notes(
        trusted
    )


def test_what_flattered_the_front_is_told_in_points_of_the_metric(trusted: Record) -> None:
    line = optimism_line(trusted)
    assert line.startswith("selection was optimistic by 1.50 points on average over the 2 confirmed (95 % interval -")
    assert line.endswith(", which may be luck)")
    assert line in notes_on_front(trusted, everything=False)
    lower = replace(trusted, purpose=Purpose({}, "perplexity", "minimize"), rows=trusted.rows[:2])
    worse = {"0-11": confirmed("0-11", 20.0, 21.0), "0-9": confirmed("0-9", 19.0, 18.0)}
    rows = (row(0, "0-11", 22.0, 100), row(1, "0-9", 23.0, 80))
    assert optimism_line(replace(lower, rows=rows, confirmed=worse)).startswith(
        "selection was pessimistic by 3 of perplexity on average over the one confirmed (95 % interval "
    )
    assert optimism_line(replace(trusted, confirmed={})) == ""


def test_one_seed_each_is_told_with_what_it_leaves_open(trusted: Record) -> None:
    once = {pattern: confirmed(pattern, found.scores[0]) for pattern, found in trusted.confirmed.items()}
    record = replace(trusted, confirmed=once)
    assert confirmation_cells(record)[1]["another seed"] == ""
    assert "takes two of them, `layersearch confirm`" in "; ".join(confirmation_notes(record))
    assert optimism_line(record).endswith("(how much of it is noise takes two seeds or more)")


def test_the_front_marks_members_that_cannot_be_told_from_the_next_smaller(trusted: Record) -> None:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(front_table(trusted.front, trusted.baseline, LAYERS, 100, {}, "accuracy"))
    lines = captured.get().splitlines()
    assert "0.9000 ~" in lines[1]  # the unchanged model, beside which the next is smaller
    assert "0.8900 =" in lines[2]
    assert "0.8900 = ~" not in lines[2]
    assert "~: it overlaps that of the next smaller member" in notes_on_front(trusted, everything=False)
    alike = "=: its interval overlaps the unchanged model's"
    assert alike in notes_on_front(trusted, everything=False)
    apart = replace(trusted, rows=tuple(row for row in trusted.rows if row.number != 1))
    assert alike not in notes_on_front(apart, everything=False)
    told = {found["trial"]: (found["tied_with_unchanged"], found["tied_with_next"]) for found in trusted.records()}
    assert told == {0: (False, True), 1: (True, False), 2: (False, False)}


def test_plain_values_say_how_sure_a_confirmation_is(trusted: Record) -> None:
    plain = as_plain(trusted, 1, "")
    assert plain["confirmed_low"] == pytest.approx(0.8359, abs=1e-4)
    assert plain["another_seed_high"] == pytest.approx(0.8783, abs=1e-4)
    assert plain["confirmed_kept_low"] < plain["confirmed_kept"] < plain["confirmed_kept_high"]
    assert plain["selection_optimism"] == pytest.approx(0.02)
    assert kept_cell(Certainty(None, True, kept=0.981, kept_interval=(0.967, 0.994))) == "98.1% (96.7-99.4)"
    assert kept_cell(None) == ""


def test_a_study_that_is_not_confirmed_says_so(trusted: Record) -> None:
    console = Console(width=200)
    with console.capture() as captured:
        print_confirmation(console, replace(trusted, confirmed={}))
    assert captured.get() == "nothing of study s is confirmed yet\n"

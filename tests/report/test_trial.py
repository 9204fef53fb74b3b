"""Everything about one trial: complete, beaten, failed or without a pattern; colours only where they are taken."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from layersearch.errors import WordsError
from layersearch.report.table import coloured
from layersearch.report.trial import as_plain, print_trial
from layersearch.search.divergence import Divergence
from layersearch.search.record import Record
from layersearch.search.trials import Row
from tests.conftest import TinyRun, call


def shown(record: Record, number: int) -> dict[str, str]:
    """What is printed of a trial, by the first word of each line."""
    out = StringIO()
    print_trial(Console(file=out, width=200), record, number, "")
    lines = [line.partition("  ") for line in out.getvalue().splitlines()]
    return {name: words.strip() for name, _, words in lines}


def test_a_complete_trial_says_what_it_is_and_what_it_scored(record: Record) -> None:
    member = next(row for row in record.front if row.number)
    row = replace(member, work=0.5, checkpoint="/kept", strategy="top 1", metrics={"accuracy": 0.8, "f1": 0.75})
    full = replace(record, rows=tuple(row if r.number == row.number else r for r in record.rows))
    said = shown(replace(full, name="[b]x", shared={row.pattern: 0.7}), row.number)
    assert said["trial"] == f"{row.number} of [b]x: complete, on the front"
    assert said["pattern"] == row.pattern
    assert said["strategy"] == "top 1"
    assert said["accuracy"].startswith(f"{row.score:.4f} in the search, 95 % interval ")
    assert said["beside it"] == "f1 0.7500"
    assert said["confirmed"] == "0.5500 ± 0.0700 (2): seed 1: 0.5000, seed 2: 0.6000"
    assert said["shared"] == "0.7000 over the super-network's weights"
    assert said["work"] == "0.5 fine-tunings of the unchanged model"
    assert said["weights"] == "/kept"
    assert set(said["layers"]) <= set("█·")
    assert f"layersearch export '[b]x' --trial {row.number} --to -b-x-{row.number}" in said


def test_what_diverged_is_not_said_to_be_as_good_as_the_unchanged_model(record: Record) -> None:
    base = record.rows[0]
    level = replace(base, number=90, pattern="0-4")
    good, bad = (replace(record, rows=(base, replace(level, constant=constant))) for constant in (None, base.score))
    assert "not to be told from the unchanged model's" in shown(good, 90)["accuracy"]
    assert "not to be told" not in shown(bad, 90)["accuracy"]
    assert shown(bad, 90)["diverged"].startswith("yes")


def test_a_trial_behind_the_front_names_what_beats_it(record: Record) -> None:
    behind = next(row for row in record.rows if row not in record.front)
    state = shown(record, behind.number)["trial"]
    number = as_plain(record, behind.number, "")["beaten_by"]
    better = record.trial(number)
    assert state == f"{behind.number} of {record.name}: complete; beaten by trial {number} ({better.pattern})"
    assert (better.score or 0) > (behind.score or 0)
    assert (better.parameters or 0) <= (behind.parameters or 0)
    assert as_plain(record, record.front[0].number, "")["beaten_by"] is None


def test_other_objectives_decide_what_is_beaten(by_macs: Record) -> None:
    assert as_plain(by_macs, 3, "")["beaten_by"] == 1
    assert shown(by_macs, 4)["trial"] == "4 of s: complete; over a limit: macs by 20.0% of all, score by 0.0100"
    assert as_plain(by_macs, 4, "")["beaten_by"] is None
    timed = replace(by_macs, facts={**by_macs.facts, "timed": {"1-5": {"1": [2e6, 3e6]}}})
    assert (shown(timed, 3)["MACs (M)"], shown(timed, 3)["PyTorch, batch size 1"]) == ("85", "2 ms (p95 3)")
    assert as_plain(timed, 3, "")["macs"] == 85e6
    assert as_plain(timed, 4, "")["within_limits"] is False


def test_the_form_of_an_export_is_told(record: Record) -> None:
    """ModernBERT's lowest layer lacks a norm that the others have."""
    first = replace(record, rows=(Row(90, "COMPLETE", "1-4", 0, score=0.5, parameters=9),))
    assert shown(first, 90)["export"] == "native"
    modern = replace(first, facts={**record.facts, "model_type": "modernbert"})
    assert shown(modern, 90)["export"] == "with code"


def test_what_another_trial_did_in_its_place_is_not_its_own(record: Record) -> None:
    """A trial that was stopped and queued again: its pattern is confirmed, by the score of another."""
    member = next(row for row in record.front if row.number)
    lost = Row(90, "FAIL", member.pattern, member.seed, lost=True, reason="stopped", parameters=member.parameters)
    seeds = {member.pattern: Divergence((44,), (43, 44))}
    more = replace(record, rows=(*record.rows, lost), divergences=seeds)
    said, plain = shown(more, 90), as_plain(more, 90, "")
    assert said["trial"] == (
        f"90 of {record.name}: was stopped and queued again (stopped); trial {member.number} has its pattern, and the "
        "scores"
    )
    assert "confirmed" in shown(more, member.number)
    assert "seeds that diverged" in shown(more, member.number)
    assert not {"confirmed", "95 % interval", "kept", "seeds that diverged", record.purpose.metric} & set(said)
    assert (plain["scored_by"], plain["confirmed_mean"], plain["confirmed_scores"]) == (member.number, None, {})
    assert as_plain(more, member.number, "")["scored_by"] is None


def test_what_has_no_score_says_why(record: Record) -> None:
    failed = Row(90, "FAIL", "0-4 6a", 0, reason="the loss is [red]nan")
    stopped = Row(91, "PRUNED", "0-4", 0, reason="stopped at rung 0.333 with 0.5", rungs={0.333: 0.5}, parameters=9)
    more = replace(record, rows=(*record.rows, failed, stopped), spelled_none={92: "WAITING"})
    assert shown(more, 90)["trial"] == f"90 of {record.name}: failed (the loss is [red]nan)"
    assert shown(more, 90)["export"] == "with code"
    assert "weights" not in shown(more, 90)
    assert shown(more, 91)["rungs"] == "0.5000 at 0.333 of the training"
    assert list(shown(more, 92)) == [f"trial 92 of {record.name} waits for its turn"]
    plain = [as_plain(more, number, "") for number in (90, 91, 92)]
    assert [found["state"] for found in plain] == ["FAIL", "PRUNED", "WAITING"]
    assert [found.get("score") for found in plain] == [None] * 3
    json.dumps(plain)
    for ask in (shown, lambda study, number: as_plain(study, number, "")):
        with pytest.raises(WordsError, match=r"^study '[\w-]+' has no trial 93; `layersearch front --all` lists"):
            ask(more, 93)


def test_scores_from_a_table_have_no_weights(record: Record) -> None:
    replayed = replace(record, facts={**record.facts, "replay": "scores.csv"})
    assert shown(replayed, 0)["weights"] == "none: scores came from scores.csv"
    assert "export" not in shown(replayed, 0)


@pytest.mark.parametrize(("colours", "expected"), [("standard", True), (None, False)])
def test_diagrams_have_colours_where_a_terminal_takes_them(colours: str | None, expected: bool) -> None:
    out = StringIO()
    console = Console(file=out, force_terminal=True, color_system=colours)  # type: ignore[arg-type]
    console.print(coloured("██▀▄2·"))
    assert ("\x1b[32m" in out.getvalue()) == expected
    assert coloured("██▀▄2·").plain == "██▀▄2·"


def test_the_command_shows_a_trial_in_words_and_json(tiny_run: TinyRun) -> None:
    where = ("show", "tiny", "--storage", tiny_run.storage, "--trial", "0")
    said = call(*where)
    assert said.code == 0, said.err
    assert "0 of tiny: complete" in said.out
    assert "\x1b" not in said.out
    plain = json.loads(call(*where, "--json").out)
    assert plain["pattern"] == "0-3"
    assert plain["layers"] == "████"
    assert plain["confirmed_scores"].keys() == {"1"}
    assert Path(plain["checkpoint"]).is_dir() == plain["weights_kept"] if plain["checkpoint"] else True
    absent = call(*where[:-1], "77")
    assert (absent.code, absent.out) == (2, "")
    assert absent.err == "error: study 'tiny' has no trial 77; `layersearch front --all` lists those with a score\n"

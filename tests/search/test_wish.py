"""Asking in budget language: what fits, what comes next to it, and what comes nearest where nothing fits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from layersearch.errors import LayersearchError, StudyError, WordsError
from layersearch.search.divergence import Divergence
from layersearch.search.objectives import parse_limit
from layersearch.search.purpose import Purpose
from layersearch.search.record import Record
from layersearch.search.trials import Confirmed, Row
from layersearch.search.wish import Answer, Wish, best, to_export
from tests.conftest import TinyRun, call
from tests.search.support import COUNTS, open_study, outcome_of

# number, pattern, parameters, score, confirmed, latency
FRONT = (
    (0, "0-5", 1000, 0.90, 0.88, 10.0),
    (1, "0-4", 900, 0.895, 0.85, 9.0),
    (2, "0-3", 800, 0.89, 0.875, 8.0),
    (3, "0-2", 700, 0.80, 0.79, 7.5),
    (4, "0-1", 600, 0.60, 0.61, None),
)


def record_of(*, confirmed: bool = False, sign: int = 1) -> Record:
    """A study of five trials that are all on its front; with `sign` -1 a lower score is better."""
    rows = [
        Row(number, "COMPLETE", pattern, 0, score=sign * score, parameters=size)
        for number, pattern, size, score, _, _ in FRONT
    ]
    timed = {pattern: {"1": [1e6 * time, 1e6 * time]} for _, pattern, *_, time in FRONT if time is not None}
    facts = {"num_layers": 6, "parameters": 1000, "timed": timed}
    found = {p: Confirmed(p, (1, 2), (sign * c, sign * c), sign * c, 0.0) for _, p, _, _, c, _ in FRONT}
    purpose = Purpose({}, "accuracy", "maximize" if sign > 0 else "minimize")
    return Record("s", purpose, facts, tuple(rows), found if confirmed else {})


def wish(params: str = "", drop: str = "", latency: str = "", *, knee: bool = False) -> Wish:
    given = (("parameters", params), ("drop", drop), ("latency", latency))
    size, lost, slow = (parse_limit(of, text) if text else None for of, text in given)
    return Wish(size, lost, slow, knee)


def numbers(answer: Answer) -> tuple[int | None, ...]:
    """Pick, runner-up, next larger, next smaller, nearest."""
    members = (answer.pick, answer.runner_up, answer.larger, answer.smaller, answer.nearest)
    return tuple(None if member is None else member.row.number for member in members)


def test_what_is_over_the_studys_limits_is_never_picked() -> None:
    """The unchanged model is listed to compare with, and has the best score."""
    plain = record_of()
    over = replace(plain, rows=(replace(plain.rows[0], over={"parameters": 0.1}), *plain.rows[1:]))
    assert numbers(best(over, wish(drop="0pt"))) == (None, None, None, None, 1)
    assert numbers(best(over, wish(latency="100%"))) == (1, 2, None, 2, None)
    alone = replace(over, rows=over.rows[:1], purpose=replace(over.purpose, values={"limits": "--max-params 50%"}))
    with pytest.raises(StudyError, match=r"has no candidate that keeps its own limits \(--max-params 50%\);"):
        best(alone, wish("90%"))


def test_what_came_to_nothing_is_never_picked() -> None:
    """By its own training or by all seeds of its confirmation; one seed of two leaves the pattern its chance."""
    plain = record_of()
    lost = {"0-3": Divergence((1, 2), (1, 2)), "0-2": Divergence((1,), (1, 2))}
    poor = tuple(replace(row, constant=0.60) for row in plain.rows)
    poorer = tuple(replace(row, constant=0.895) for row in plain.rows)

    def number(record: Record) -> int | None:
        member = to_export(record)
        return None if member is None else member.row.number

    assert number(plain) == numbers(best(plain, wish(knee=True)))[0] == 2
    left = best(replace(plain, divergences=lost), wish("80%"))
    assert (numbers(left), left.left_out) == ((3, 4, 1, 4, None), (2,))
    assert number(replace(plain, divergences=lost)) == 3
    first = replace(plain.rows[0], over={"parameters": 0.1})
    with pytest.raises(StudyError, match=r"all candidates that keep its own limits diverged; train longer"):
        best(replace(plain, rows=(first, *poorer[1:])), wish("80%"))
    none = best(replace(plain, rows=poor), wish("60%"))
    assert (numbers(none), none.left_out) == ((None, None, None, None, 3), (4,))
    assert number(replace(plain, rows=(*plain.rows[:1], poor[4], *plain.rows[1:2]))) == 1
    assert number(replace(plain, rows=poorer)) is None  # only the unchanged model is better than that
    two = replace(plain, rows=plain.rows[:2])  # of two neither bends
    assert (numbers(best(two, wish(knee=True)))[0], number(two)) == (0, 1)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (wish("80%"), (2, 3, 1, 3, None)),  # the best score that fits
        (wish("850"), (2, 3, 1, 3, None)),
        (wish("0.00085M"), (2, 3, 1, 3, None)),
        (wish(drop="1pt"), (2, 1, 1, 3, None)),  # the fewest parameters within the loss
        (wish(drop="0.01"), (2, 1, 1, 3, None)),
        (wish(drop="12%"), (3, 2, 2, 4, None)),
        (wish(drop="0pt"), (0, None, None, 1, None)),
        (wish(latency="8ms"), (2, 3, 1, 3, None)),
        (wish(latency="0.0095s"), (1, 2, 0, 2, None)),
        (wish(latency="90%"), (1, 2, 0, 2, None)),
        (wish(knee=True), (2, 3, 1, 3, None)),
        (wish("75%", knee=True), (3, 4, 2, 4, None)),
        (wish(drop="2pt", knee=True), (2, 1, 1, 3, None)),  # what already keeps a limit stays where the front bends
        (wish("60%"), (4, None, 3, None, None)),
        (wish("60%", "1pt"), (None, None, None, None, 2)),
        (wish("100%", latency="7ms"), (None, None, None, None, 3)),
        (wish("75%", "11pt", "1ms"), (None, None, None, None, 3)),
    ],
)
def test_the_pick_and_what_is_beside_it(asked: Wish, expected: tuple[int | None, ...]) -> None:
    assert numbers(best(record_of(), asked)) == expected
    if asked.max_drop is None or not asked.max_drop.is_share:
        assert numbers(best(record_of(sign=-1), asked)) == expected


def test_the_confirmed_scores_count_where_the_whole_front_is_confirmed() -> None:
    full = record_of(confirmed=True)
    answer = best(full, wish("90%"))
    assert answer.confirmed
    assert numbers(answer) == (2, 1, 0, 3, None)  # trial 1 does not hold what the search saw, and leaves the front
    assert answer.pick is not None
    assert answer.pick.drop == pytest.approx(0.005)
    partly = replace(full, confirmed={"0-5": full.confirmed["0-5"]})
    assert not best(partly, wish("90%")).confirmed
    assert numbers(best(partly, wish("90%")))[0] == 1


def test_where_nothing_fits_the_nearest_says_what_it_misses() -> None:
    answer = best(record_of(), wish("60%", "1pt", "8ms"))
    assert answer.misses == ("it has 80.0% of the parameters (800) (--max-params 60%)",)
    answer = best(record_of(), wish("60%", "9pt", "7ms"))
    assert answer.misses == (
        "it has 70.0% of the parameters (700) (--max-params 60%)",
        "it has a score 0.1000 worse than the unchanged model's (--max-drop 9pt)",
        "it has 7.5 ms (--max-latency 7ms)",
    )


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("95", " counts parameters; did you mean 95%?"),
        ("0.6", " counts parameters; did you mean 60%?"),
        ("101", ""),
        ("50%", ""),
    ],
)
def test_a_percent_sign_forgotten_is_asked_for_where_nothing_fits(text: str, hint: str) -> None:
    (line,) = best(record_of(), wish(text)).misses
    assert line == f"it has 60.0% of the parameters (600) (--max-params {text}{hint})"


def test_points_of_a_metric_in_percent_are_its_units() -> None:
    percent = record_of()
    rows = tuple(replace(row, score=100 * (row.score or 0)) for row in percent.rows)
    assert numbers(best(replace(percent, rows=rows), wish(drop="1pt")))[0] == 2
    lower = tuple(replace(row, score=100 - 100 * (row.score or 0)) for row in percent.rows)
    perplexity = replace(percent, rows=lower, purpose=Purpose({}, "perplexity", "minimize"))
    assert numbers(best(perplexity, wish(drop="1pt")))[0] == 0  # 0.01, as of every metric that is not in percent


@pytest.mark.parametrize(
    ("of", "option", "text", "examples"),
    [
        ("parameters", "--max-params", "8ms", "60%, 66M or 66000000"),
        ("drop", "--max-drop", "a bit", "1pt, 0.01 or 2%"),
        ("latency", "--max-latency", "8", "60% or 8ms"),
        ("latency", "--max-latency", "-8ms", "60% or 8ms"),
    ],
)
def test_a_limit_that_cannot_be_read_is_refused_with_what_is_allowed(
    of: str, option: str, text: str, examples: str
) -> None:
    with pytest.raises(LayersearchError) as caught:
        parse_limit(of, text)
    assert str(caught.value) == (f"{option} {text} is not possible; allowed: a number or a share, such as {examples}")


def test_what_the_study_does_not_know_is_said() -> None:
    blind = replace(record_of(), facts={**record_of().facts, "timed": {}})
    with pytest.raises(StudyError, match=r"^--max-latency 8ms cannot be answered: no latency was measured in study"):
        best(blind, wish(latency="8ms"))
    timed = {pattern: time for pattern, time in record_of().facts["timed"].items() if pattern != "0-5"}
    partly = replace(blind, facts={**blind.facts, "timed": timed})
    with pytest.raises(StudyError, match=r"latency of the unchanged model was not measured; give milliseconds$"):
        best(partly, wish(latency="80%"))
    with pytest.raises(StudyError, match="has no score of the unchanged model to compare with; continue it"):
        best(replace(blind, rows=blind.rows[1:]), wish("80%"))


def test_the_command_answers_in_words_and_json(tmp_path: Path) -> None:
    """Of four layers: the least that is kept scores like one answer to everything, so it came to nothing."""
    study = open_study(f"{tmp_path}/s.db", tmp_path)
    study.note(num_layers=4, parameters=COUNTS.total, folder=str(study.folder))
    for pattern in ("0-3", "0-2", "0-1", "0"):
        study.enqueue(pattern, 0)
        job = study.ask()
        assert job is not None
        study.tell(replace(outcome_of(job), constant=0.58))
    where = ("best", "s", "--storage", f"{tmp_path}/s.db", "--max-params", "95%")
    said = call(*where)
    assert said.code == 0, said.err
    lines = {line.split("  ")[0]: line for line in said.out.splitlines()}
    assert {"pick", "runner-up", "next larger", "next smaller", "unchanged"} <= set(lines)
    assert "scores are those of the search" in said.out
    plain = json.loads(call(*where, "--json").out)
    more = plain["unchanged"]["parameters"] / plain["pick"]["parameters"] - 1
    assert f"{100 * more:+.1f} % parameters" in lines["unchanged"]
    assert (plain["pick"]["pattern"], plain["runner_up"]["pattern"], plain["left_out"]) == ("0-2", "0-1", [3])
    assert plain["pick"]["parameters_share"] <= 0.95
    assert lines["pick"].split()[1] == str(plain["pick"]["trial"])
    assert "\nleft out: 1 trial that would fit (3), which diverged: " in said.out
    none = call(*where[:-1], "1%")
    assert none.code == 1
    assert none.out.startswith("nothing fits; the nearest is trial ")
    assert none.err == ""
    assert json.loads(call(*where[:-1], "1%", "--json").out)["pick"] is None


def test_an_unchanged_model_that_diverged_is_picked_with_a_word(tiny_run: TinyRun) -> None:
    said = call("best", "tiny", "--storage", tiny_run.storage, "--max-params", "100%")
    assert said.code == 0, said.err
    assert "scores are confirmed on the validation set (1 fresh seed)" in said.out
    assert "\nthe pick: the training of these weights (seed 0) diverged" in said.out


def test_a_wish_for_nothing_is_refused() -> None:
    said = call("best", "--storage", "absent.db")
    assert (said.code, said.out) == (2, "")
    assert said.err == (
        "error: say what is wanted: --max-params, --max-drop, --max-latency, --knee, or several of them\n"
    )


def test_a_drop_of_all_that_there_is_is_refused() -> None:
    """Who types 1 means a point, or a percent."""
    said = (
        r"^--max-drop 1 lets the score fall by more than there is: accuracy is 1 at most; allowed: points "
        r"\(1pt is 0.01\), a share \(1%\), or a number below 1$"
    )
    with pytest.raises(WordsError, match=said):
        best(record_of(), wish(drop="1"))
    assert best(record_of(), wish(drop="0.999")).pick is not None
    assert best(record_of(sign=-1), wish(drop="1")).pick is not None  # a perplexity falls by more

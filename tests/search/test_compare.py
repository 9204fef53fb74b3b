"""Two studies side by side: the difference and its interval, what both found, and what cannot be compared."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from layersearch.errors import StudyError
from layersearch.report.both import lines_of, print_comparison
from layersearch.search.compare import _interval, compare
from layersearch.search.purpose import Purpose
from layersearch.search.quality import hypervolume
from layersearch.search.record import Record
from layersearch.search.trials import Confirmed, Row
from layersearch.training.recipe import TRAINING
from tests.conftest import TinyRun, call

SIZES = {"0-3": 1000, "0-2": 800, "0 2-3": 800, "0-1": 600, "2-3": 600, "0": 400}
FIRST = {"0-3": 0.9, "0-2": 0.85, "0 2-3": 0.8, "0-1": 0.6, "0": 0.5}
SECOND = {"0-3": 0.9, "0-2": 0.84, "0 2-3": 0.86, "2-3": 0.7, "0": 0.5}


def record_of(name: str, scores: dict[str, float], wide: float = 0.0, seeds: int = 0, spread: float = 0.0) -> Record:
    """A study with these scores, intervals of `wide` on either side, confirmed where there are `seeds`."""
    rows = tuple(
        Row(
            number,
            "COMPLETE",
            pattern,
            0,
            score=score,
            parameters=SIZES[pattern],
            interval=(score - wide, score + wide) if wide else None,
        )
        for number, (pattern, score) in enumerate(scores.items())
    )
    many = tuple(range(1, seeds + 1))
    sd = spread if seeds > 1 else None
    confirmed = {p: Confirmed(p, many, (s - 0.1,) * seeds, s - 0.1, sd) for p, s in scores.items()} if seeds else {}
    purpose = Purpose({"task": "rte", "seed": 0}, "accuracy", "maximize")
    return Record(name, purpose, {"num_layers": 4, "parameters": 1000, "space_name": "layers"}, rows, confirmed)


def test_the_difference_of_the_areas_that_two_fronts_beat() -> None:
    found = compare(record_of("a", FIRST), record_of("b", SECOND))
    # from score 0.5 and all four layers on: a quarter times 0.35, and so on; 0 is no better than the worst score
    assert found.volumes[0] == pytest.approx(0.25 * 0.35 + 0.25 * 0.1)
    assert found.volumes[1] == pytest.approx(0.25 * 0.36 + 0.25 * 0.2)
    assert found.difference == pytest.approx(found.volumes[1] - found.volumes[0])
    assert found.interval is None
    assert found.common == ("0-3", "0")
    back = compare(record_of("b", SECOND), record_of("a", FIRST))
    assert back.difference == pytest.approx(-found.difference)


def test_what_is_over_a_limit_there_carries_nothing() -> None:
    first, second = record_of("a", FIRST), record_of("b", SECOND)
    rows = tuple(replace(row, over={"macs": 0.1}) if row.pattern == "0-2" else row for row in second.rows)
    share = compare(replace(first, rows=first.rows[:2]), replace(second, rows=rows)).carried[0].share
    assert share == 0  # `0-2` beats nothing there, and `0-3` has all parameters


def test_what_one_side_does_not_say_is_named_as_the_default() -> None:
    first, second = record_of("a", FIRST), record_of("b", SECOND)
    values = {**second.purpose.values, "objectives": "macs", "halving.factor": 3}
    asked = replace(second, purpose=replace(second.purpose, values=values))
    assert "asked differently: objectives default and macs" in lines_of(compare(first, asked), ("a", "b"))
    older = replace(second, purpose=replace(second.purpose, training=1))
    assert f"asked differently: training {TRAINING} and 1" in lines_of(compare(first, older), ("a", "b"))
    table = replace(first, purpose=replace(first.purpose, values={"replay": "x", "seed": 0}))
    assert not any("asked" in line for line in lines_of(compare(table, asked), ("a", "b")))


def test_the_mark_is_explained_where_it_stands() -> None:
    def printed(wide: float) -> str:
        console = Console(width=200)
        with console.capture() as captured:
            print_comparison(console, compare(record_of("a", FIRST, wide), record_of("b", SECOND, wide)), ("a", "b"))
        return captured.get()

    assert "0.8500 (94.4%) =" in printed(0.02)
    assert "=: the intervals of the two scores overlap\n" in printed(0.02)
    assert "=" not in printed(0.0)


def test_shares_of_two_models_are_told_apart() -> None:
    def printed(second: Record) -> str:
        console = Console(width=200)
        with console.capture() as captured:
            print_comparison(console, compare(record_of("a", FIRST), second), ("a", "b"))
        return captured.get()

    other = record_of("b", SECOND)
    larger = replace(other, facts={**other.facts, "parameters": 2000})
    whose = "share: of a's unchanged model, or of b's where that front alone has the pattern\n"
    assert whose in printed(larger)
    assert whose not in printed(other)


def test_a_front_is_carried_to_the_scores_of_the_other_study() -> None:
    found = compare(record_of("a", FIRST), record_of("b", SECOND))
    there, here = found.carried
    assert (there.patterns, there.tried) == (4, 3)  # b has not tried 0-1
    assert there.share == pytest.approx((0.25 * 0.34) / (0.25 * 0.36 + 0.25 * 0.2))
    assert (here.patterns, here.tried) == (4, 3)
    assert here.share == pytest.approx((0.25 * 0.3) / (0.25 * 0.35 + 0.25 * 0.1))


def test_the_interval_follows_the_noise_and_lies_around_the_difference() -> None:
    narrow, wide = (compare(record_of("a", FIRST, w), record_of("b", SECOND, w)).interval for w in (0.001, 0.05))
    assert narrow is not None
    assert wide is not None
    difference = compare(record_of("a", FIRST), record_of("b", SECOND)).difference
    assert narrow[0] < difference < narrow[1]
    assert narrow[0] > 0
    assert wide[0] < 0 < wide[1]
    assert compare(record_of("a", FIRST, 0.05), record_of("b", SECOND, 0.05)).interval == wide  # repeatable


def test_the_interval_covers_the_true_difference_as_often_as_it_says() -> None:
    rng, reference, error = random.Random(3), (0.6, 1.0), 0.02
    truth = [[(0.1, 0.9), (0.2, 0.7), (0.35, 0.4)], [(0.12, 0.9), (0.19, 0.6), (0.4, 0.3)]]
    right = hypervolume(truth[1], reference) - hypervolume(truth[0], reference)
    hits = 0
    for _ in range(200):
        seen = [[((rng.gauss(point[0], error), point[1]), error) for point in front] for front in truth]
        first, second = (hypervolume([point for point, _ in front], reference) for front in seen)
        low, high = _interval(seen, second - first, reference, draws=400) or (0.0, 0.0)
        hits += low <= right <= high
    assert 180 <= hits <= 199


def test_confirmed_scores_count_where_both_fronts_have_two_seeds() -> None:
    studies = record_of("a", FIRST, 0.05, seeds=3, spread=0.01), record_of("b", SECOND, 0.05, seeds=2, spread=0.01)
    found = compare(*studies)
    assert found.confirmed
    search = compare(*(replace(study, confirmed={}) for study in studies))
    assert not search.confirmed
    assert found.interval is not None
    assert search.interval is not None
    assert found.interval[1] - found.interval[0] < search.interval[1] - search.interval[0]
    assert not compare(studies[0], record_of("b", SECOND, 0.05, seeds=1)).confirmed


def test_what_cannot_be_compared_is_refused_with_both_answers() -> None:
    study = record_of("a", FIRST)
    others = {
        "the metric is accuracy in the first and f1 in the second": replace(
            study, purpose=replace(study.purpose, metric="f1")
        ),
        "better is higher in the first and lower in the second": replace(
            study, purpose=replace(study.purpose, direction="minimize")
        ),
        "the number of layers is 4 in the first and 12 in the second": replace(
            study, facts={**study.facts, "num_layers": 12}
        ),
    }
    for said, other in others.items():
        with pytest.raises(StudyError) as caught:
            compare(study, replace(other, name="b"))
        assert str(caught.value) == (
            f"studies 'a' and 'b' cannot be compared: {said}; name two studies of one metric and one depth"
        )
    with pytest.raises(StudyError, match="study 'b' has no finished trial to compare"):
        compare(study, replace(study, name="b", rows=()))


def test_the_words_say_what_the_interval_means_and_what_was_asked_differently() -> None:
    first = record_of("a", FIRST, 0.05)
    other = record_of("b", SECOND, 0.05)
    second = replace(other, purpose=replace(other.purpose, values={"task": "mrpc", "seed": 0, "data": "x"}))
    lines = lines_of(compare(first, second), ("a", "b"))
    assert lines[0].startswith("hypervolume: 0.1125 a, 0.1400 b; difference +0.0275")
    assert ", not to be told from 0; it is for these two fronts scored on as many other examples, not for" in lines[1]
    assert lines[2] == "on both fronts: 2: 0-3, 0"
    assert lines[3] == "of the 4 on the front of a, b has tried 3, where they reach 60.7% of its front"
    assert lines[5:] == [
        "asked differently: task rte and mrpc",
        "the tasks differ, so a difference of hypervolumes compares tasks and not searches",
    ]


def test_the_command_compares_in_words_json_and_a_picture(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(tiny_run.storage, "other.db")
    words = ("compare", "tiny", "tiny@other.db", "--storage", tiny_run.storage)
    said = call(*words, "--png", "both.png")
    assert said.code == 0, said.err
    assert said.err == "drawn: both.png\n"
    assert Path("both.png").stat().st_size > 10_000
    assert said.out.splitlines()[0].split()[:5] == ["layers", "pattern", "share", "tiny", "tiny@other.db"]
    assert "difference +0.0000" in said.out
    plain = json.loads(call(*words, "--json").out)
    assert plain["studies"] == ["tiny", "tiny@other.db"]
    assert plain["difference"] == 0
    assert plain["on_both_fronts"] == [row["pattern"] for row in plain["fronts"][0]]
    refused = call(*words, "--png", "both.xyz")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == "error: no figure can be drawn as 'both.xyz': end its name in .png, .pdf or .svg\n"

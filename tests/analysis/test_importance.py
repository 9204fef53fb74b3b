"""What a study's scores say of its layers: what is fitted, when it is refused, when it is silent, what is shown."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from layersearch.analysis.effects import Part
from layersearch.analysis.importance import Importance, importance_of
from layersearch.errors import LayersearchError, StudyError, WordsError
from layersearch.pattern import Pattern
from layersearch.report import importance_map
from layersearch.report.html import report_of
from layersearch.report.importance import as_plain, lines_of, print_importance
from layersearch.report.importance_map import cost_map, draw_importance
from layersearch.report.table import output
from layersearch.search.purpose import Purpose
from layersearch.search.record import Record
from layersearch.search.trials import Direction, Row
from tests.conftest import call

SHARED = Path(__file__).parents[2].parent / "shared"


def made(texts: list[str], scores: list[float], layers: int = 6, direction: Direction = "maximize") -> Record:
    rows = [
        Row(n, "COMPLETE", text, 0, score=s, parameters=9)
        for n, (text, s) in enumerate(zip(texts, scores, strict=True))
    ]
    return Record("s", Purpose({}, "acc", direction), {"num_layers": layers, "parameters": 9}, tuple(rows), {})


def subsets(layers: int = 6) -> list[str]:
    """Every pattern of whole layers, the unchanged one first."""
    kept = [[n for n in range(layers) if not mask >> n & 1] for mask in range(2**layers - 1)]
    return [str(Pattern.of_layers(one)) for one in kept]


def additive(text: str, rng: random.Random, layers: int = 6) -> float:
    """Layer 2 costs 0.1, each other one 0.02."""
    dropped = Pattern.parse(text).dropped(layers)
    return 0.9 - sum(0.1 if layer == 2 else 0.02 for layer in dropped) + rng.gauss(0, 0.005)


@pytest.fixture
def record() -> Record:
    rng = random.Random(0)
    return made(subsets(), [additive(text, rng) for text in subsets()])


def test_costs_are_told_with_intervals_and_quality(record: Record) -> None:
    found = importance_of(record)
    assert found.silent is None
    assert (found.patterns, found.source) == (63, "trials")
    assert found.costs[Part(2)].cost == pytest.approx(0.1, abs=0.01)
    assert found.costs[Part(4)].cost == pytest.approx(0.02, abs=0.01)
    assert all(one.is_told for one in found.costs.values())
    assert found.quality.r2 > 0.95 > found.quality.size_r2
    assert found.dropped[Part(2)] == 31
    assert (len(found.pairs), found.all_pairs) == (8, 15)


def test_where_less_is_better_costs_are_what_is_added_to_the_logarithm(record: Record) -> None:
    rows = [replace(row, score=20 * 2.0 ** (1 - (row.score or 0))) for row in record.rows]
    less = importance_of(replace(record, rows=tuple(rows), purpose=Purpose({}, "perplexity", "minimize")))
    assert less.costs[Part(2)].cost == pytest.approx(0.0693, abs=0.005)
    assert "added to the logarithm of perplexity" in lines_of(less)[1]
    below = [replace(row, score=0.5 - (row.score or 0)) for row in record.rows]
    plain = importance_of(replace(record, rows=tuple(below), purpose=Purpose({}, "loss", "minimize")))
    assert plain.costs[Part(2)].cost == pytest.approx(0.1, abs=0.01)


def test_scores_of_one_pattern_count_once(record: Record) -> None:
    twice = [replace(row, number=100 + row.number, seed=1) for row in record.rows]
    assert importance_of(replace(record, rows=(*record.rows, *twice))).patterns == 63


@pytest.mark.parametrize(("there", "needed"), [(0, 12), (1, 12), (11, 12)])
def test_a_study_too_small_is_refused_with_the_number_that_is_needed(record: Record, there: int, needed: int) -> None:
    with pytest.raises(StudyError) as caught:
        importance_of(replace(record, rows=record.rows[:there]))
    assert str(caught.value) == (
        f"study 's' has {there} complete trial{'s' * (there != 1)} of different patterns, and {needed} are needed to "
        "tell its layers apart; continue it with `layersearch run` and more --trials"
    )


def test_more_parts_need_more_patterns_and_shared_scores_may_help(record: Record) -> None:
    texts = [str(Pattern.of_layers([n for n in range(24) if n != gone])) for gone in range(16)]
    few = made(texts, [0.5 + n / 100 for n in range(16)], 24)
    with pytest.raises(StudyError, match="has 16 complete trials of different patterns, and 18 are needed"):
        importance_of(few)
    shared = {row.pattern: row.score or 0.0 for row in record.rows}
    with pytest.raises(StudyError, match="needed to tell its layers apart; fit its 63 shared scores with --shared"):
        importance_of(replace(record, rows=record.rows[:5], shared=shared))
    found = importance_of(replace(record, rows=record.rows[:5], shared=shared), shared=True)
    assert (found.source, found.patterns) == ("shared", 63)
    assert "63 shared scores (over a super-network)" in lines_of(found)[0]


def test_shared_scores_that_are_not_there_are_refused(record: Record) -> None:
    with pytest.raises(WordsError) as caught:
        importance_of(record, shared=True)
    assert str(caught.value) == (
        "study 's' has no shared scores, which come with --method one-shot; leave out --shared"
    )


@pytest.mark.parametrize("spread", [0.0, 0.01])
def test_a_fit_below_the_stated_quality_is_silent(spread: float) -> None:
    rng = random.Random(1)
    found = importance_of(made(subsets()[:40], [rng.gauss(0.7, spread) for _ in range(40)]))
    assert (found.costs, found.pairs) == ({}, {})
    assert found.silent is not None
    assert found.silent.startswith(
        "nothing is said of the layers of 's': left out, its 40 trials' scores are told with"
    )
    assert found.silent.endswith("and 0.5 and 0.25 are needed")
    assert as_plain(found)["costs"] == []


def test_influence_is_ranked_against_costs(record: Record) -> None:
    block = [value for layer in range(6) for value in (0.1, 0.4 if layer == 2 else 0.01 * layer)]
    first = replace(record.rows[0], influence={"block": block})
    found = importance_of(replace(record, rows=(first, *record.rows[1:])))
    assert found.influence is not None
    assert f"ranks these costs with {found.influence:.2f}" in lines_of(found)[-1]


def test_terminal_and_json_say_the_same(record: Record, capsys: pytest.CaptureFixture[str]) -> None:
    found = importance_of(record)
    print_importance(output(), [("s", found)])
    said = capsys.readouterr().out
    cost = found.costs[Part(2)]
    assert f"2        {cost.cost:+.4f}  {cost.low:+.4f} to {cost.high:+.4f}  ████████████████" in said
    assert "strongest of 15 pairs" in said
    plain = json.loads(json.dumps(as_plain(found)))
    assert plain["costs"][2] == {
        "layer": 2,
        "halves": "both",
        "again": False,
        "cost": cost.cost,
        "low": cost.low,
        "high": cost.high,
        "in": 31,
    }


def a_map(record: Record) -> list[tuple[str, Importance]]:
    """Three studies: six layers, three, and one of which nothing is said."""
    rng = random.Random(0)
    other = made([*subsets(4)], [additive(text, rng, 4) for text in subsets(4)], 4)
    noise = made(subsets()[:40], [rng.gauss(0.7, 0.01) for _ in range(40)])
    return [("six", importance_of(record)), ("four $x$", importance_of(other)), ("none", importance_of(noise))]


def test_several_studies_make_a_map_over_relative_depth(record: Record, capsys: pytest.CaptureFixture[str]) -> None:
    print_importance(output(), a_map(record))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["study", "0%", "17%", "33%", "50%", "67%", "83%", "R2"]
    assert len(lines[1].split()) == 9
    assert len(lines[2].split()) == 8  # its name has two words, four layers in six places
    assert "a layer stands where its relative depth begins" in lines[5]
    assert lines[-1].startswith("nothing is said of the layers of 's'")


def test_pictures_are_drawn_or_refused(record: Record, tmp_path: Path) -> None:
    found = a_map(record)
    for number, chosen in enumerate(([found[0]], [found[2]], found)):
        draw_importance(chosen, tmp_path / f"{number}.png")
        assert (tmp_path / f"{number}.png").stat().st_size > 5000
    with pytest.raises(LayersearchError, match="end its name in"):
        draw_importance(found, tmp_path / "map.txt")


def test_the_picture_of_one_study_says_what_its_bars_are(
    record: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(importance_map, "save", lambda figure, _: drawn.append(figure))
    found = a_map(record)
    for one in (found[0], found[2]):
        draw_importance([one], tmp_path / "one.png")
    assert ["95 % intervals" in figure.axes[0].get_ylabel() for figure in drawn] == [True, False]


def test_the_report_has_a_map_or_says_why_not(record: Record) -> None:
    page = report_of(record)
    assert page.count('<g class="cost"') == 6
    assert "What dropping each layer costs" in page
    few = report_of(replace(record, rows=record.rows[:5]))
    assert "Not fitted: study &#x27;s&#x27; has 5 complete trials" in few
    two = report_of(replace(record, rows=record.rows[:5], shared={r.pattern: r.score or 0.0 for r in record.rows}))
    assert two.count('<g class="cost"') == 6


def test_the_map_shows_where_the_decoder_begins(record: Record) -> None:
    stacks = replace(record, facts={**record.facts, "depths": [3, 3]})
    found = importance_of(stacks)
    assert found.depths == (3, 3)
    assert cost_map(found).count('class="baseline"') == 1
    assert "layers 0-2 are the encoder's, the others the decoder's" in lines_of(found)


def test_the_command_answers_from_a_replayed_study(tmp_path: Path) -> None:
    rng = random.Random(0)
    lines = [f"{text},{additive(text, rng, 4)}" for text in subsets(4)]
    (tmp_path / "known.csv").write_text("\n".join(["pattern,score", *lines]))
    where = ("--storage", tmp_path / "s.db")
    searched = ("run", "--replay", tmp_path / "known.csv", "--sampler", "exhaustive", "--study", "known", *where)
    assert call(*searched).code == 0
    said = call("importance", *where, "--json", "--png", tmp_path / "map.png")
    assert said.code == 0, said.err
    assert said.err == f"drawn: {tmp_path / 'map.png'}\n"
    (plain,) = json.loads(said.out)
    assert plain["study"] == "known"
    assert [round(one["cost"], 2) for one in plain["costs"]][2] == pytest.approx(0.1, abs=0.015)
    both = call("importance", "known", f"known@{tmp_path / 's.db'}", *where)
    assert f"known@{tmp_path / 's.db'}" in both.out
    refused = call("importance", "--shared", *where)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("error: study 'known' has no shared scores")


def test_the_published_pairs_tell_the_single_removals_of_cola() -> None:
    """As results/importance says; the verdict there is about all eight tasks."""
    if not SHARED.exists():
        pytest.skip("needs ../shared, which this checkout does not have beside it")
    from importlib import import_module

    from layersearch.search.scores import read_table

    run = import_module("results.importance.run")
    where = {"task": "cola", "search": "exhaustive"}
    table = read_table(SHARED / "data" / "published" / "layer_subsets_bert.csv", "score", where)
    line, layers = run.singles_from_pairs(table, "cola")
    assert float(line["rank correlation"]) > 0.7
    assert len(layers) == 12

"""What comes first: patterns read for models of other depths, fronts of other studies, whose turn it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from layersearch.errors import StudyError, WordsError
from layersearch.pattern import Pattern
from layersearch.search.driver import Driver
from layersearch.search.record import read_study
from layersearch.search.starts import NAMED_EVERY, NAMED_FIRST, front_of_another, next_start, scaled
from layersearch.search.study import Study
from layersearch.search.trials import Row
from layersearch.search_space import SearchSpace
from tests.search.support import LAYERS, SPACE, open_study
from tests.search.test_driver import Witness, work


@pytest.mark.parametrize(
    ("pattern", "num_layers", "wanted", "read"),
    [
        ("0-5", 6, 12, "0-11"),
        ("0-4", 6, 12, "0-9"),
        ("0 2 5", 6, 12, "0-1 4-5 10-11"),
        ("0-4 5a", 6, 12, "0-9 10a 11a"),
        ("0-1 1", 2, 4, "0-2 2 3 3"),
        ("0-2", 4, 6, "0-4"),
        ("0-11", 12, 6, "0-5"),
        ("0-9", 12, 6, "0-4"),
        ("0-4 7-11", 12, 6, "0-5"),
        ("0 11", 12, 6, "0 5"),
        ("0-9 10a 11a", 12, 6, "0-4 5a"),
        ("0-9 10a 11f", 12, 6, "0-5"),
        ("0-9 10a", 12, 6, "0-4 5a"),
        ("0-5 5", 6, 3, "0-2"),
        ("0 2", 3, 2, "0-1"),
        ("3", 6, 1, "0"),
        ("0-3 3", 4, 4, "0-3 3"),
    ],
)
def test_a_pattern_is_read_by_relative_depth(pattern: str, num_layers: int, wanted: int, read: str) -> None:
    assert str(scaled(Pattern.parse(pattern), num_layers, wanted)) == read


@pytest.mark.parametrize("deeper", range(1, 25))
def test_a_deeper_model_and_back_is_the_same_pattern(deeper: int) -> None:
    for layers in range(1, deeper + 1):
        assert scaled(Pattern.full(layers), layers, deeper) == Pattern.full(deeper)
        assert scaled(Pattern.full(deeper), deeper, layers) == Pattern.full(layers)
        for layer in range(layers):
            alone = Pattern.of_layers([layer])
            assert scaled(scaled(alone, layers, deeper), deeper, layers) == alone


def rows(*patterns: str, state: str = "COMPLETE") -> list[Row]:
    return [Row(number, state, pattern, 0) for number, pattern in enumerate(patterns)]


def test_what_is_first_has_always_its_turn_and_what_is_named_now_and_then() -> None:
    first, named = [Pattern.parse("0-1")], [Pattern.parse("0-3"), Pattern.parse("0-2")]
    assert str(next_start([], first, named)) == "0-1"
    assert str(next_start(rows("0-1"), first, named)) == "0-3"
    assert str(next_start(rows("0-1", "0-3"), first, named)) == "0-2"
    assert next_start(rows("0-1", "0-3", "0-2"), first, named) is None
    many = NAMED_FIRST * ["9"]
    assert next_start(rows(*many), [], named) is None
    assert str(next_start(rows(*many), first, named)) == "0-1"
    assert str(next_start(rows(*many, *["9"] * (NAMED_EVERY - 1)), [], named)) == "0-3"
    assert str(next_start([*rows(*many), *rows("9", "9", state="PRUNED")], first[:0], named)) == "None"


@pytest.fixture
def other(tmp_path: Path) -> Study:
    """A finished search of a model of four layers."""
    study = open_study(f"{tmp_path}/db", tmp_path, "other")
    study.note(num_layers=LAYERS, parameters=1400)
    work(Driver(study, 6, Witness()))
    return study


def test_the_front_of_another_study_is_read_and_said(other: Study, tmp_path: Path) -> None:
    said: list[str] = []
    front = [row.pattern for row in other.front()]
    assert len(front) > 2
    same = front_of_another("other", f"{tmp_path}/db", SPACE, LAYERS, said.append)
    assert [str(pattern) for pattern in same] == front[1:]
    deeper = front_of_another(f"other@{tmp_path}/db", "absent.db", SPACE, 8, said.append)
    assert deeper == [scaled(pattern, 4, 8) for pattern in same]
    few = SearchSpace(choices=("keep", "drop"), min_layers=3)
    assert len(front_of_another("other", f"{tmp_path}/db", few, LAYERS, said.append)) == 1
    count = len(same)
    assert said == [
        f"starting from the front of other: {count} patterns",
        f"starting from the front of other: {count} patterns, scaled from 4 layers to 8",
        f"starting from the front of other: 1 pattern; the space does not have {count - 1} more",
    ]


def test_a_study_or_database_that_is_not_there_is_one_line(other: Study, tmp_path: Path) -> None:
    with pytest.raises(WordsError, match=r"there is no study 'othr' in .*; it holds other$"):
        front_of_another("othr", f"{tmp_path}/db", SPACE, LAYERS, print)
    with pytest.raises(StudyError, match=r"there is no study database .*absent\.db"):
        front_of_another(f"{other.name}@{tmp_path}/absent.db", f"{tmp_path}/db", SPACE, LAYERS, print)


def test_a_study_asks_first_for_what_it_starts_with_and_still_knows_it_later(tmp_path: Path) -> None:
    known = [Pattern.parse(text) for text in ("1 3", "0 2")]

    def opened() -> Study:
        return open_study(f"{tmp_path}/db", tmp_path)

    study = opened()
    study.start_with(known[:1])
    assert [job.pattern for job in work(Driver(study, 1, Witness()))] == ["0-3"]
    study.start_with([])
    assert [job.pattern for job in work(Driver(study, 2, Witness()))] == ["1 3"]
    study.start_with(known)
    assert work(Driver(study, 3, Witness()))[0].pattern == "0 2"
    assert study.facts["start_from"] == ["1 3", "0 2"]
    assert not [name for name in study.purpose.values if "start" in name]


def test_a_search_that_is_far_along_still_takes_them_first(tmp_path: Path) -> None:
    study = open_study(f"{tmp_path}/db", tmp_path)
    work(Driver(study, 10, Witness()))
    unseen = sorted({str(p) for p in SPACE.patterns(LAYERS)} - {row.pattern for row in study.rows()})
    study.start_with([Pattern.parse(text) for text in unseen[:3]])
    assert [job.pattern for job in work(Driver(study, 13, Witness()))] == unseen[:3]


def test_reading_another_study_leaves_it_as_it_is(other: Study, tmp_path: Path) -> None:
    before = other.rows()
    front_of_another("other", f"{tmp_path}/db", SPACE, LAYERS, print)
    assert read_study(f"{tmp_path}/db", "other", print).rows == tuple(before)

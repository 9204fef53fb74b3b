"""Replay: a table's scores through the real study, driver and front, without a model."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from layersearch.errors import DataError, SpaceError, StudyError
from layersearch.pattern import Pattern
from layersearch.search.question import How, Lookup
from layersearch.search.record import read_study
from layersearch.search.replay import Replay, look_up, replay_of
from layersearch.search.run import run_replay
from layersearch.search.scores import Known, Table, read_table
from layersearch.search.study import Study
from layersearch.search_space import SearchSpace
from layersearch.training.job import Job
from tests.search.test_driver import Witness

ROOT = Path(__file__).parents[2]
ROWS = """kept_layers,parameters,acc
0 1 2 3,100,0.90
0 1 2,80,0.88
0 1 3,80,0.70
1 2 3,80,0.60
0 1,60,0.65
2 3,60,0.50
0,40,0.55
"""


@pytest.fixture
def table(tmp_path: Path) -> Table:
    (tmp_path / "known.csv").write_text(ROWS)
    return read_table(tmp_path / "known.csv", "acc")


def replay(table: Table, sampler: str = "RandomSampler", seed: int = 0, space: str = "layers") -> Replay:
    return replay_of(table, space, sampler, seed)


def search(question: Replay, folder: Path, trials: int, witness: Witness | None = None) -> Study:
    folder.mkdir(exist_ok=True)
    folder.mkdir(exist_ok=True)
    how = How("known-layers", str(folder / "s.db"), folder / "files")
    return run_replay(question, how, trials=trials, watcher=witness or Witness())


@pytest.mark.parametrize("sampler", ["RandomSampler", "TPESampler", "NSGAIISampler", "PatternSampler"])
def test_a_search_ends_with_the_tables_own_front_and_asks_for_nothing_outside(
    table: Table, tmp_path: Path, sampler: str
) -> None:
    study = search(replay(table, sampler), tmp_path, trials=1000)
    assert {row.pattern for row in study.rows() if row.done} == set(table.known)
    assert [(row.pattern, row.score, row.parameters) for row in study.front()] == [
        ("0-3", 0.90, 100),
        ("0-2", 0.88, 80),
        ("0-1", 0.65, 60),
        ("0", 0.55, 40),
    ]
    outside = [row for row in study._study.get_trials() if row.user_attrs.get("pattern") is None]
    assert {trial.user_attrs["reason"] for trial in outside} <= {"spells no pattern of the space"}


def test_the_record_of_a_replay_reads_like_any_other(table: Table, tmp_path: Path) -> None:
    search(replay(table), tmp_path, trials=4)
    record = read_study(str(tmp_path / "s.db"), None, print)
    assert record.name == "known-layers"
    assert (record.purpose.metric, record.purpose.direction) == ("acc", "maximize")
    assert (record.unchanged, record.parameters, record.facts["replay"]) == ("0-3", 100, "known.csv")
    assert record.baseline is not None
    assert record.baseline.score == 0.90
    assert record.records()[0]["parameters_share"] == 1.0


def test_a_continued_replay_goes_on_and_another_table_is_refused(table: Table, tmp_path: Path) -> None:
    search(replay(table), tmp_path, trials=3)
    witness = Witness()
    assert search(replay(table), tmp_path, 5, witness).finished() == 5
    assert len(witness.outcomes) == 2
    (tmp_path / "known.csv").write_text(ROWS.replace("0.88", "0.87"))
    with pytest.raises(StudyError, match=r"replay is '.*' there and '.*' here"):
        search(replay(read_table(tmp_path / "known.csv", "acc")), tmp_path, 5)
    with pytest.raises(StudyError, match="seed is 0 there and 1 here"):
        search(replay(table, seed=1), tmp_path, 5)


def test_the_seed_decides_the_course(table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layersearch.search.starts.NAMED_FIRST", 2)  # so that the sampler has a say in seven trials
    courses = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 3)):
        witness = Witness()
        search(replay(table, seed=seed), tmp_path / folder, 7, witness)
        courses.append([outcome.pattern for outcome in witness.outcomes])
    assert courses[0] == courses[1] != courses[2]


def test_sizes_that_are_no_parameters_are_said_to_be_none(table: Table, tmp_path: Path) -> None:
    said: list[list[str]] = []
    for text in (ROWS, ROWS.replace("parameters", "milliseconds")):
        (tmp_path / "known.csv").write_text(text)
        witness = Witness()
        question = replay(read_table(tmp_path / "known.csv", "acc"))
        search(question, tmp_path / str(len(said)), 1, witness)
        said.append([line for line in witness.lines if "thirds" in line])
        assert ("parameters_are" in question.facts) == bool(said[-1])
    assert said == [[], ["known.csv has no column `parameters`: they are counted in thirds of a layer"]]
    assert table.sized


def test_a_replay_is_looked_up_as_it_was_asked(table: Table, tmp_path: Path) -> None:
    asked = Lookup(tmp_path / "known.csv", "acc", (("parameters", "80"),), "minimize", "layers", "RandomSampler", 3)
    with pytest.raises(DataError, match="has parameters and no row for the unchanged model"):
        look_up(asked)
    found = look_up(replace(asked, where=()))
    assert found.table == replace(table, direction="minimize")
    assert (found.sampler, found.seed, found.purpose.direction) == ("RandomSampler", 3, "minimize")
    assert found.parameters_of(Pattern.parse("2-3")) == 60
    assert asked.default_name == "known-layers"


def test_an_answer_holds_what_the_table_holds(table: Table) -> None:
    outcome = replay(table).evaluate(Job(3, "0-1 3", seed=7))
    assert (outcome.number, outcome.seed, outcome.score, outcome.parameters) == (3, 7, 0.70, 80)
    assert outcome.metrics == {"acc": 0.70}
    assert outcome.reason is None


def test_a_table_that_the_space_hardly_meets_is_refused() -> None:
    halves = Table("h.csv", "acc", "maximize", 2, 6, {"0-1": Known(0.9, 6), "0 1a": Known(0.8, 4)}, "f")
    with pytest.raises(SpaceError, match=r"two patterns: h\.csv has 2, 1 of them in the space layers; name a table"):
        replay(halves)
    assert replay(halves, space="halves").space.size(2) == 2


def test_a_space_within_patterns_holds_these_and_keeps_its_text() -> None:
    space = SearchSpace(choices=("keep", "drop"), start=("top", "bottom"))
    patterns = [Pattern.parse(text) for text in ("1-3", "0-2", "0 2", "0-3", "0 0 1")]
    within = space.within(patterns, 4)
    assert [str(pattern) for pattern in within.patterns(4)] == ["0-3", "0-2", "0 2", "1-3"]
    assert within.size(4) == 4
    assert [str(pattern) for pattern in within.start_points(4)] == ["0-3", "0-2", "1-3"]
    assert within.params_of(Pattern.parse("0-1"), 4) is None
    assert within.canonical() == space.canonical()
    assert space.size(4) == 15
    named = SearchSpace(strategies=("top", "bottom")).within(patterns, 4)
    assert [str(pattern) for pattern in named.patterns(4)] == ["0-3", "0-2", "1-3"]


@pytest.mark.usefixtures("table")
def test_a_replay_needs_no_model_library(tmp_path: Path) -> None:
    code = f"""
import json, sys
from pathlib import Path
from layersearch.search.question import How
from layersearch.search.replay import replay_of
from layersearch.search.run import run_replay
from layersearch.search.scores import read_table
from layersearch.report.console import Progress
replay = replay_of(read_table(Path({str(tmp_path / "known.csv")!r}), "acc"), "layers", "PatternSampler", 0)
with Progress() as progress:
    run_replay(replay, How("s", "s.db", Path("files")), trials=5, watcher=progress)
print(json.dumps([name for name in ("torch", "transformers", "ray", "datasets") if name in sys.modules]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []
    assert "(5/5 done" in done.stderr

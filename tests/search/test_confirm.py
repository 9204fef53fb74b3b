"""A front confirmed after its search: what is there counts, a stop loses nothing, and what cannot be is said."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from layersearch.errors import StudyError
from layersearch.search.again import asked_again
from layersearch.search.objectives import parse_limit
from layersearch.search.preparing import prepare
from layersearch.search.question import How, What
from layersearch.search.record import Record, read_study
from layersearch.search.run import run
from layersearch.search.spelling import spelled
from layersearch.training import evaluator, finetune
from layersearch.training.recipe import Recipe
from tests.conftest import Said, TinyRun, call
from tests.search.test_driver import Witness


@pytest.fixture
def own(tiny_run: TinyRun, tmp_path: Path) -> Path:
    """A copy of the tiny study, confirmed with seed 1."""
    with sqlite3.connect(tiny_run.storage) as source, sqlite3.connect(tmp_path / "study.db") as copy:
        source.backup(copy)
    return tmp_path / "study.db"


def confirm(storage: Path, *words: str | int) -> Said:
    where = ("--storage", storage, "--files", storage.parent / "files", "--workers", "0", "--device", "cpu")
    return call("confirm", *where, *words)


def record_of(storage: Path) -> Record:
    return read_study(str(storage), None, print)


def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seeds of the candidates that are trained from now on."""
    seeds: list[int] = []
    measure = finetune.measure

    def counted(training: Any, *rest: Any) -> Any:
        seeds.append(training.recipe.seed)
        return measure(training, *rest)

    monkeypatch.setattr(evaluator, "measure", counted)
    return seeds


def test_more_seeds_add_the_missing_ones_and_the_same_command_again_trains_nothing(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, seeds = record_of(own), trained(monkeypatch)
    said = confirm(own, "--seeds", 2)
    assert said.code == 0, said.err
    after = record_of(own)
    assert seeds == [2] * len(before.confirmed)
    assert {found.seeds for found in after.confirmed.values()} == {(1, 2)}
    assert {name: found.scores[0] for name, found in after.confirmed.items()} == {
        name: found.scores[0] for name, found in before.confirmed.items()
    }
    assert after.rows == before.rows
    for fact in ("files", "folder", "disk"):  # the study's own files are where they were
        assert after.facts[fact] == before.facts[fact]
    titles = ("at selection", "confirmed", "95 % interval", "another seed", "kept", "optimism")
    assert all(title in said.out.splitlines()[0] for title in titles)
    assert "of the mean over all seeds and all such examples" in said.out
    again = confirm(own, "--seeds", 2)
    assert (again.code, again.out, len(seeds)) == (0, said.out, len(before.confirmed))


def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here for a trial that is not on the front: it and the unchanged model are all that is trained."""
    record = record_of(own)
    row = next(row for row in record.rows if row.done and row not in record.front and row.pattern != record.unchanged)
    seeds, measure = [], finetune.measure

    def stopped_at_the_second(training: Any, *rest: Any) -> Any:
        seeds.append(training.recipe.seed)
        if len(seeds) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return measure(training, *rest)

    monkeypatch.setattr(evaluator, "measure", stopped_at_the_second)
    wanted = ("--seeds", 2, "--trial", row.number)
    said = confirm(own, *wanted)
    assert said.code == 130, said.err
    assert said.err.splitlines()[-1].startswith("stopped; every finished trial is in the study.")
    assert len(record_of(own).confirmed[row.pattern].seeds) + len(record_of(own).confirmed["0-3"].seeds) == 2
    assert confirm(own, *wanted).code == 0
    after = record_of(own).confirmed
    assert after[row.pattern].seeds == after["0-3"].seeds == (1, 2)
    assert sorted(seeds) == [1, 2, 2, 2]  # one of them was stopped
    assert {name for name, found in after.items() if found.seeds == (1,)} == record.confirmed.keys() - {"0-3"}


def test_what_cannot_be_confirmed_is_said_in_one_line(own: Path, tiny_data: Path, tmp_path: Path) -> None:
    said = confirm(own, "--trial", 99)
    assert (said.code, said.out) == (2, "")
    assert said.err.endswith(
        "\nerror: trial 99 of 'tiny' has no score to confirm; `layersearch front --all` lists those that have one\n"
    )
    changed = tmp_path / "data"
    shutil.copytree(tiny_data, changed)
    (changed / "train.tsv").write_text((changed / "train.tsv").read_text().replace("good", "fine"))
    moved = replace(record_of(own), facts={**record_of(own).facts, "data_folder": str(changed)})
    with pytest.raises(StudyError, match=r"is not what study 'tiny' was made with: data .*put the old files back"):
        asked_again(moved)


def test_a_study_of_another_version_of_the_training_is_shown_and_not_confirmed(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own.parent)
    study = optuna.load_study(study_name="tiny", storage=f"sqlite:///{own}")
    study.set_user_attr("purpose", {**study.user_attrs["purpose"], "training": 1})
    said = confirm(own, "--seeds", 2)
    assert (said.code, said.out) == (1, "")
    assert said.err.splitlines()[-1].startswith("error: study 'tiny' was trained in version 1 of the training, and ")
    for command in ("front", "report"):
        assert call(command, "--storage", own).code == 0, command
    assert call("show", "--trial", 0, "--storage", own).code == 0


def test_a_study_over_a_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("pattern,score,parameters\n0-3,0.9,4\n0-2,0.8,3\n")
    where = ("--storage", tmp_path / "db", "--files", tmp_path)
    assert call("run", "--replay", tmp_path / "t.csv", "--trials", "2", *where).code == 0
    said = confirm(tmp_path / "db")
    assert said.code == 1
    assert "took its scores from t.csv and trained no model; search with `layersearch run`" in said.err


def test_the_question_is_asked_again_with_its_objectives_limits_and_measured_strategies(
    tiny_model: Path, tiny_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "own.toml").write_text('choices = ["keep", "drop"]\nstart = ["contribution"]\n')
    recipe = Recipe(epochs=0.2, batch_size=8, max_length=24, precision="fp32")
    what = What(
        str(tiny_model),
        "sst2",
        tiny_data,
        str(tmp_path / "own.toml"),
        recipe,
        method="fine-tune",
        objectives=("metric", "macs"),
        limits=(parse_limit("parameters", "95%"), parse_limit("score", "10%")),
    )
    how = How("s", f"{tmp_path}/db", tmp_path / "files", workers=0, device="cpu")
    run(what, how, trials=1, confirm=0, watcher=Witness())
    again = asked_again(read_study(how.storage, None, print))
    first = spelled(prepare(what), how, print)
    assert (again.purpose, again.costs, again.space) == (first.purpose, first.costs, first.space)
    assert again.what.limits == what.limits

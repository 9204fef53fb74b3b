"""A trial becomes an exported folder: from its kept weights or trained again, never with other data."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

import pytest
from transformers import AutoModelForSequenceClassification

from layersearch.errors import ExportError, StudyError, WordsError
from layersearch.models.proof import examine
from layersearch.pattern import Pattern
from layersearch.search.again import question_of
from layersearch.search.preparing import prepare
from layersearch.search.purpose import Purpose
from layersearch.search.question import How
from layersearch.search.record import Record, read_study
from layersearch.search.ship import ship
from layersearch.search.trials import Row
from layersearch.training.evaluator import Evaluator
from layersearch.training.job import Outcome
from tests.conftest import TinyRun


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof in this process: tests/models/test_export.py and tests/test_cli.py have it real."""
    monkeypatch.setattr("layersearch.models.export._examine", lambda folder, case: examine(folder, asdict(case)))


@pytest.fixture
def record(tiny_run: TinyRun) -> Record:
    return read_study(str(tiny_run.storage), "tiny", print)


@pytest.fixture
def how(tiny_run: TinyRun, tmp_path: Path) -> How:
    return How(name="tiny", storage=str(tiny_run.storage), files=tmp_path, workers=0, device="cpu")


def smaller(record: Record) -> Row:
    """A complete trial that is not the unchanged model."""
    return next(row for row in record.rows if row.done and row.pattern != record.unchanged)


def changed(record: Record, row: Row, **values: object) -> Record:
    """The record with one row changed."""
    rows = tuple(replace(r, **values) if r.number == row.number else r for r in record.rows)  # type: ignore[arg-type]
    return replace(record, rows=rows)


def test_a_study_tells_the_question_it_was_made_for(record: Record) -> None:
    assert prepare(question_of(record)).purpose.values == record.purpose.values


def test_a_kept_checkpoint_is_exported_without_training(
    record: Record, how: How, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = record.front[-1]
    assert row.checkpoint is not None
    monkeypatch.setattr(Evaluator, "__call__", lambda *_: pytest.fail("trained"))
    said: list[str] = []
    proof = ship(record, row.number, tmp_path / "out", how, said.append)
    assert said == []
    assert proof.parameters == row.parameters
    assert proof.max_difference <= proof.tolerance
    assert (proof.metric, proof.scored, proof.examples, proof.form) == ("accuracy", 24, 24, "native")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert sum(p.numel() for p in model.parameters()) == row.parameters
    assert model.config.id2label == {0: "negative", 1: "positive"}
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"{row.score:.4f}"[:5] in card
    assert "| validation set, one fresh seed | " in card
    assert f"| validation set, these weights | | {proof.score:.4f} | | |" in card
    assert f"value: {round(proof.score or 0.0, 6)}\n      name: accuracy, validation set, these weights\n" in card
    assert f"Trained with {row.versions}." in card
    sizes = "42 examples to train on, 18 to search on, 24 in the validation set"
    assert f"| data | GLUE SST-2: {sizes}; fingerprint `{record.purpose.values['data']}` |" in card
    assert (
        "    dataset:\n      name: GLUE SST-2\n      type: nyu-mll/glue\n      config: sst2\n      split: validation\n"
        in card
    )
    assert f"Seed 0; confirmed with the seeds {record.confirmed[row.pattern].seeds[0]}." in card
    assert f"| {record.kept_again(row.pattern):.1%} |" in card
    assert f"torch {version('torch')}" in (row.versions or "")


def test_a_folder_that_says_nothing_is_called_by_what_it_lies_in(record: Record, how: How, tmp_path: Path) -> None:
    folder = tmp_path / "my-bert" / "model"
    shutil.copytree(record.facts["model_folder"], folder)
    moved = replace(
        record,
        facts={**record.facts, "model_folder": str(folder)},
        purpose=replace(record.purpose, values={**record.purpose.values, "model": "model"}),
    )
    ship(moved, record.front[-1].number, tmp_path / "out", how, print)
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"# my-bert with the layers `{record.front[-1].pattern}`" in card
    assert f"name: my-bert with the layers {record.front[-1].pattern}" in card
    assert "base_model:" not in card


def test_lost_weights_are_trained_again_and_that_is_said_first(
    record: Record, how: How, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = smaller(record)
    gone = changed(record, row, checkpoint=str(tmp_path / "gone"))
    happened: list[str] = []
    real = Evaluator.__call__

    def watched(self: Evaluator, job: object, *rest: object) -> Outcome:
        happened.append("trained")
        return real(self, job, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Evaluator, "__call__", watched)
    proof = ship(gone, row.number, tmp_path / "out", how, happened.append)
    assert happened[0].startswith(f"the weights of trial {row.number} were not kept: it is trained again, about ")
    assert happened[1] == "trained"
    assert happened[2] == f"trained again: accuracy {row.score:.4f}, the study has {row.score:.4f}"
    assert proof.parameters == row.parameters
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["num_hidden_layers"] == Pattern.parse(row.pattern).depth


def test_a_training_that_fails_again_leaves_nothing_behind(
    record: Record, how: How, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = smaller(record)
    failed = Outcome(row.number, row.pattern, 0, reason="the loss is nan at step 3")
    monkeypatch.setattr(Evaluator, "__call__", lambda *_: failed)
    with pytest.raises(ExportError, match=f"training trial {row.number} again gave no weights: the loss is nan"):
        ship(changed(record, row, checkpoint=None), row.number, tmp_path / "out", how, print)
    assert not (tmp_path / "out").exists()


def test_a_study_that_trained_nothing_has_nothing_to_export(record: Record, how: How, tmp_path: Path) -> None:
    replayed = replace(record, facts={**record.facts, "replay": "scores.csv"})
    with pytest.raises(
        ExportError, match=r"^study 'tiny' took its scores from scores\.csv and trained no model; search "
    ):
        ship(replayed, record.front[0].number, tmp_path / "out", how, print)


def test_a_form_that_cannot_be_and_a_full_folder_are_refused_before_anything_is_read(
    record: Record, how: How, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layersearch.search.again.prepare", lambda *_: pytest.fail("read"))
    row = smaller(record)
    with pytest.raises(WordsError, match="has halved layers"):
        ship(changed(record, row, pattern="0-2 3a"), row.number, tmp_path / "out", how, print, "native")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    with pytest.raises(ExportError, match="full"):
        ship(record, row.number, tmp_path / "full", how, print)


def made_for(record: Record, **values: object) -> Record:
    """The record with another purpose."""
    purpose = Purpose({**record.purpose.values, **values}, record.purpose.metric, record.purpose.direction)
    return replace(record, purpose=purpose)


@pytest.mark.parametrize(
    ("key", "what", "fact"), [("data", "data", "data_folder"), ("revision", "model", "model_folder")]
)
def test_files_that_changed_since_are_refused_with_their_place_and_both_values(
    record: Record, how: How, tmp_path: Path, key: str, what: str, fact: str
) -> None:
    row = record.front[0]
    with pytest.raises(StudyError) as caught:
        ship(made_for(record, **{key: "local-0123"}), row.number, tmp_path / "out", how, print)
    made = f"use the versions that made the study ({row.versions}; here is layersearch {version('layersearch')}), "
    assert str(caught.value) == (
        f"the {what} in {record.facts[fact]} is not what study 'tiny' was made with: {key} local-0123 there, "
        f"{record.purpose.values[key]} here; put the old files back, "
        f"{made if key == 'data' else ''}or search again under a new --study"
    )


def test_a_generated_task_that_changed_since_asks_for_the_version_that_made_it(
    record: Record, how: How, tmp_path: Path
) -> None:
    facts = {**record.facts, "data_folder": None}
    demo = made_for(replace(record, facts=facts), task="demo", data="0123")
    row, here = record.front[0], re.escape(version("layersearch"))
    for versions, said in (("layersearch 0.0.7", "layersearch 0.0.7"), (None, "which it does not tell")):
        message = (
            r"^the data that task demo gives is not what study 'tiny' was made with: data 0123 there, \w{16} here; "
            rf"use the versions that made the study \({said}; here is layersearch {here}\), "
            "or search again under a new --study$"
        )
        with pytest.raises(StudyError, match=message):
            ship(changed(demo, row, versions=versions), row.number, tmp_path / "out", how, print)


def test_a_study_of_a_hub_model_asks_for_the_same_revision_of_the_same_name(record: Record) -> None:
    values = {**record.purpose.values, "model": "roberta-base", "revision": "0123456789abcdef"}
    asked = question_of(replace(record, purpose=Purpose(values, record.purpose.metric, record.purpose.direction)))
    assert (asked.model, asked.revision) == ("roberta-base", "0123456789abcdef")


def test_a_checkpoint_of_another_trial_under_this_name_is_not_exported(
    record: Record, how: How, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = record.front[0]
    assert row.checkpoint is not None
    stranger = replace(row, metrics={"accuracy": 0.123})
    rows = tuple(stranger if r.number == row.number else r for r in record.rows)
    ship(replace(record, rows=rows), row.number, tmp_path / "out", how, print)
    assert "were not kept: it is trained again" in capsys.readouterr().out

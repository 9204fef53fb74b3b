"""An exported folder's recipe runs again: the same score, another score, a question that cannot be asked any more."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from layersearch.errors import ExportError
from layersearch.models.folder import _hash_of
from layersearch.models.proof import examine
from layersearch.remaking import in_words
from layersearch.search.again import cost_again, jobs_again, prepared_again, question_of
from layersearch.search.objectives import limits_in, parse_limit
from layersearch.search.purpose import Purpose
from layersearch.search.question import How
from layersearch.search.record import Record, read_study
from layersearch.search.reproduce import Reproduced, record_in, reproduce
from layersearch.search.ship import ship
from layersearch.search.trials import Row
from layersearch.training.recipe import TRAINING
from tests.conftest import Said, TinyRun, call

HOW = How(name="tiny", workers=0, device="cpu")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof in this process."""
    monkeypatch.setattr("layersearch.models.export._examine", lambda folder, case: examine(folder, asdict(case)))


@pytest.fixture
def record(tiny_run: TinyRun) -> Record:
    return read_study(str(tiny_run.storage), "tiny", print)


@pytest.fixture
def folder(record: Record, tmp_path: Path) -> Path:
    """The smallest member of the front, exported."""
    ship(record, record.front[-1].number, tmp_path / "out", HOW, print)
    return tmp_path / "out"


def edited(folder: Path, change: Callable[[dict[str, dict[str, object]]], object]) -> Path:
    """The folder with another question."""
    file = folder / "layersearch.json"
    values = json.loads(file.read_text())
    change(values["question"])
    file.write_text(json.dumps(values | {"sha256": _hash_of(values)}))
    return folder


def test_a_folder_holds_the_whole_question(record: Record, folder: Path) -> None:
    there, row = record_in(folder)
    assert there.purpose == record.purpose
    assert question_of(there) == question_of(record)
    kept = record.front[-1]
    for name in ("number", "pattern", "seed", "score", "interval", "metrics", "work", "start", "versions"):
        assert getattr(row, name) == getattr(kept, name)
    assert prepared_again(there, row).purpose.values == record.purpose.values


def test_the_recipe_gives_the_same_score_again_to_the_last_digit(folder: Path, record: Record) -> None:
    said = call("reproduce", folder, "--device", "cpu")
    assert said.code == 0, said.err
    row = record.front[-1]
    assert row.interval is not None
    assert said.out == (
        f"reproduced, the same to the last digit: accuracy {row.score:.4f} now, {row.score:.4f} then, 95 % interval "
        f"{row.interval[0]:.4f} to {row.interval[1]:.4f}\n"
    )
    assert "damaged" not in said.err
    expected = (
        rf"trial {row.number} of study 'tiny', `{row.pattern}`, is trained again: about .* fine-tunings of .*, \d+ s"
    )
    assert re.match(expected, next(line for line in said.err.splitlines() if "warning" not in line))


def test_a_damaged_folder_is_reproduced_and_its_damage_named(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    said = call("reproduce", folder, "--device", "cpu")
    assert said.code == 0, said.err
    assert said.out.startswith("reproduced, ")
    assert said.err.splitlines()[0] == (
        f"warning: {folder} is damaged (tokenizer.json is missing), which its recipe does not need; "
        f"`layersearch verify {folder}` says all that is wrong"
    )


def test_a_score_outside_its_interval_ends_with_1_and_other_versions_are_named(folder: Path) -> None:
    edited(folder, lambda asked: asked["trial"].update(score=2.0, interval=[1.9, 2.1], versions="layersearch 0.0.1"))
    edited(folder, lambda asked: asked["purpose"].pop("training"))
    said = call("reproduce", folder, "--device", "cpu")
    assert said.code == 1
    first, trained, second = said.out.splitlines()
    assert re.match(
        r"not reproduced, outside the interval: accuracy 0\.\d+ now, 2\.0000 then, 95 % interval 1\.9", first
    )
    assert trained == f"trained in version 1 of the training, here {TRAINING}"
    assert second.startswith("made with layersearch 0.0.1; here layersearch ")
    answer = json.loads(call("reproduce", folder, "--device", "cpu", "--json").out)
    assert (answer["inside"], answer["same"], answer["then"]) == (False, False, 2.0)


def test_the_verdicts_in_words() -> None:
    found = Reproduced("s", 1, "0-2", "acc", then=0.5, now=0.51, interval=(0.4, 0.6), differences=("x",))
    assert found.inside
    assert in_words(found) == [
        "reproduced, inside the interval and not the same to the last digit: acc 0.5100 now, 0.5000 then, "
        "95 % interval 0.4000 to 0.6000",
        "x",
    ]
    without = replace(found, interval=None, differences=())
    assert not without.inside
    assert in_words(without) == ["not reproduced: acc 0.5100 now, 0.5000 then"]


def refused(said: Said) -> str:
    assert said.code == 1
    lines = [line for line in said.err.splitlines() if "warning" not in line]
    assert len(lines) == 1
    return lines[0]


def test_what_is_gone_or_not_the_same_is_one_line_before_any_training(
    folder: Path, tiny_data: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("layersearch.search.reproduce.train_again", lambda *_: pytest.fail("trained"))
    gone = str(tmp_path / "gone")
    edited(folder, lambda asked: asked["facts"].update(data_folder=gone))
    line = refused(call("reproduce", folder))
    assert line == f"error: the data of study 'tiny' are not in {gone}; say with --data where it lies now"
    other = Path(shutil.copytree(tiny_data, tmp_path / "other"))
    with (other / "train.tsv").open("a") as file:
        file.write("a good film\t1\n")
    line = refused(call("reproduce", folder, "--data", other))
    assert f"the data in {other} is not what study 'tiny' was made with: data " in line
    assert line.endswith(", or say with --model or --data where those lie now")
    edited(folder, lambda asked: asked["facts"].update(model_folder=gone))
    line = refused(call("reproduce", folder, "--data", tiny_data))
    assert line == f"error: the model of study 'tiny' is not in {gone}; say with --model where it lies now"
    with pytest.raises(pytest.fail.Exception, match="trained"):
        call("reproduce", folder, "--data", tiny_data, "--model", tiny_model)


def test_a_folder_that_does_not_tell_is_refused(folder: Path, tmp_path: Path) -> None:
    edited(folder, lambda asked: asked.pop("trial"))
    with pytest.raises(ExportError, match=r"does not say how it was made: it comes from an older layersearch, or from"):
        reproduce(folder, HOW, print)
    line = refused(call("reproduce", tmp_path / "gone"))
    assert line.startswith(f"error: no such folder: {tmp_path / 'gone'};")
    assert line == refused(call("verify", tmp_path / "gone"))
    (folder / "layersearch.json").write_text("{")
    assert "layersearch.json is damaged or of an older version of layersearch; " in refused(call("reproduce", folder))


def test_a_study_over_a_package_s_model_finds_it_on_another_machine(record: Record, tmp_path: Path) -> None:
    values = {**record.purpose.values, "model": "package:some_package/model"}
    facts = {**record.facts, "model_folder": str(tmp_path / "not-here")}
    elsewhere = replace(record, purpose=Purpose(values, "accuracy", "maximize"), facts=facts)
    assert question_of(elsewhere).model == "package:some_package/model"


def test_limits_are_read_as_they_are_kept() -> None:
    limits = (parse_limit("parameters", "60%"), parse_limit("latency", "8ms"))
    found = limits_in(" ".join(limit.stored for limit in limits))
    assert [limit.stored for limit in found] == [limit.stored for limit in limits]
    assert limits_in("") == ()


def shared(tiny_run: TinyRun, folder: Path, *more: str) -> Record:
    """A small study whose candidates start from a super-network."""
    words = [*tiny_run.what, "--method", "one-shot", "--confirm", "0", "--trials", "3", *more]
    place = ("--storage", f"{folder}/s.db", "--files", f"{folder}/files", "--study", "s")
    said = call("run", *words, *place, "--workers", "0", "--device", "cpu")
    assert said.code == 0, said.err
    return read_study(f"{folder}/s.db", "s", print)


@pytest.mark.slow
def test_a_candidate_of_a_super_network_is_made_again_with_its_super_network(tiny_run: TinyRun, tmp_path: Path) -> None:
    record = shared(tiny_run, tmp_path, "--keep-checkpoints", "none", "--max-params", "90%")
    row = next(row for row in record.rows if row.start == "super-0")
    assert row.checkpoint is None
    shutil.rmtree(record.facts["networks"])
    record = replace(record, purpose=replace(record.purpose, training=1))
    lines: list[str] = []
    ship(record, row.number, tmp_path / "out", HOW, lines.append)
    assert "were not kept: it is trained again, about " in lines[0]
    assert lines[1:] == [
        "the unchanged model of seed 0 is trained again",
        "the super-network of seed 0 is trained again",
        f"trained again: accuracy {row.score:.4f}, the study has {row.score:.4f}",
        f"the study was trained in version 1 of the training, and this trial now in {TRAINING}",
    ]
    asked = json.loads((tmp_path / "out" / "layersearch.json").read_text())["question"]
    assert asked["trial"]["score"] == row.score
    assert asked["purpose"]["training"] == TRAINING
    assert reproduce(tmp_path / "out", HOW, print).same


def test_what_lies_there_is_not_made_again_and_the_cost_tells_it(record: Record, tmp_path: Path) -> None:
    row = Row(3, "COMPLETE", "0-1", 0, 0.5, work=0.5, train_seconds=2.0, start="unchanged-0")
    far = replace(record, facts={**record.facts, "networks": str(tmp_path / "none")})
    prepared = prepared_again(record, record.front[0])
    first, last = jobs_again(far, row, prepared, tmp_path)
    assert (first.number, first.pattern, first.checkpoint) == (-1, "0-3", str(tmp_path / "unchanged-0"))
    assert last.start == first.checkpoint
    assert cost_again(row, [first, last], 4) == "about 1.5 fine-tunings of the unchanged model, 6 s"
    assert cost_again(replace(row, work=None), [last], 4) == "about 2 s"
    kept = record.front[0].checkpoint
    assert kept is not None
    shutil.copytree(kept, tmp_path / "networks" / "unchanged-0")
    near = replace(record, facts={**record.facts, "networks": str(tmp_path / "networks")})
    (only,) = jobs_again(near, row, prepared, tmp_path)
    assert only.start == str(tmp_path / "networks" / "unchanged-0")

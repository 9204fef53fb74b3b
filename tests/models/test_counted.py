"""What a model counts is kept: the same numbers without counting, and never wrong ones."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
from transformers import PreTrainedModel

from layersearch.errors import ModelError
from layersearch.models import costs, readout
from layersearch.models.base import load_base
from layersearch.models.counted import CACHE, Counted, counted
from layersearch.models.matrices import count_weights


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def asked(folder: Path, labels: int = 2, length: int = 24) -> Counted:
    return counted(folder, labels, "classification", length)


def test_what_was_counted_is_read(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = asked(tiny_model)
    monkeypatch.setattr(costs, "count_all", None)
    assert asked(tiny_model) == first
    assert first.model_type == "bert"
    assert first.positions == 128
    assert set(first.parts) == {"parameters", "non-embedding", "macs"}
    assert first.matrices == count_weights(load_base(tiny_model, num_labels=2, kind="classification").model)


def test_another_question_is_counted_anew(tiny_model: Path, tmp_path: Path, cache: Path) -> None:
    first = asked(tiny_model)
    assert asked(tiny_model, labels=3).parts["parameters"].fixed == first.parts["parameters"].fixed + 17
    assert asked(tiny_model, length=48).parts["macs"].total > first.parts["macs"].total
    wider = json.loads((tiny_model / "config.json").read_text()) | {"intermediate_size": 64}
    (tmp_path / "config.json").write_text(json.dumps(wider))
    assert asked(tmp_path).parts["parameters"].ffn > first.parts["parameters"].ffn
    assert len(list(cache.iterdir())) == 4


@pytest.mark.parametrize("reason", [None, "it has no layers to mix"])
def test_whether_layers_can_be_mixed_is_asked_once_and_kept_with_the_counts(
    reason: str | None, tiny_model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_of: list[str] = []

    def require(model: PreTrainedModel, *_: object) -> None:
        asked_of.append(model.config.model_type)
        if reason:
            raise ModelError(reason)

    monkeypatch.setattr(readout, "require_mixable", require)
    for mixes in (True, False, True):
        with pytest.raises(ModelError, match=reason) if reason and mixes else nullcontext():
            assert counted(tiny_model, 2, "classification", 24, mixes=mixes).unmixable == reason
    assert asked_of == ["bert"]
    assert len(list(cache.iterdir())) == 1, "spaces with and without a mix share it"


def test_layers_that_training_skips_are_told(tiny_model: Path, tmp_path: Path) -> None:
    assert asked(tiny_model).skips is None
    config = json.loads((tiny_model / "config.json").read_text()) | {"layerdrop": 0.1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert [asked(tmp_path).skips for _ in range(2)] == ["layerdrop = 0.1"] * 2
    with pytest.raises(ModelError, match=r"config.json says layerdrop = 0.1: training skips layers, and"):
        counted(tmp_path, 2, "classification", 24, mixes=True)


def test_other_code_or_libraries_count_anew(tiny_model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from layersearch.models import counted as module

    asked(tiny_model)
    monkeypatch.setattr(module, "version", lambda name: f"{name} of tomorrow")
    asked(tiny_model)
    monkeypatch.setattr(module, "_sources", lambda: "changed")
    asked(tiny_model)
    assert len(list(cache.iterdir())) == 3


@pytest.mark.parametrize("broken", ["", "{", "0\n{}", "cut", "changed"])
def test_a_broken_file_is_counted_anew_and_rewritten(tiny_model: Path, cache: Path, broken: str) -> None:
    first = asked(tiny_model)
    (file,) = cache.iterdir()
    whole = file.read_text()
    other = {"cut": whole[:-20], "changed": whole.replace("128", "129")}.get(broken, broken)
    assert other != whole
    file.write_text(other)
    assert asked(tiny_model) == first
    assert file.read_text() == whole


def test_nothing_is_kept_where_nothing_shall_be(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(CACHE, "")
    asked(tiny_model)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_stops_nobody(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "letter").write_text("this is no folder")
    monkeypatch.setenv(CACHE, str(tmp_path / "letter"))
    assert asked(tiny_model) == asked(tiny_model)


def test_errors_are_not_kept(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be opened"):
        asked(tmp_path)
    assert not cache.exists()

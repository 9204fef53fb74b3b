"""A shell is offered the names that there are, and nothing where there are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from layersearch.search.record import names_of
from layersearch.tasks import TASKS
from layersearch.training.recipe import PRESETS
from tests.conftest import TinyRun, call


def offered(words: str, begun: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What bash is offered after `layersearch WORDS BEGUN`."""
    monkeypatch.setenv("_LAYERSEARCH_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"layersearch {words} {begun}")
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) + 1))
    return call().out.split()


def test_commands_options_and_names_are_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    assert offered("", "sh", monkeypatch) == ["show"]
    assert offered("best", "--max-l", monkeypatch) == ["--max-latency"]
    assert offered("run --task", "", monkeypatch) == list(TASKS)
    assert offered("run --recipe", "", monkeypatch) == list(PRESETS)
    assert offered("plan --space", "ha", monkeypatch) == ["halves"]


def test_studies_of_the_database_are_offered(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert names_of(str(tiny_run.storage)) == ["tiny"]
    assert offered("front", "", monkeypatch) == []
    assert list(tmp_path.iterdir()) == []
    assert offered(f"show --storage {tiny_run.storage}", "t", monkeypatch) == ["tiny"]
    monkeypatch.setenv("LAYERSEARCH_STORAGE", str(tiny_run.storage))
    assert offered("front", "", monkeypatch) == ["tiny"]
    assert offered("front", "x", monkeypatch) == []

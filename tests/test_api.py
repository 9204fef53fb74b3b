"""The calls of the library: the words of the command line and no others, its errors, and answers that people can read.

Knows: commands, their options, a finished tiny study. Does not know: how anything is searched or drawn.
"""

from __future__ import annotations

import doctest
import inspect
import shutil
import subprocess
import sys
import typing
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer

import layersearch
from layersearch import api
from layersearch.cli import app
from layersearch.errors import LayersearchError, WordsError
from layersearch.training.recipe import Recipe, option_of
from layersearch.words import Words
from tests.conftest import TinyRun, call

COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
NO_CALL = {"analyze"}  # its parts are functions on arrays and models
FORMS = {"json", "csv"}  # of what is printed; a call gives it back
README = (Path(__file__).parents[1] / "README.md").read_text()


def options_of(command: str) -> dict[str, Any]:
    """The words of a command as Python writes them, with their defaults."""
    params = [param for param in COMMANDS[command].params if param.name != "help"]
    words = {param.opts[0].removeprefix("--").replace("-", "_"): param for param in params}
    named = {(param.name if not param.opts[0].startswith("-") else word): param for word, param in words.items()}
    return {word: param.default for word, param in named.items() if word not in FORMS}


def test_a_field_of_a_recipe_is_called_by_an_option_that_there_is() -> None:
    known = {option for param in COMMANDS["run"].params for option in param.opts}
    assert {option_of(field.name) for field in fields(Recipe)} - known == {"max_grad_norm"}


def test_every_command_is_a_call_and_the_other_way_round() -> None:
    names = {"search" if name == "run" else name for name in COMMANDS}
    assert names - NO_CALL | {"load"} == set(layersearch.__all__)  # a shell has no use for a loaded model
    assert set(api.__all__) == set(layersearch.__all__) <= set(dir(layersearch))


def test_every_command_that_prints_what_it_reads_takes_json() -> None:
    takes = {name for name, command in COMMANDS.items() if any("--json" in param.opts for param in command.params)}
    acts = {"run", "confirm", "export", "report", "dashboard", "time"}
    assert takes == set(COMMANDS) - acts


def test_a_search_takes_the_words_of_run_and_a_plan_one_more() -> None:
    words = set(typing.get_type_hints(Words))
    assert words == set(options_of("run"))
    assert words | {"limit"} == set(options_of("plan"))


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - NO_CALL - {"run", "plan"}))
def test_a_call_has_the_words_and_defaults_of_its_command(command: str) -> None:
    parameters = inspect.signature(getattr(api, command)).parameters
    defaults = {name: None if one.default is one.empty else one.default for name, one in parameters.items()}
    assert set(defaults) == set(options_of(command))
    for name, default in options_of(command).items():
        assert defaults[name] == default or (default is ... and defaults[name] is None), name


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: layersearch.search(trials=0), ("run", "--trials", "0")),
        (lambda: layersearch.search(model="m"), ("run", "--model", "m")),
        (lambda: layersearch.search(replay="t.csv", task="x"), ("run", "--replay", "t.csv", "--task", "x")),
        (lambda: layersearch.search(replay="absent.csv"), ("run", "--replay", "absent.csv")),
        (lambda: layersearch.plan(model="m", task="mrcp"), ("plan", "--model", "m", "--task", "mrcp")),
        (lambda: layersearch.best(), ("best",)),
        (lambda: layersearch.best(max_params="60x"), ("best", "--max-params", "60x")),
        (lambda: layersearch.front(), ("front",)),
        (lambda: layersearch.show(trial=3, study="s"), ("show", "s", "--trial", "3")),
        (lambda: layersearch.export(trial=3, to="x"), ("export", "--trial", "3", "--to", "x")),
        (lambda: layersearch.confirm(), ("confirm",)),
    ],
)
def test_errors_are_those_of_the_command_line(
    ask: Callable[[], object], words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAYERSEARCH_STORAGE", raising=False)
    with pytest.raises(LayersearchError) as caught:
        ask()
    said = call(*words)
    assert said.err == f"error: {caught.value}\n"
    assert said.code == (2 if isinstance(caught.value, WordsError) else 1)


def test_a_word_that_is_none_is_said_with_the_nearest() -> None:
    with pytest.raises(WordsError, match=r"^unknown option 'modle' \(did you mean 'model'\?\); allowed: batch_size, "):
        layersearch.search(modle="m")  # type: ignore[call-arg]


def test_the_same_search_again_finds_everything_done(
    tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = [word.removeprefix("--").replace("-", "_") for word in tiny_run.what]
    storage = shutil.copy(tiny_run.storage, tmp_path / "own.db")
    words: Any = dict(zip(typed[::2], tiny_run.what[1::2], strict=True))
    how: Any = {
        "study": "tiny",
        "storage": storage,
        "files": tiny_run.files,
        "workers": 0,
        "trials": 5,
        "device": "cpu",
    }
    found = layersearch.search(**words, **how)
    assert [row.number for row in found] == [row.number for row in layersearch.front(storage=storage)]
    assert "the search ended: 5 trials are finished" in capsys.readouterr().err


def test_answers_read_as_the_terminal_prints_them(tiny_run: TinyRun, tmp_path: Path) -> None:
    storage = str(tiny_run.storage)
    front = layersearch.front("tiny", storage=storage, png=tmp_path / "front.png")
    assert repr(front) == call("front", "--storage", storage).out.rstrip("\n")
    assert (tmp_path / "front.png").read_bytes().startswith(b"\x89PNG")
    assert len(front) == len(front.rows) == len(front.to_pandas())
    best = layersearch.best(storage=storage, max_params="100%")
    assert repr(best) == call("best", "--storage", storage, "--max-params", "100%").out.rstrip("\n")
    assert best.pick is not None
    assert best.trial == best.pick.row.number == best.facts()["pick"]["trial"]
    trial = layersearch.show(trial=0, storage=storage)
    assert repr(trial) == call("show", "--storage", storage, "--trial", "0").out.rstrip("\n")
    assert trial.row is not None
    assert trial.row.pattern == "0-3"
    compared = layersearch.compare("tiny", "tiny", storage=storage)
    assert compared.difference == 0.0
    assert layersearch.report(storage=storage, to=tmp_path / "r.html") == [tmp_path / "r.html"]
    everything = layersearch.front(storage=storage, all=True)
    assert len(everything) >= len(front)
    assert all("<" in answer._repr_html_() for answer in (front, best, trial, compared))
    assert "<table>" in front._repr_html_()
    assert "data:image/png;base64," in front._repr_html_()


def test_nothing_fits_is_an_answer_and_no_error(tiny_run: TinyRun) -> None:
    found = layersearch.best(storage=str(tiny_run.storage), max_params="1")
    assert found.trial is None
    assert found.answer.nearest is not None


def test_packages_that_are_calls_too_stay_packages() -> None:
    from layersearch.report import html
    from layersearch.search import run

    assert callable(layersearch.search)
    assert callable(layersearch.report)
    assert layersearch.search.run is run  # type: ignore[attr-defined]
    assert layersearch.report.html is html  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        layersearch.serach  # noqa: B018


def example_of(name: str) -> str:
    """The example in the docstring of a call."""
    text = inspect.getdoc(getattr(api, name)) or ""
    return "".join(example.source for example in doctest.DocTestParser().get_examples(text))


def test_every_call_has_an_example_but_the_one_that_does_not_end() -> None:
    assert {name for name in api.__all__ if f"layersearch.{name}(" not in example_of(name)} == {"dashboard"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_examples_run_one_after_another(tmp_path: Path) -> None:
    """Those of the README and of the calls, trained for less; a model that learns nothing is none that `best` names."""
    order = "search plan patterns front show best compare report confirm export verify load"
    tour = README.split("## As a library")[1].split("```python\n")[1].split("```")[0]
    code = "\n".join([*(example_of(name) for name in order.split()), tour])
    code = code.replace('recipe="demo"', 'recipe="demo", epochs=0.5, max_length=32')
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=850)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "exported" / "model.safetensors").is_file()

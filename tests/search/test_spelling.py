"""Measured strategies from the outside: listed by `patterns`, tried by a search, written down once."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from layersearch.errors import LayersearchError, ModelError
from layersearch.measured import MEASURED, NAMES
from layersearch.models.base import load_base
from layersearch.models.surgery import build
from layersearch.pattern import Pattern
from layersearch.search import spelling
from layersearch.search.objectives import parse_limit
from layersearch.search.preparing import prepare
from layersearch.search.question import How, Prepared, What
from layersearch.search.record import read_study
from layersearch.search.spelling import knowing, measure, spelled, stored_of
from layersearch.training.recipe import Recipe
from tests.conftest import Said, call

RECIPE = Recipe(learning_rate=1e-2, batch_size=8, epochs=1, max_length=24, precision="fp32")
SPACE = 'strategies = ["contribution", "ffn-only-influence", "top"]\nmax_k = 2\n'


@pytest.fixture
def what(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> What:
    (tmp_path / "mine.toml").write_text(SPACE)
    space = str(tmp_path / "mine.toml")
    return What(str(tiny_model), "sst2", tiny_data, space=space, recipe=RECIPE, method="fine-tune")


@pytest.fixture
def prepared(what: What) -> Prepared:
    return prepare(what)


def words(what: What, folder: Path, *more: str) -> Said:
    recipe = ("--max-length", 24, "--epochs", 1, "--batch-size", 8, "--precision", "fp32", "--method", what.method)
    place = ("--storage", folder / "s.db", "--files", folder / "files", "--workers", 0, "--confirm", 0)
    asked = ("--model", what.model, "--task", what.task, "--data", str(what.data), "--space", what.space)
    return call("run", *asked, *recipe, *place, *more)


def test_a_search_tries_what_was_measured_once(
    what: What, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second call knows from its study what the first one measured, and names its trials by it."""
    said = words(what, tmp_path, "--trials", "3")
    assert said.code == 0, said.err
    assert "measuring the model for contribution, ffn-only-influence" in said.err
    monkeypatch.setattr(spelling, "measure", None)
    said = words(what, tmp_path, "--trials", "7")
    assert said.code == 0, said.err
    assert "measuring" not in said.err
    monkeypatch.undo()
    record = read_study(f"{tmp_path}/s.db", None, lambda _: None)
    expected = knowing(prepared, stored_of(prepared, "cpu", lambda _: None)).space
    assert {row.pattern for row in record.rows if row.done} == {str(p) for p in expected.patterns(4)}
    first = str(expected.known["contribution"][0])
    assert "contribution 1" in (next(row for row in record.rows if row.pattern == first).strategy or "")
    assert sorted(record.facts["spelled"]) == ["contribution", "ffn-only-influence"]


def test_limits_are_judged_with_what_was_measured(what: What) -> None:
    def told(text: str) -> Prepared:
        limited = prepare(replace(what, limits=(parse_limit("parameters", text),)), weights=False)
        return spelled(limited, How("x", device="cpu"), lambda _: None, stored=False)

    assert told("98%").space.size(4) > 2
    with pytest.raises(LayersearchError, match="no pattern of the space keeps --max-params 1%: the nearest is"):
        told("1%")


def test_what_is_measured_follows_the_seed_and_the_part(prepared: Prepared) -> None:
    assert measure(prepared, "cpu", number=10) == measure(prepared, "cpu", number=10)
    assert measure(prepared, "cpu", number=10) != measure(prepared, "cpu", number=11)
    assert measure(prepared, "cpu", part="validation") != measure(prepared, "cpu")
    said: list[str] = []
    all_of_them = measure(prepared, "cpu", number=10**6, say=said.append)
    number = len(prepared.splits.train)
    assert all_of_them == measure(prepared, "cpu", number=number)
    assert said == [f"measuring the model on {number} examples of the part train"]


def test_a_fine_tuned_model_is_measured_where_it_lies(what: What, tiny_model: Path, tmp_path: Path) -> None:
    other = tmp_path / "tuned"
    shutil.copytree(tiny_model, other)
    model: Any = load_base(tiny_model, num_labels=2, kind="classification").model
    with torch.no_grad():
        model.bert.encoder.layer[1].output.dense.weight.mul_(3.0)
    model.save_pretrained(other)
    plain, tuned = prepare(what), prepare(replace(what, measured_on=other))
    assert measure(tuned, "cpu") == measure(plain, "cpu", on=other) != measure(plain, "cpu")
    assert tuned.purpose.values["measured_on"].startswith("local-")
    assert "measured_on" not in plain.purpose.values


def test_a_model_of_another_depth_is_refused(prepared: Prepared, tiny_model: Path, tmp_path: Path) -> None:
    shallow = tmp_path / "shallow"
    shutil.copytree(tiny_model, shallow)
    build(load_base(tiny_model, num_labels=2, kind="classification").model, Pattern.parse("0-2")).save_pretrained(
        shallow
    )
    with pytest.raises(ModelError, match="shallow has 3 layers and the model of the search 4; measure on the same mod"):
        measure(prepared, "cpu", on=shallow)


def test_measuring_without_a_measured_strategy_is_refused(what: What, tmp_path: Path) -> None:
    with pytest.raises(LayersearchError, match=r"--measure-on .*: the space layers names no measured strategy"):
        prepare(replace(what, space="layers", measured_on=tmp_path))


def listing(what: What, *more: str | int) -> Said:
    asked = ("--model", what.model, "--task", "sst2", "--data", str(what.data), "--max-length", 24)
    return call("patterns", *asked, *more)


def listed(what: What, *more: str | int) -> list[dict[str, object]]:
    said = listing(what, *more, "--json")
    assert said.code == 0, said.err
    found: list[dict[str, object]] = json.loads(said.out)
    return found


def test_patterns_lists_every_strategy_for_every_k(what: What) -> None:
    found = listed(what)
    assert {row["strategy"] for row in found} == set(NAMES)
    top = [(row["k"], row["pattern"]) for row in found if row["strategy"] == "top"]
    assert top == [(1, "0-2"), (2, "0-1"), (3, "0")]
    assert all(isinstance(row["parameters"], int) for row in found)


def test_patterns_takes_words_that_change_a_strategy(what: What, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spelling, "measure", None)  # nothing here needs it
    rows = listed(what, "--strategy", "duplicate-tied", "--copies", 2, "--k", 1)
    assert [row["pattern"] for row in rows] == ["0-3 3t 3t"]
    drawn = {str(listed(what, "--strategy", "random", "--seed", seed, "--k", 2)) for seed in range(6)}
    assert len(drawn) > 1


def test_patterns_reads_a_table_of_ones_own(what: What, tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("words,mood\n" + "".join(f"number {row},{row % 3}\n" for row in range(30)))
    asked = ("--model", what.model, "--task", "own", "--data", table, "--max-length", 24, "--strategy", "top", "--k", 1)
    said = call("patterns", *map(str, asked), "--text", "words", "--label", "mood", "--json")
    assert said.code == 0, said.err
    assert [row["pattern"] for row in json.loads(said.out)] == ["0-2"]
    assert "add --label COLUMN" in call("patterns", *map(str, asked), "--text", "words").err


def test_patterns_shows_the_numbers_and_takes_a_threshold(what: What) -> None:
    said = listing(what, "--strategy", "contribution", "--k", 2)
    assert said.code == 0, said.err
    assert "first token" in said.out
    assert "contribution  2" in said.out
    said = listing(what, "--threshold", "1.5")
    assert (said.code, said.out) == (2, "")
    measuring, error = said.err.splitlines()
    assert measuring == "measuring the model on 51 examples of the part train"
    assert error.startswith("error: no layer has a cosine above 1.5, which leaves no pattern to try: they lie")


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (
            ("--strategy", "contribtion"),
            "unknown strategy 'contribtion' (did you mean 'contribution'?); allowed: top, ",
        ),
        (("--strategy", "top", "--k", "4"), "top with k = 4 is impossible for 4 layers: k can be 1 to 3"),
        (
            ("--strategy", "top", "--threshold", "0.9"),
            "strategy 'top' takes no threshold, contribution and block-influence do; give k instead",
        ),
    ],
)
def test_wrong_words_are_one_line(what: What, more: tuple[str, ...], line: str) -> None:
    said = listing(what, *more)
    assert said.code == 2
    assert said.err.startswith(f"error: {line}")


def test_plan_lists_what_was_measured(what: What) -> None:
    asked = ("--model", what.model, "--task", "sst2", "--data", str(what.data), "--space", "measured")
    said = call("plan", *asked, "--max-length", 24, "--limit", 0, "--json")
    assert said.code == 0, said.err
    patterns = [row["pattern"] for row in json.loads(said.out)]
    assert patterns[0] == "0-3"
    assert len(patterns) > len(MEASURED)


def test_a_table_has_no_model_to_measure(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("kept_layers,score,parameters\n0 1,0.9,30\n0,0.8,20\n1,0.7,20\n")
    (tmp_path / "mine.toml").write_text('choices = ["keep", "drop"]\nstart = ["contribution"]\n')
    words = ("run", "--replay", tmp_path / "t.csv", "--space", tmp_path / "mine.toml", "--files", tmp_path / "files")
    said = call(*words, "--storage", tmp_path / "s.db")
    assert said.code == 0, said.err
    assert "left out, because they are measured on a model and a table has none: contribution" in said.err

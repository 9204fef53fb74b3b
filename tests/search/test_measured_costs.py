"""Costs that follow from a few measured patterns: the fit, what a study keeps of it, and the front timed at the end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from layersearch.errors import LayersearchError, StudyError
from layersearch.models import measure
from layersearch.pattern import PartCounts, Pattern
from layersearch.report.console import Progress
from layersearch.search import measured_costs
from layersearch.search.measured_costs import fitted_parts, probes, wanted, with_measured
from layersearch.search.objectives import parse_limit
from layersearch.search.preparing import prepare
from layersearch.search.question import How, Prepared, What
from layersearch.search.record import read_study
from layersearch.search.run import run
from layersearch.search.timing import time_front
from layersearch.search.trials import Row
from layersearch.space_files import load
from layersearch.training.recipe import Recipe


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SECONDS", 0.02)
    monkeypatch.setattr(measure, "FEWEST", 2)
    monkeypatch.setattr(measure, "WARM_UP", 1)


def what(model: Path, data: Path, *limits: tuple[str, str], objectives: tuple[str, ...]) -> What:
    recipe = Recipe(epochs=1, batch_size=16, max_length=16, precision="fp32")
    found = tuple(parse_limit(of, text) for of, text in limits)
    return What(str(model), "sst2", data, recipe=recipe, method="fine-tune", objectives=objectives, limits=found)


def test_parts_are_found_again_from_their_sums() -> None:
    space = load("halves")
    told = probes(space, (6,))
    assert [str(pattern) for pattern in told] == ["0-5", "0-2", "0", "0a 1a 2a 3a 4a 5a", "0f 1f 2f 3f 4f 5f"]
    parts = PartCounts(500, (70,) * 6, (110,) * 6)
    assert fitted_parts({pattern: pattern.parameters(parts) for pattern in told}, 6) == parts


def test_whole_layers_need_no_halves() -> None:
    told = probes(load("layers"), (6,))
    assert all(pattern.is_whole for pattern in told)
    parts = PartCounts(500, (70,) * 6, (110,) * 6)
    found = fitted_parts({pattern: pattern.parameters(parts) for pattern in told}, 6)
    assert Pattern.parse("0-3").parameters(found) == pytest.approx(500 + 4 * 180, abs=4)


def test_only_what_is_asked_for_is_measured(tiny_model: Path, tiny_data: Path) -> None:
    asked = what(tiny_model, tiny_data, objectives=("metric", "macs", "latency-32"))
    assert wanted(asked) == ("latency-32",)
    assert wanted(replace(asked, objectives=("metric", "macs"))) == ()
    limited = what(tiny_model, tiny_data, ("latency", "80%"), objectives=("metric", "memory"))
    assert wanted(limited) == ("memory", "latency")


@pytest.fixture
def prepared(tiny_model: Path, tiny_data: Path) -> Prepared:
    return prepare(what(tiny_model, tiny_data, objectives=("metric", "memory", "latency")))


def test_every_pattern_has_a_measured_cost(prepared: Prepared) -> None:
    said: list[str] = []
    found = with_measured(prepared, How("x"), said.append, stored=False)
    assert any("latency of a pattern is the sum of its parts: off by" in line for line in said)
    assert found.purpose.values["hardware"] == measure.hardware("cpu")
    larger, smaller = (found.costs.values(Pattern.parse(text)) for text in ("0-3", "0"))
    assert all(more >= less for more, less in zip(larger, smaller, strict=True))
    assert larger[0] - smaller[0] == 4 * 3 * (prepared.counts.attention[0] + prepared.counts.ffn[0])


def test_what_is_measured_is_noted_before_a_study_is_driven(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = How("two", f"{tmp_path}/s.db", device="cpu")
    first = with_measured(prepared, how, lambda _: None)
    monkeypatch.setattr(measured_costs, "_measure", None)
    assert with_measured(prepared, how, lambda _: None).costs == first.costs
    other = prepare(replace(prepared.what, recipe=replace(prepared.what.recipe, learning_rate=0.5)))
    with pytest.raises(StudyError, match=r"made for something else: --lr is .* there and 0.5 here"):
        with_measured(other, how, lambda _: None)


def test_a_front_is_not_timed_beside_another_driver(prepared: Prepared) -> None:
    row = Row(0, "RUNNING", "0-3", 0)
    study: Any = SimpleNamespace(facts={}, front=list, rows=lambda: [row])
    said: list[str] = []
    time_front(prepared, How("x"), said.append, study, [])
    assert [line.partition(";")[0] for line in said] == ["the front is not timed while another driver trains"]


def test_halves_are_probed_where_the_space_has_any() -> None:
    """One pattern of many has a half, and no draw meets it."""
    space = load("halves").within([*load("layers").patterns(10), Pattern.parse("0-8 9a")], 10)
    assert [str(pattern)[:5] for pattern in probes(space, (10,))][-1] == "0f 1f"


def test_a_latency_that_nothing_reaches_is_told_before_training(tiny_model: Path, tiny_data: Path) -> None:
    asked = prepare(what(tiny_model, tiny_data, ("latency", "0.001us"), objectives=("metric", "parameters")))
    with pytest.raises(LayersearchError, match=r"keeps --max-latency 0.001us: the nearest is `.*` with .* latency ms"):
        with_measured(asked, How("x"), lambda _: None, stored=False)


def test_a_study_keeps_what_was_measured_times_its_front_and_stays_on_its_hardware(
    tiny_model: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = what(tiny_model, tiny_data, ("macs", "80%"), objectives=("metric", "parameters", "latency"))
    how = How("timed", f"{tmp_path}/s.db", tmp_path / "files", workers=0, device="cpu")
    run(asked, how, trials=3, confirm=0, watcher=Progress())
    record = read_study(how.storage, "timed", lambda _: None)
    kept = record.facts["measured"]
    assert kept["tokens"] == 16
    assert record.purpose.costs == ("parameters", "latency")
    assert record.front
    assert set(record.times(record.front[0])) == {("PyTorch", 1), ("PyTorch", 32)}
    assert record.facts["timed_on"]["hardware"] == record.purpose.values["hardware"]
    assert record.unchanged in record.facts["timed"]
    row = record.records()[-1]
    assert row["latency"] == record.front[-1].costs[1]
    assert row["p95_ms_batch_32"] >= row["median_ms_batch_32"] > 0
    run(asked, how, trials=4, confirm=0, watcher=Progress())
    assert read_study(how.storage, "timed", lambda _: None).facts["measured"] == kept
    monkeypatch.setattr(measure, "hardware", lambda _: "another machine")
    with pytest.raises(StudyError, match=r"hardware is .* there and 'another machine' here"):
        run(asked, how, trials=5, confirm=0, watcher=Progress())

"""The front on the clock: what a study keeps of it, when it is measured anew, and who is warned of."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from layersearch.errors import StudyError
from layersearch.mixing import Mixing
from layersearch.models import measure
from layersearch.models.base import load_base
from layersearch.models.measure import Timing, share_of
from layersearch.models.surgery import build
from layersearch.pattern import Pattern
from layersearch.report.html import write_report
from layersearch.report.notes import notes_on_costs
from layersearch.report.table import output
from layersearch.report.trial import print_trial
from layersearch.search import timing
from layersearch.search.again import asked_again
from layersearch.search.objectives import parse_limit
from layersearch.search.question import How
from layersearch.search.record import Record, read_study
from layersearch.search.times import Latency, bought_none, settings, shown, shown_ms, times_of
from layersearch.search.wish import Wish, best
from tests.conftest import Said, TinyRun, call

REAL_GRAPHS = timing._graphs


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few runs, and PyTorch in place of graphs: tests/models/test_onnx.py has real ones."""
    monkeypatch.setattr(measure, "SECONDS", 0.02)
    monkeypatch.setattr(measure, "WARM_UP", 1)
    monkeypatch.setattr(measure, "FEWEST", 2)
    monkeypatch.setattr("layersearch.models.onnx.is_installed", lambda: True)

    def graphs(candidates: Mapping[str, Any], *_: Any) -> dict[Any, Any]:
        return {("ONNX Runtime", text): model for text, model in candidates.items()}

    monkeypatch.setattr(timing, "_graphs", graphs)


@pytest.fixture
def storage(tiny_run: TinyRun, tmp_path: Path) -> str:
    """A copy of the tiny study's database."""
    with sqlite3.connect(tiny_run.storage) as there, sqlite3.connect(tmp_path / "copy.db") as here:
        there.backup(here)
    return str(tmp_path / "copy.db")


def timed(storage: str) -> tuple[Said, Record]:
    said = call("time", "tiny", "--storage", storage, "--device", "cpu")
    return said, read_study(storage, "tiny", lambda _: None)


def test_a_front_is_timed_on_both_runtimes_and_only_once(storage: str) -> None:
    said, record = timed(storage)
    assert said.code == 0, said.err
    assert "built candidates, in turns with the unchanged model" in said.err
    assert f"batch size 32: {2 * len(record.facts['timed'])} models in turns, about 0 s" in said.err
    for row in record.front:
        assert set(record.times(row)) == set(settings())
    assert set(record.facts["timed"]) == {record.unchanged, *(row.pattern for row in record.front)}
    unchanged = times_of(record.facts, record.unchanged)
    assert all(time.share is None and time.p95 >= time.median > 0 for time in unchanged.values())
    assert record.facts["timed_on"]["hardware"] == measure.hardware("cpu")
    smallest = record.records()[-1]
    assert smallest["onnx_p95_ms_batch_32"] >= smallest["onnx_median_ms_batch_32"] > 0
    assert "timed and ONNX: PyTorch and ONNX Runtime: the built candidate alone on " in said.out
    again, same = timed(storage)
    assert "everything is timed already" in again.err
    assert same.facts["timed"] == record.facts["timed"]


def test_each_graph_that_is_written_is_said(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = load_base(tiny_model, num_labels=2, kind="classification")
    monkeypatch.setattr("layersearch.models.onnx.write_onnx", lambda *_: None)
    monkeypatch.setattr("layersearch.models.onnx.OnnxModel", lambda *_: None)
    said: list[str] = []
    REAL_GRAPHS({"0-3": base.model, "0-1": base.model}, base, tmp_path, said.append)
    assert said == ["writing ONNX graph 1 of 2: 0-3", "writing ONNX graph 2 of 2: 0-1"]


def test_what_was_timed_survives_a_stop(storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One candidate at a time beside the unchanged model; the second measurement is interrupted."""
    monkeypatch.setattr(timing, "_parties", lambda patterns, _: [[text] for text in patterns])
    facts: dict[str, Any] = {}
    calls = []

    def measured(_: Any, patterns: list[str], *__: Any) -> list[tuple[str, dict[str, list[float]]]]:
        calls.append(patterns)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return [(text, {"1": [2.0, 3.0], "32": [4.0, 5.0]}) for text in patterns]

    monkeypatch.setattr(timing, "_measured", measured)
    prepared, how = _prepared(read_study(storage, "tiny", print)), How("tiny", storage, device="cpu")

    def go_on() -> None:
        timing._time(prepared, how, print, ["0-3", "0-2", "0-1"], facts, facts.update, ("PyTorch",))

    with pytest.raises(KeyboardInterrupt):
        go_on()
    assert list(facts["timed"]) == ["0-3", "0-2"]
    go_on()
    assert calls == [["0-3", "0-2"], ["0-3", "0-1"], ["0-3", "0-1"]]


def test_times_of_another_machine_or_version_do_not_count() -> None:
    facts = {"timed": {"0-3": {}}, "timed_on": {"hardware": "this", "tokens": 16, "torch": "1"}}
    assert timing._kept(facts, {"hardware": "this", "tokens": 16})
    assert not timing._kept(facts, {"hardware": "that", "tokens": 16})
    assert not timing._kept(facts, {"hardware": "this", "tokens": 16, "onnxruntime": "1"})
    assert not timing._kept({"timed": {"0-3": {}}}, {"hardware": "this"})


def test_without_the_extra_pytorch_alone_is_timed(storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layersearch.models.onnx.is_installed", lambda: False)
    said, record = timed(storage)
    assert "ONNX Runtime is not timed: `pip install -c constraints.txt '.[onnx]'` in the checkout of" in said.err
    assert record.timed_settings == [("PyTorch", 1), ("PyTorch", 32)]


def test_another_model_in_the_folder_is_refused(storage: str) -> None:
    record = read_study(storage, "tiny", lambda _: None)
    purpose = replace(record.purpose, values={**record.purpose.values, "hardware": "that"})
    with pytest.raises(StudyError, match="belong to that, and this is this; time it there"):
        timing._require_same_hardware(replace(record, purpose=purpose), {"hardware": "this"})


def _prepared(record: Record) -> Any:
    return asked_again(record)


def test_a_light_candidate_is_the_built_one_without_copies(tiny_model: Path) -> None:
    base = load_base(tiny_model, num_labels=2, kind="classification")
    mixing, inputs = Mixing(embeddings=True), measure.inputs_of(base.model, 2, 5)
    for text in ("0 2a 3f 3", "0 2a 3f 3 mix"):
        pattern = Pattern.parse(text)
        light, heavy = timing._light(base, pattern, mixing), build(base.model, pattern, mixing)
        assert torch.equal(light(**inputs).logits, heavy(**inputs).logits)
        own = {tensor.data_ptr() for tensor in base.model.parameters()}
        assert {p.data_ptr() for name, p in light.named_parameters() if "scalar_mix" not in name} <= own


def timing_of(*turns: int) -> Timing:
    return Timing(0, 0, turns)


def test_a_time_is_told_in_three_digits_or_in_whole_milliseconds() -> None:
    assert [shown_ms(time) for time in (0.21649, 43.65, 999.4, 999.6, 1432.1)] == [
        "0.216",
        "43.6",
        "999",
        "1,000",
        "1,432",
    ]
    assert shown(Latency(1432.1, 1500.0)) == "1,432 ms (p95 1,500)"


def test_a_share_is_compared_turn_by_turn() -> None:
    """The machine slows down tenfold in between, and the ratio stays."""
    there = timing_of(*[100] * 10, *[1000] * 10)
    here = timing_of(*[80] * 10, *[800] * 10)
    assert share_of(here, there) == (0.8, 0.8)
    noisy = timing_of(*[90, 110] * 10)
    low, high = share_of(noisy, timing_of(*[100] * 20))
    assert low < 1 < high


def test_no_time_is_bought_where_the_interval_reaches_the_unchanged_model() -> None:
    unchanged = Latency(10.0, 11.0)
    assert bought_none(Latency(9.9, 11.0, (0.95, 1.01)), unchanged)
    assert not bought_none(Latency(9.9, 11.0, (0.95, 0.99)), unchanged)
    assert bought_none(Latency(10.0, 11.0), unchanged)  # a study of an earlier version has no intervals
    assert not bought_none(Latency(9.0, 11.0), unchanged)
    assert not bought_none(Latency(9.0, 11.0), None)


def test_fewer_parameters_that_bought_no_time_are_warned_of(
    tiny_run: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = read_study(str(tiny_run.storage), "tiny", lambda _: None)
    row = record.front[-1]
    assert (row.parameters or 0) < record.parameters
    kept = {"1": [990000, 1100000, 0.97, 1.02], "32": [8000000, 9000000, 0.5, 0.6]}
    full = {"1": [1000000, 1100000], "32": [16000000, 17000000]}
    slow = replace(record, facts={**record.facts, "timed": {row.pattern: kept, record.unchanged: full}})
    warned = [note for note in notes_on_costs(slow) if note.startswith("warning")]
    assert warned == [f"warning: fewer parameters bought no time on PyTorch, batch size 1: trial {row.number}"]
    print_trial(output(), slow, row.number, "")
    shown = capsys.readouterr().out
    assert "0.99 ms (p95 1.1), 97.0% to 102.0% of the unchanged model's; its fewer parameters bought no time" in shown
    write_report(slow, tmp_path / "report.html", "")
    page = (tmp_path / "report.html").read_text()
    assert "Warning: fewer parameters bought no time on PyTorch, batch size 1" in page


def test_a_budget_of_latency_names_the_command_that_measures_it(tiny_run: TinyRun) -> None:
    record = read_study(str(tiny_run.storage), "tiny", lambda _: None)
    with pytest.raises(StudyError, match=r"no latency was measured in study 'tiny'; `layersearch time tiny` does$"):
        best(record, Wish(max_latency=parse_limit("latency", "8ms")))

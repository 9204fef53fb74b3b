"""Clocks, memory and energy: on a tiny model, and over counters that a test makes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from layersearch.errors import ModelError
from layersearch.kinds import KindName
from layersearch.models import measure
from layersearch.models.measure import activation_bytes, hardware, inputs_of, joules, timed
from layersearch.models.surgery import auto_class

from .conftest import from_config, tiny_config
from .tiny_decoders import DECODERS


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SECONDS", 0.02)
    monkeypatch.setattr(measure, "ENERGY_SECONDS", 0.02)


def test_what_takes_longer_is_measured_as_longer() -> None:
    found = timed({"short": lambda: time.sleep(0.001), "long": lambda: time.sleep(0.004)}, "cpu")
    assert 1e6 <= found["short"].median <= found["short"].p95
    assert found["long"].median > 1.5 * found["short"].median


def test_runs_take_turns_after_a_warm_up() -> None:
    order: list[str] = []
    timed({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, "cpu")
    warm = ["a"] * measure.WARM_UP + ["b"] * measure.WARM_UP
    assert order[: len(warm)] == warm
    assert order[len(warm) :] == ["a", "b"] * ((len(order) - len(warm)) // 2)
    assert len(order) - len(warm) >= 2 * measure.FEWEST


def test_the_hardware_has_a_name_and_its_threads() -> None:
    assert hardware("cpu").endswith(f", {torch.get_num_threads()} threads")


def test_inputs_fill_the_batch_and_the_length() -> None:
    model = from_config(AutoModelForSequenceClassification, tiny_config("bert")).eval()  # type: ignore[no-untyped-call]
    inputs = inputs_of(model, 3, 11)
    assert inputs["input_ids"].shape == inputs["attention_mask"].shape == (3, 11)
    assert model(**inputs).logits.shape == (3, 3)


@pytest.mark.parametrize(("name", "kind"), [("vit", "image-classification"), ("gpt2", "causal-lm"), ("t5", "span")])
def test_inputs_fit_other_kinds_of_heads(name: str, kind: KindName) -> None:
    config = DECODERS[name].config()
    config.num_labels = 2
    model = from_config(auto_class(kind), config).eval()  # type: ignore[no-untyped-call]
    output = model(**inputs_of(model, 3, 11))
    shapes = {"vit": (3, 2), "gpt2": (3, 11, 60), "t5": (3, 11)}
    assert (output.start_logits if kind == "span" else output.logits).shape == shapes[name]


def test_the_bytes_alive_are_those_held_at_the_worst_moment() -> None:
    given = torch.zeros(1000)

    def run() -> torch.Tensor:
        held = given + 1  # 4,000 bytes
        for _ in range(5):
            held = held * 2  # and as many again, for a moment
        return held.view(10, 100)

    assert activation_bytes(run, "cpu") == 8000


def counters(folder: Path, value: int, *more: str) -> Path:
    for name in ("intel-rapl:0", "intel-rapl:0:0", *more):
        (folder / name).mkdir()
        (folder / name / "energy_uj").write_text(f"{value}\n")
        (folder / name / "max_energy_range_uj").write_text("1000000\n")
    return folder


def test_energy_is_what_the_counters_of_all_packages_add(tmp_path: Path) -> None:
    """The part `intel-rapl:0:0` lies inside its package and does not count twice; a counter may begin anew."""
    powercap = counters(tmp_path, 5, "intel-rapl:1")
    runs = 0

    def run() -> None:
        nonlocal runs
        runs += 1
        time.sleep(0.002)
        (tmp_path / "intel-rapl:0/energy_uj").write_text(f"{(990_000 + 2000 * runs) % 1_000_000}\n")

    assert joules(run, "cpu", powercap) == pytest.approx(0.002)


def test_a_machine_that_tells_no_energy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"energy cannot be measured: this machine has no RAPL counters"):
        joules(lambda: None, "cpu", tmp_path)


def test_a_counter_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    powercap = counters(tmp_path, 1)
    (tmp_path / "intel-rapl:0/energy_uj").unlink()
    with pytest.raises(
        ModelError, match=r"energy_uj cannot be read; only root may, .*: run as root, or choose another objective$"
    ):
        joules(lambda: None, "cpu", powercap)

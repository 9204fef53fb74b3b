"""Zeros leave with a candidate: every form of an export holds them, its proof counts them, its card names them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel

import layersearch
from layersearch.models import checkpoint
from layersearch.models.card import write_card
from layersearch.models.case import Case
from layersearch.models.export import export
from layersearch.models.folder import read_record
from layersearch.models.matrices import matrices_of, not_zero, zeros_in
from layersearch.models.onnx import zeros_in_graph
from layersearch.models.onnx_export import export_onnx
from layersearch.models.proof import examine
from layersearch.models.surgery import build
from layersearch.pattern import Pattern
from layersearch.training.schedule import Sparsity
from layersearch.training.sparsity import Thinning

from .conftest import LAYERS, TEXTS
from .test_export import CARD

SPARSE = replace(CARD, recipe={**CARD.recipe, "sparsity": 0.75})


@pytest.fixture
def source(make_tiny: Callable[[str], PreTrainedModel], tmp_path: Path) -> Callable[[str], Path]:
    """A checkpoint of a tiny BERT of the given pattern, three quarters of whose matrices' weights are zero."""

    def write(text: str) -> Path:
        pattern = Pattern.parse(text)
        candidate = build(make_tiny("bert"), pattern)
        thinning = Thinning(candidate, Sparsity(0.75, "magnitude", "global", 0.0, 1.0), 1)
        thinning.lift()
        thinning.press()
        checkpoint.save(candidate, pattern, tmp_path / "kept", source_layers=LAYERS, extras={"trial": 7})
        return tmp_path / "kept"

    return write


@pytest.mark.parametrize(("text", "form"), [("0 1a 2f", "with code"), ("0 0t 3", "native")])
def test_an_exported_folder_has_the_zeros_and_its_proof_counts_them(
    source: Callable[[str], Path], tokenizer_folder: Path, tmp_path: Path, text: str, form: str
) -> None:
    kept, to = source(text), tmp_path / "it"
    there, _ = checkpoint.load(kept)
    proof = export(kept, to, tokenizer_folder, TEXTS, SPARSE)
    assert proof.form == form
    model, _ = layersearch.load(to)
    zeros, weights = zeros_in(there)
    assert proof.zeros == (zeros, weights)
    assert zeros / weights == pytest.approx(0.75, abs=1e-3)
    assert str(proof).endswith(
        f", {zeros / weights:.2%} of the {weights:,} weights of the layers' matrices exactly zero"
    )
    tensors = load_file(to / "model.safetensors")
    assert not [name for name in tensors if "parametrizations" in name or "mask" in name]
    assert sum(int((tensor == 0).sum()) for tensor in tensors.values()) >= zeros
    found = dict(there.named_parameters())
    assert all(torch.equal(found[name] == 0, m == 0) for name, m in matrices_of(model).items() if name in found)
    card = (to / "README.md").read_text()
    assert f"| zeros | {zeros / weights:.1%} of the {weights:,} weights of the layers' matrices; " in card
    assert f"; {not_zero(there):,} parameters are not zero" in card
    assert "PyTorch is not faster with zeros" in card
    case = read_record(to)["case"]
    assert len(case["matrices"]) == len(matrices_of(there))
    assert failures(to, {}) == []
    assert failures(to, {"zeros": (zeros + 1, weights)}) == [
        f"weights that are exactly zero: {zeros} instead of {zeros + 1}"
    ]


def failures(folder: Path, changes: dict[str, Any]) -> list[str]:
    """What the proof finds wrong with an exported folder, in this process, when its record had `changes`."""
    record = read_record(folder)
    found: list[str] = examine(
        folder, {**record["case"], "texts": (), "code": record["form"] == "with code", **changes}
    )["failed"]
    return found


def test_a_graph_has_the_zeros_too(source: Callable[[str], Path], tokenizer_folder: Path, tmp_path: Path) -> None:
    kept, to = source("0 1a 2f"), tmp_path / "it"
    proof = export_onnx(kept, to, tokenizer_folder, TEXTS, SPARSE)
    zeros, weights = zeros_in(checkpoint.load(kept)[0])
    assert proof.zeros == (zeros, weights)
    assert zeros <= zeros_in_graph(to / "model.onnx") < zeros + 100
    assert "weights of the layers' matrices exactly zero" in str(proof)
    wrong = failures(to, {"zeros": (1_000_000, 2_000_000)})
    assert [sentence for sentence in wrong if sentence.endswith("instead of 1000000 or more")]


def test_a_card_of_a_dense_recipe_says_nothing_of_zeros(source: Callable[[str], Path]) -> None:
    manifest = checkpoint.read(source("0-1"))
    assert "| zeros | 75.0% of the 4 weights" in write_card(replace(SPARSE, zeros=(3, 4), non_zero=5), manifest)
    assert "| zeros |" not in write_card(replace(CARD, zeros=(3, 4), non_zero=5), manifest)
    assert "| zeros |" not in write_card(replace(SPARSE, zeros=(0, 4)), manifest)
    assert asdict(Case((), 8, [], [], 0, 0.0, "", "", {}))["zeros"] == (0, 0)  # records of older folders have none

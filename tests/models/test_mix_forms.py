"""Models that mix their layers, exported: with code and as a graph, proven, opened, saved and proven again."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

import layersearch
from layersearch.errors import ExportError
from layersearch.kinds import KindName
from layersearch.mixing import Mixing
from layersearch.models import checkpoint
from layersearch.models import export as export_module
from layersearch.models.base import quiet
from layersearch.models.case import GRAPH
from layersearch.models.export import export, write_folder
from layersearch.models.mix import MIX
from layersearch.models.onnx import OnnxModel, write_onnx
from layersearch.models.onnx_export import export_onnx
from layersearch.models.opened import verify
from layersearch.models.page import PAGE
from layersearch.models.proof import examine
from layersearch.models.readout import learnt
from layersearch.models.surgery import build
from layersearch.pattern import Pattern

from .conftest import LAYERS, TEXTS
from .test_conformance import TINY, answer
from .test_export import CARD
from .test_forms import inputs_of, pictures
from .test_mix import drawn
from .test_onnx import REFUSED, largest_difference
from .test_onnx import inputs_of as graph_inputs

__all__ = ["pictures"]
ALL = Mixing(norm=True, embeddings=True)
GENERATING = [name for name, tiny in TINY.items() if AutoModelForCausalLM in tiny.heads]


def pattern_for(name: str) -> Pattern:
    """With halves, or without, and a layer twice; of each stack."""
    return Pattern.parse("0 1a 2f 2f 3 mix" if TINY[name].halves else "0-1 1 3 mix")


@pytest.mark.parametrize("name", TINY)
@torch.no_grad()
def test_every_family_leaves_with_code(
    name: str, tokenizer: PreTrainedTokenizerFast, pictures: list[tuple[str, ...]], tmp_path: Path
) -> None:
    reader, texts, kind = inputs_of(name, tokenizer, pictures)
    pattern, head = pattern_for(name), TINY[name].heads[0]
    candidate = drawn(build(TINY[name].model(), pattern, ALL))
    case = write_folder(candidate, reader, tmp_path / "it", texts, 16, kind, pattern)
    assert (tmp_path / "it" / PAGE).exists()
    found = examine(tmp_path / "it", asdict(case))
    assert found["failed"] == []
    assert found["max_difference"] <= case.tolerance
    model = head.from_pretrained(tmp_path / "it", trust_remote_code=True)
    model.save_pretrained(tmp_path / "again")
    again, info = head.from_pretrained(tmp_path / "again", trust_remote_code=True, output_loading_info=True)
    assert not any(info.values()), info
    assert torch.equal(answer(again, TINY[name].inputs()), answer(candidate, TINY[name].inputs()))
    fresh = head.from_config(model.config, trust_remote_code=True)
    assert {key: value.shape for key, value in fresh.state_dict().items()} == {
        key: value.shape for key, value in model.state_dict().items()
    }


@pytest.mark.parametrize("name", ["gpt2", "qwen3"])
def test_a_language_model_with_a_mix_is_proven_to_generate(
    name: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    candidate = drawn(build(TINY[name].model(AutoModelForCausalLM), pattern_for(name)))
    case = write_folder(candidate, tokenizer, tmp_path / "it", TEXTS, 16, "causal-lm", pattern_for(name))
    found = examine(tmp_path / "it", asdict(case))
    assert (found["failed"], found["cached"]) == ([], True)


def test_the_page_is_readable_and_imports_torch_and_transformers_alone(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    pattern = Pattern.parse("0 2 mix")
    write_folder(build(TINY["bert"].model(), pattern), tokenizer, tmp_path, TEXTS, 16, "classification", pattern)
    text = (tmp_path / PAGE).read_text()
    imported = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert imported == {"__future__", "collections.abc", "contextlib", "copy", "torch", "transformers", "typing"}
    assert text.startswith('"""BertForSequenceClassification with a mix of its layers in place of the last one.\n')
    assert len(text.splitlines()) < 300
    assert max(map(len, text.splitlines())) <= 120


Exported = Callable[..., Path]


@pytest.fixture
def exported(tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Exported:
    """Exports a tiny model with a mix, proven in this process."""

    def examined(folder: Path, case: Any) -> dict[str, Any]:
        with quiet():
            return examine(folder, asdict(case))

    monkeypatch.setattr(export_module, "_examine", examined)

    def make(name: str, mixing: Mixing, form: str = "with code") -> Path:
        pattern, kept = pattern_for(name), tmp_path / "kept"
        model = drawn(build(TINY[name].model(), pattern, mixing))
        checkpoint.save(model, pattern, kept, source_layers=LAYERS, extras={})
        card = replace(CARD, recipe={**CARD.recipe, "mix": str(mixing)})
        if form == "onnx":
            export_onnx(kept, tmp_path / "out", tokenizer_folder, TEXTS, card, 16)
        else:
            export(kept, tmp_path / "out", tokenizer_folder, TEXTS, card, 16)
        return tmp_path / "out"

    return make


@pytest.mark.parametrize("name", ["bert", "albert", "ernie, which has no row", "t5", "modernbert"])
@torch.no_grad()
def test_a_folder_with_a_mix_is_loaded_proven_again_and_says_what_it_mixes(
    name: str, exported: Exported, tmp_path: Path
) -> None:
    folder = exported(name, ALL)
    model, _ = layersearch.load(folder)
    kept, manifest = checkpoint.load(tmp_path / "kept")
    assert torch.equal(answer(model, TINY[name].inputs()), answer(kept, TINY[name].inputs()))
    assert verify(folder).problems == ()
    card = (folder / "README.md").read_text()
    words = learnt(kept, manifest.pattern)
    assert words is not None
    assert (
        f"| read-out | a scalar mix of the layers (norm embeddings) in place of the last one, learnt: {words} |" in card
    )
    assert "Σ the head reads a mix of the layers" in card
    assert "fine-tuned; its head reads a mix of them. The code\n" in card
    model.save_pretrained(tmp_path / "again")
    again = TINY[name].heads[0].from_pretrained(tmp_path / "again", trust_remote_code=True)
    assert torch.equal(answer(again, TINY[name].inputs()), answer(kept, TINY[name].inputs()))


@torch.no_grad()
def test_a_folder_that_mixes_after_the_pooler_is_proven(exported: Exported) -> None:
    folder = exported("bert", Mixing(after_pooler=True))
    assert verify(folder).problems == ()
    page = folder / PAGE
    page.write_text(page.read_text() + "\n")
    assert verify(folder).problems != ()


@pytest.mark.parametrize("mixing", [ALL, Mixing(after_pooler=True), Mixing(softmax=False, gamma=False)])
def test_a_mix_leaves_as_a_proven_graph(mixing: Mixing, exported: Exported) -> None:
    pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")
    folder = exported("bert", mixing, "onnx")
    assert (folder / GRAPH).exists()
    assert verify(folder).problems == ()
    assert "| read-out | a scalar mix of the layers" in (folder / "README.md").read_text()


def kinds() -> list[tuple[str, KindName]]:
    found: list[tuple[str, KindName]] = []
    for name, entry in TINY.items():
        if entry.model_type not in ("t5", "bart"):
            found.append((name, "image-classification" if entry.model_type == "vit" else "classification"))
            found += [(name, "causal-lm")] * (name in GENERATING)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), kinds())
def test_every_family_is_equal_or_refused_as_a_graph(name: str, kind: KindName, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")
    entry = TINY[name]
    model = drawn(build(entry.model(AutoModelForCausalLM if kind == "causal-lm" else None), pattern_for(name), ALL))
    if entry.model_type in REFUSED:
        with pytest.raises(ExportError, match=f"cannot do this {entry.model_type} model"):
            write_onnx(model, graph_inputs(entry), tmp_path / GRAPH, kind)
        return
    write_onnx(model, graph_inputs(entry), tmp_path / GRAPH, kind)
    assert largest_difference(model, OnnxModel(tmp_path / GRAPH, model.config), entry) < 1e-4


@pytest.mark.slow
def test_a_mix_opens_where_layersearch_is_not_installed(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    pattern = Pattern.parse("0 2-3 mix")
    candidate = drawn(build(TINY["bert"].model(), pattern, ALL))
    write_folder(candidate, tokenizer, tmp_path / "it", TEXTS, 16, "classification", pattern)
    code = """
import sys
sys.modules["layersearch"] = None
from transformers import AutoModelForSequenceClassification
model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1], trust_remote_code=True)
print(sorted(name for name, _ in model.named_parameters() if "mix" in name))
"""
    command = [sys.executable, "-c", code, str(tmp_path / "it")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.splitlines()[-1] == str([f"bert.encoder.{MIX}.gamma", f"bert.encoder.{MIX}.scalars"])

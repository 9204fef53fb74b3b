"""ONNX graphs: any pattern, batch and length, equal to PyTorch; what the exporter cannot do is told in one line."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from layersearch.errors import ExportError
from layersearch.kinds import KINDS, KindName
from layersearch.models import onnx
from layersearch.models.case import GRAPH
from layersearch.models.onnx import OnnxModel, require_onnx, write_onnx
from layersearch.models.proof import answers
from layersearch.models.surgery import auto_class, build
from layersearch.pattern import Pattern

from .tiny import TINY, Tiny
from .tiny_decoders import DECODERS

ENTRIES: Mapping[str, Tiny] = {**TINY, **DECODERS}
REFUSED = {"xlnet", "t5", "bart"}  # the README's table says so; a newer exporter may mend it
Shape = tuple[int, int]
SHAPES: tuple[Shape, ...] = ((1, 1), (1, 4), (5, 13), (2, 30))


def candidate(name: str, pattern: str, kind: KindName = "classification") -> PreTrainedModel:
    entry = ENTRIES[name]
    model = entry.model(auto_class(kind))
    if kind == "span":
        config = entry.config()
        config.num_labels = 2
        model = auto_class(kind).from_config(config, dtype=torch.float32).eval()
    return build(model, Pattern.parse(pattern))


def inputs_of(entry: Tiny, shape: Shape | None = None) -> dict[str, torch.Tensor]:
    """The entry's own inputs, or others of `shape`, of which every second text is half padding."""
    taken = ("input_ids", "attention_mask", "token_type_ids", "pixel_values")
    own = {name: tensor for name, tensor in entry.inputs().items() if name in taken}
    if shape is None:
        return own
    generator = torch.Generator().manual_seed(sum(shape))
    if "pixel_values" in own:
        return {"pixel_values": torch.randn(shape[0], *own["pixel_values"].shape[1:], generator=generator)}
    ids = torch.randint(3, 60, shape, generator=generator)
    mask = torch.ones_like(ids)
    mask[1::2, shape[1] // 2 + 1 :] = 0
    more = {"token_type_ids": torch.zeros_like(ids)} if "token_type_ids" in own else {}
    return {"input_ids": ids.where(mask.bool(), 1), "attention_mask": mask, **more}


def largest_difference(model: PreTrainedModel, graph: OnnxModel, entry: Tiny) -> float:
    """Over the traced and other shapes, in units of the largest logit above 1."""
    worst = 0.0
    for shape in (None, *SHAPES):
        inputs = inputs_of(entry, shape)
        expected, found = answers(model, inputs), answers(graph, inputs)
        if expected.numel():  # one token foretells none
            worst = max(worst, ((found - expected).abs().max() / max(1.0, expected.abs().max())).item())
    return worst


def test_a_graph_answers_as_the_candidate_at_any_batch_and_length(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")
    model = candidate("bert", "0 1a 2f 3")
    write_onnx(model, inputs_of(TINY["bert"]), tmp_path / GRAPH, "classification")
    graph = OnnxModel(tmp_path / GRAPH, model.config, threads=1)
    assert largest_difference(model, graph, TINY["bert"]) < 1e-5
    assert [file.name for file in tmp_path.iterdir()] == [GRAPH]


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "find_spec", lambda name: None if name == "onnxscript" else find_spec("json"))
    assert not onnx.is_installed()
    with pytest.raises(ExportError, match=r"ONNX needs onnxscript, .* `pip install layersearch\[onnx\]`$"):
        require_onnx()


def test_what_the_exporter_cannot_do_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")

    def fail(*_: Any, **__: Any) -> None:
        raise torch.onnx.OnnxExporterError("step 1 of 3\nadvice") from ValueError("no `aten.sub`\nmore")

    monkeypatch.setattr(torch.onnx, "export", fail)
    model: Any = SimpleNamespace(config=SimpleNamespace(model_type="xlnet", use_cache=True), parameters=list)
    with pytest.raises(ExportError, match=r"^torch's ONNX exporter cannot do this xlnet model \(no `aten.sub`\); "):
        write_onnx(model, {}, tmp_path / GRAPH, "classification")
    assert model.config.use_cache


def cases() -> list[tuple[str, KindName]]:
    found: list[tuple[str, KindName]] = []
    for name, entry in ENTRIES.items():
        kinds: tuple[KindName, ...] = ("image-classification",) if entry.model_type == "vit" else ("classification",)
        heads = {head.__name__ for head in entry.heads}
        found += [(name, kind) for kind in (*kinds, "causal-lm") if kind in kinds or KINDS[kind].head in heads]
    return [*found, ("bert", "token-classification"), ("bert", "span"), ("modernbert", "token-classification")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), cases())
def test_every_family_is_equal_or_refused(name: str, kind: KindName, tmp_path: Path) -> None:
    """A silent difference is the only failure that matters; what is refused stands in the README's table."""
    pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")
    entry = ENTRIES[name]
    model = candidate(name, entry.halved[0] if entry.halves else entry.whole[0], kind)
    if entry.model_type in REFUSED:
        with pytest.raises(ExportError, match=f"cannot do this {entry.model_type} model"):
            write_onnx(model, inputs_of(entry), tmp_path / GRAPH, kind)
        return
    write_onnx(model, inputs_of(entry), tmp_path / GRAPH, kind)
    assert largest_difference(model, OnnxModel(tmp_path / GRAPH, model.config, threads=1), entry) < 1e-4

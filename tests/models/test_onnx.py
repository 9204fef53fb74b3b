"""ONNX graphs: any pattern, batch and length, equal to PyTorch; what the exporter cannot do is told in one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedModel

from layersearch.errors import ExportError
from layersearch.kinds import KINDS, KindName
from layersearch.models import checkpoint, measure, onnx, onnx_export
from layersearch.models import export as export_module
from layersearch.models.base import load_base
from layersearch.models.case import GRAPH, Case, Proof
from layersearch.models.measure import share_of, timed
from layersearch.models.onnx import OnnxModel, require_onnx, write_onnx
from layersearch.models.onnx_export import export_onnx
from layersearch.models.opened import load, verify
from layersearch.models.places import configs_of
from layersearch.models.proof import answers, examine
from layersearch.models.surgery import auto_class, build
from layersearch.pattern import Pattern

from .conftest import TEXTS
from .test_export import CARD
from .tiny import TINY, Tiny
from .tiny_decoders import DECODERS

ENTRIES: Mapping[str, Tiny] = {**TINY, **DECODERS}
REFUSED = {"xlnet"}  # the README's table says so; a newer exporter may mend it
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
    if entry.model_type in ("t5", "bart"):  # their heads ask each text for its end
        ids[torch.arange(shape[0]), mask.sum(1) - 1] = 2
    more = {"token_type_ids": torch.zeros_like(ids)} if "token_type_ids" in own else {}
    return {"input_ids": ids.where(mask.bool(), 1), "attention_mask": mask, **more}


def largest_difference(model: PreTrainedModel, graph: OnnxModel, entry: Tiny) -> float:
    """Over the traced and other shapes, in units of the largest logit above 1."""
    worst = 0.0
    for shape in (None, *SHAPES):
        inputs = inputs_of(entry, shape)
        expected, found = answers(model, inputs), answers(graph, inputs)
        assert bool(found.isfinite().all())
        if expected.numel():  # one token foretells none
            worst = max(worst, (found - expected).abs().max().item() / max(1.0, expected.abs().max().item()))
    return worst


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A checkpoint of a tiny BERT with halves."""
    pattern = Pattern.parse("0 1a 2f 3")
    checkpoint.save(candidate("bert", str(pattern)), pattern, tmp_path / "kept", source_layers=4, extras={})
    return tmp_path / "kept"


def exported(kept: Path, tokenizer_folder: Path, to: Path) -> Proof:
    pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")
    return export_onnx(kept, to, tokenizer_folder, TEXTS, CARD, 16)


def test_halves_leave_as_a_proven_graph_and_a_damaged_one_is_caught(
    kept: Path, tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the proof in this process; the slow test below has it in a fresh one."""
    monkeypatch.setattr(export_module, "_examine", lambda folder, case: examine(folder, asdict(case)))
    to = tmp_path / "out"
    proof = exported(kept, tokenizer_folder, to)
    assert (proof.form, proof.inputs, proof.cached) == ("onnx", 3, False)
    assert 0 <= proof.max_difference <= proof.tolerance
    assert str(proof).startswith("proven in a fresh process in ")
    assert proof.call == f'onnxruntime.InferenceSession("{to}/model.onnx")'
    names = ["README.md", "config.json", "layersearch.json", GRAPH, "tokenizer.json", "tokenizer_config.json"]
    assert sorted(file.name for file in to.iterdir()) == names
    assert 'onnxruntime.InferenceSession(f"{folder}/model.onnx")' in (to / "README.md").read_text()
    with pytest.raises(
        ExportError, match="holds a graph for ONNX Runtime and no weights for PyTorch; open it with onn"
    ):
        load(to)
    assert verify(to).problems == ()
    case = Case(**json.loads((to / "layersearch.json").read_text())["case"])
    other = {**case.made, "logits": [[9.0, 9.0, 9.0]] * 3}
    assert "they differ by up to" in examine(to, asdict(replace(case, made=other)))["failed"][0]
    graph = to / GRAPH
    graph.write_bytes(graph.read_bytes()[:-100])
    assert "model.onnx has " in verify(to).problems[0]


@pytest.mark.parametrize(
    ("name", "kind", "typed"),
    [("gpt2", "classification", True), ("gpt2", "causal-lm", False), ("llama", "classification", False)],
)
def test_a_graph_takes_token_types_only_where_the_model_was_trained_with_them(
    name: str, kind: KindName, typed: bool, tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To GPT-2 a text of the first token type is another than one of none; Llama knows of no types."""
    monkeypatch.setattr(export_module, "_examine", lambda folder, case: examine(folder, asdict(case)))
    names = ["input_ids", "token_type_ids", "attention_mask"]
    AutoTokenizer.from_pretrained(tokenizer_folder, model_input_names=names).save_pretrained(tokenizer_folder)
    assert list(AutoTokenizer.from_pretrained(tokenizer_folder)("a")) == names
    pattern = Pattern.parse("0-2")
    checkpoint.save(candidate(name, "0-2", kind), pattern, tmp_path / "kept", source_layers=4, extras={}, kind=kind)
    exported(tmp_path / "kept", tokenizer_folder, tmp_path / "out")
    takes = {one.name for one in onnx.open_session(tmp_path / "out" / GRAPH, 1).get_inputs()}
    assert ("token_type_ids" in takes) == typed
    given = AutoTokenizer.from_pretrained(tmp_path / "out")("a")
    assert ("token_type_ids" in given) == (kind == "classification"), "text that only goes on has no parts"


def test_a_graph_that_answers_otherwise_leaves_nothing(
    kept: Path, tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_export, "write_onnx", lambda *_: None)
    wrong = {"failed": ["logits of 1 x 3 inputs: they differ by up to 0.5, allowed are 0.0001"]}
    monkeypatch.setattr(export_module, "_examine", lambda *_: wrong)
    with pytest.raises(ExportError, match=r"did not pass its proof: logits of 1 x 3 inputs: they differ by up to 0\.5"):
        exported(kept, tokenizer_folder, tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir() if "out" in file.name] == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_proof_of_a_graph_runs_in_a_fresh_process(
    kept: Path, tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And weights that are too large for one file lie beside it."""
    monkeypatch.setattr(onnx, "LARGEST", 0)
    proof = exported(kept, tokenizer_folder, tmp_path / "out")
    assert proof.max_difference <= proof.tolerance
    assert (tmp_path / "out" / f"{GRAPH}.data").is_file()
    assert verify(tmp_path / "out").problems == ()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_minilm_takes_no_longer_on_onnx_runtime(minilm: Path, tmp_path: Path) -> None:
    """At batch size 1, in turns within one run, beyond the noise of the machine."""
    pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")
    model = load_base(minilm, num_labels=2, kind="classification").model
    write_onnx(model, measure.inputs_of(model, 2, 8), tmp_path / GRAPH, "classification")
    graph, inputs = OnnxModel(tmp_path / GRAPH, model.config), measure.inputs_of(model, 1, 128)
    times = timed({"PyTorch": lambda: model(**inputs), "ONNX Runtime": lambda: graph(**inputs)}, "cpu")
    assert share_of(times["ONNX Runtime"], times["PyTorch"])[0] <= 1


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "find_spec", lambda name: None if name == "onnxscript" else find_spec("json"))
    assert not onnx.is_installed()
    with pytest.raises(ExportError, match=r"ONNX needs onnxscript, .* `pip install .* '\.\[onnx\]'` in the checkout"):
        require_onnx()


def test_what_the_exporter_cannot_do_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason="the extra `onnx` is not installed")

    model = candidate("t5", "0-3")
    configs = configs_of(model).values()
    for config in configs:
        config.use_cache = True

    def fail(*_: Any, **__: Any) -> None:
        assert [config.use_cache for config in configs] == [False] * len(configs)
        raise torch.onnx.OnnxExporterError("step 1 of 3\nadvice") from ValueError("no `aten.sub`\nmore")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(ExportError, match=r"^torch's ONNX exporter cannot do this t5 model \(no `aten.sub`\); "):
        write_onnx(model, {}, tmp_path / GRAPH, "classification")
    assert [config.use_cache for config in configs] == [True] * 3, "as before, of the model and of both stacks"


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
    assert largest_difference(model, OnnxModel(tmp_path / GRAPH, model.config), entry) < 1e-4

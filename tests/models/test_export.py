"""Exports: what gets its name opens in a fresh process with plain transformers, and a wrong folder never does."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from layersearch.durable import sha256_of
from layersearch.errors import ExportError, ModelError, TrainingError, WordsError
from layersearch.models import checkpoint
from layersearch.models import export as module
from layersearch.models.base import load_base, load_reader
from layersearch.models.card import ModelCard, Score, write_card
from layersearch.models.case import Case, Proof, Validation
from layersearch.models.export import export, name_labels, prove, write_folder
from layersearch.models.proof import ANSWERS, examine
from layersearch.models.surgery import build
from layersearch.pattern import Pattern
from layersearch.tasks import load_task

from .conftest import LAYERS, TEXTS
from .tiny_decoders import DECODERS

CARD = ModelCard(
    base_model="someone/base-model",
    revision="abc123",
    task="mrpc",
    labels=("no", "perhaps", "yes"),
    metric="accuracy",
    scores=(Score("search split", 0.85, 0.84, (0.80, 0.88)), Score("validation, mean of 3 seeds", 0.86, 0.83)),
    baseline_parameters=20_000,
    recipe={"lr": 5e-5, "epochs": 3},
    seed=42,
    versions={"torch": "2.13.0"},
    trained_with="torch 2.12.0",
    command="layersearch run --model someone/base-model --task mrpc",
)


@pytest.fixture
def source(make_tiny: Callable[[str], PreTrainedModel], tmp_path: Path) -> Callable[[str], Path]:
    """A checkpoint of a tiny BERT with the given pattern."""

    def write(text: str) -> Path:
        pattern = Pattern.parse(text)
        candidate = build(make_tiny("bert"), pattern)
        checkpoint.save(candidate, pattern, tmp_path / "kept", source_layers=LAYERS, extras={"trial": 7})
        return tmp_path / "kept"

    return write


@pytest.fixture
def written(
    make_tiny: Callable[[str], PreTrainedModel], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> tuple[Path, Case]:
    """An unproven export of a tiny BERT, and what it has to reproduce."""
    folder = tmp_path / "written"
    folder.mkdir()
    return folder, write_folder(build(make_tiny("bert"), Pattern.parse("0-1 3")), tokenizer, folder, TEXTS, 16)


def swap_layers(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    other = {"0": "1", "1": "0"}
    swapped = {}
    for name, tensor in tensors.items():
        parts = name.split(".")
        if parts[:3] == ["bert", "encoder", "layer"]:
            parts[3] = other.get(parts[3], parts[3])
        swapped[".".join(parts)] = tensor.clone()
    save_file(swapped, folder / "model.safetensors", metadata={"format": "pt"})


def config_with(**values: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return change


def other_words(folder: Path) -> None:
    file = folder / "tokenizer.json"
    values = json.loads(file.read_text())
    words = values["model"]["vocab"]
    words["cat"], words["mat"] = words["mat"], words["cat"]
    file.write_text(json.dumps(values))


def test_tied_copies_leave_as_layers_of_their_own(
    source: Callable[[str], Path], tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = source("0-1 1t 3")
    needed: list[int] = []
    monkeypatch.setattr(checkpoint, "_require_space", lambda _, size: needed.append(size))
    proof = export(kept, tmp_path / "it", tokenizer_folder, TEXTS, CARD)
    layers = AutoModelForSequenceClassification.from_pretrained(tmp_path / "it").bert.encoder.layer
    assert all(torch.equal(one, two) for one, two in zip(layers[1].parameters(), layers[2].parameters(), strict=True))
    assert needed == [4 * proof.parameters]  # bytes, fp32
    assert proof.parameters == checkpoint.read(kept).parameters + sum(p.numel() for p in layers[2].parameters())
    assert "tied copies counted once; in this folder each has its own" in (tmp_path / "it" / "README.md").read_text()


def test_a_proven_folder_opens_and_says_what_it_is(
    source: Callable[[str], Path], tokenizer_folder: Path, tmp_path: Path
) -> None:
    to = tmp_path / "exports" / "mine"
    proof = export(source("0-1 1 3"), to, tokenizer_folder, TEXTS, CARD)
    assert sorted(os.listdir(to)) == [
        "README.md", "config.json", "layersearch.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    assert os.listdir(to.parent) == ["mine"]
    model = AutoModelForSequenceClassification.from_pretrained(to)
    assert (proof.folder, proof.inputs, proof.parameters) == (to, 3, sum(p.numel() for p in model.parameters()))
    assert proof.max_difference <= proof.tolerance <= 1e-4
    record = json.loads((to / "layersearch.json").read_text())
    assert (record["pattern"], record["checkpoint"]) == ("0-1 1 3", {"trial": 7})
    assert record["files"]["model.safetensors"]["sha256"] == sha256_of(to / "model.safetensors")
    assert sorted(record["files"]) == sorted({*os.listdir(to)} - {"layersearch.json"})
    assert (record["form"], record["kind"], record["model_type"]) == ("native", "classification", "bert")
    assert not any(word in json.dumps(record["case"]) for text in TEXTS for word in text), "no data in the folder"
    assert record["proof"]["max_difference"] == proof.max_difference
    assert model.config.id2label == {0: "no", 1: "perhaps", 2: "yes"}
    assert model.config.label2id == {"no": 0, "perhaps": 1, "yes": 2}
    assert len({file.stat().st_mode for file in to.iterdir()}) == 1
    for file in to.glob("*.json"):
        assert str(tmp_path) not in file.read_text()
    assert "local_files_only" not in (to / "tokenizer_config.json").read_text()


def test_minilm_exports(minilm: Path, tmp_path: Path) -> None:
    base, pattern = load_base(minilm, num_labels=2, kind="classification"), Pattern.parse("0-2 5")
    candidate = build(base.model, pattern)
    checkpoint.save(candidate, pattern, tmp_path / "kept", source_layers=6, extras={})
    proof = export(tmp_path / "kept", tmp_path / "mine", minilm, TEXTS, replace(CARD, labels=("no", "yes")))
    assert proof.parameters == 22_713_986 - 2 * 1_774_464
    assert proof.seconds < 60


@torch.no_grad()
def test_every_family_reproduces_its_numbers(
    tiny: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    (tmp_path / "it").mkdir()
    case = write_folder(build(tiny, Pattern.parse("0 0 2-3")), tokenizer, tmp_path / "it", TEXTS, 16)
    answer = examine(tmp_path / "it", asdict(case))
    assert answer["failed"] == []
    assert answer["max_difference"] <= case.tolerance


def test_a_decoders_folder_pads_with_the_token_by_which_the_last_is_found(
    tokenizer_folder: Path, tmp_path: Path
) -> None:
    """The tokenizer has a padding token of its own, and the model was padded with an end."""
    model = DECODERS["llama"].model()
    model.config.pad_token_id = 2
    file = tokenizer_folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"padding_side": "left"}))
    checkpoint.save(model, Pattern.parse("0-3"), tmp_path / "kept", source_layers=LAYERS, extras={})
    export(tmp_path / "kept", tmp_path / "it", tokenizer_folder, TEXTS, CARD)
    reader = AutoTokenizer.from_pretrained(tmp_path / "it")
    assert (reader.pad_token_id, reader.padding_side) == (2, "right")
    reader.pad_token = "[PAD]"
    (tmp_path / "wrong").mkdir()
    case = write_folder(checkpoint.load(tmp_path / "kept")[0], reader, tmp_path / "wrong", TEXTS, 16)
    failed = examine(tmp_path / "wrong", asdict(case))["failed"]
    assert len(failed) == 1
    assert failed[0].startswith("padding: the logits of a text differ by ")


@pytest.mark.parametrize(
    ("damage", "checks"),
    [
        (config_with(num_hidden_layers=4), ["missing keys", "parameters: "]),
        (config_with(num_hidden_layers=2), ["unexpected keys", "parameters: "]),
        (config_with(hidden_act="relu"), ["logits: they differ by up to "]),
        (other_words, ["tokenizer: other token ids for the same texts"]),
        (swap_layers, ["logits: they differ by up to "]),
    ],
)
def test_a_wrong_folder_fails_the_examination(
    written: tuple[Path, Case], damage: Callable[[Path], None], checks: list[str]
) -> None:
    folder, case = written
    damage(folder)
    failed = examine(folder, asdict(case))["failed"]
    for check in checks:
        assert any(text.startswith(check) for text in failed), failed


def test_a_wrong_expectation_is_told_with_numbers(written: tuple[Path, Case]) -> None:
    folder, case = written
    shifted = [[value + 0.01 for value in row] for row in case.logits]
    assert examine(folder, asdict(replace(case, logits=shifted)))["failed"] == [
        f"logits: they differ by up to 0.01, allowed are {case.tolerance:.3g}"
    ]
    assert examine(folder, asdict(replace(case, parameters=5)))["failed"] == [
        f"parameters: {case.parameters} instead of 5"
    ]
    assert examine(folder, asdict(replace(case, logits=[[0.0]])))["failed"] == [
        "logits: shape [3, 3] instead of [1, 1]"
    ]
    nan = [[float("nan")] * 3] * 3
    assert examine(folder, asdict(replace(case, logits=nan)))["failed"] != []


def test_a_truncated_file_is_not_proven(written: tuple[Path, Case]) -> None:
    folder, case = written
    os.truncate(folder / "model.safetensors", 2000)
    with pytest.raises(ExportError) as caught:
        prove(folder, case)
    assert str(caught.value).startswith("the exported folder could not be opened in a fresh process: ")
    assert "SafetensorError" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_export_that_fails_its_proof_leaves_nothing(
    source: Callable[[str], Path], tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_wrongly(model: PreTrainedModel, tokenizer: Any, folder: Path, *others: Any) -> Case:
        case = write_folder(model, tokenizer, folder, *others)
        swap_layers(folder)
        return case

    monkeypatch.setattr(module, "write_folder", write_wrongly)
    with pytest.raises(ExportError, match=r"did not pass its proof: logits: they differ by up to \d"):
        export(source("0-1 3"), tmp_path / "out" / "mine", tokenizer_folder, TEXTS, CARD)
    assert os.listdir(tmp_path / "out") == []


def test_a_proof_that_hangs_is_given_up(
    source: Callable[[str], Path], tokenizer_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.01)
    with pytest.raises(ExportError, match="the proof of the export took more than 0 s; try again"):
        export(source("0-1 3"), tmp_path / "mine", tokenizer_folder, TEXTS, CARD)
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("text", ["0 1a 2-3", "0-2 3f"])
def test_halves_need_code(source: Callable[[str], Path], tmp_path: Path, text: str) -> None:
    with pytest.raises(WordsError) as caught:
        export(source(text), tmp_path / "mine", tmp_path, TEXTS, CARD, form="native")
    assert str(caught.value) == (
        f"the pattern `{text}` has halved layers, and plain transformers code has no such bert; export it with code, "
        "choose a trial with whole layers only, or search the space `layers`, which has no others"
    )


def test_a_place_that_is_taken_stays_as_it_is(source: Callable[[str], Path], tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "notes.txt").write_text("mine")
    for place in (taken, taken / "notes.txt"):
        with pytest.raises(
            ExportError, match="exists and is not an empty folder; choose a new folder, nothing was written"
        ):
            export(source("0-3"), place, tmp_path, TEXTS, CARD)
    assert (taken / "notes.txt").read_text() == "mine"
    assert os.listdir(taken) == ["notes.txt"]


def test_a_damaged_checkpoint_or_tokenizer_is_named(
    source: Callable[[str], Path], tokenizer_folder: Path, tmp_path: Path
) -> None:
    kept = source("0-3")
    with pytest.raises(ModelError, match=r"the tokenizer in .*nowhere cannot be opened: "):
        export(kept, tmp_path / "mine", tmp_path / "nowhere", TEXTS, CARD)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"the tokenizer in .*odd cannot be opened: "):
        export(kept, tmp_path / "mine", tmp_path / "odd", TEXTS, CARD)
    with pytest.raises(ExportError, match=r"cannot write .*mine: (File exists|Not a directory); choose another folder"):
        export(kept, kept / "manifest.json" / "mine", tokenizer_folder, TEXTS, CARD)
    os.truncate(kept / "model.safetensors", 2000)
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged"):
        export(kept, tmp_path / "mine", tokenizer_folder, TEXTS, CARD)
    assert not (tmp_path / "mine").exists()


def test_the_card_states_the_facts(source: Callable[[str], Path]) -> None:
    manifest = checkpoint.read(source("0-1 1 3"))
    card = write_card(CARD, manifest)
    assert card.startswith("---\nbase_model: someone/base-model\nlibrary_name: transformers\n")
    for fact in (
        "| pattern | `0-1 1 3` |",
        "`█2·█`",
        "| source layers, counted from 0 | 0, 1, 1, 3 |",
        "| dropped of 0-3 | 2 |",
        f"| parameters | {manifest.parameters:,} of 20,000 ({manifest.parameters / 20_000:.1%}) |",
        "| search split | 0.8500 | 0.8400 | 0.8000 to 0.8800 |",
        "| validation, mean of 3 seeds | 0.8600 | 0.8300 |  |",
        "(revision `abc123`)",
        "Seed 42. Recipe: lr 5e-05, epochs 3.",
        "| outputs | 0 no, 1 perhaps, 2 yes |",
        "Trained with torch 2.12.0.",
        "Exported with torch 2.13.0.",
        "    layersearch run --model someone/base-model --task mrpc\n",
    ):
        assert fact in card


def test_the_card_says_what_the_candidate_was_trained_from(source: Callable[[str], Path]) -> None:
    manifest = checkpoint.read(source("0-2"))
    assert "fine-tuned and scored with the same recipe.\n" in write_card(CARD, manifest)
    warm = write_card(replace(CARD, start="a super-network"), manifest)
    assert "with the same recipe; this candidate was trained from a super-network.\n" in warm


def test_the_card_of_a_regression_and_of_unknown_versions(source: Callable[[str], Path]) -> None:
    card = write_card(replace(CARD, labels=(), trained_with=None), checkpoint.read(source("0-3")))
    assert "| outputs | one number |" in card
    assert "Trained with versions that the study does not tell." in card


def test_without_names_the_classes_keep_what_they_are_called(make_tiny: Callable[[str], PreTrainedModel]) -> None:
    model = make_tiny("bert")
    before = dict(model.config.id2label or {})
    name_labels(model, ())
    assert model.config.id2label == before
    name_labels(model, ("a", "b", "c"))
    assert model.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert model.config.num_labels == 3


def test_a_folder_of_the_user_is_no_hub_name(source: Callable[[str], Path]) -> None:
    card = write_card(replace(CARD, base_model="/home/me/model", revision=None), checkpoint.read(source("0-3")))
    assert "base_model:" not in card
    assert "from `/home/me/model` for the task" in card


@pytest.mark.parametrize("shift", [1e-6, 1e-3, float("nan")])
def test_an_answer_at_a_tie_may_fall_to_either_class(
    shift: float, tiny_model: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runtime that rounds otherwise scores otherwise, where the answers themselves are equal within the tolerance."""
    base, task = load_base(tiny_model, num_labels=2, kind="classification"), load_task("sst2", tiny_data)
    torch.nn.init.zeros_(base.model.get_parameter("classifier.weight"))
    reader, validation = load_reader(tiny_model, task.kind), task.splits(0.15, 0).validation
    uneven = validation.take(np.flatnonzero(np.cumsum(validation.labels) < 5))  # so that both classes score otherwise
    case = Case((), 24, [], [], 0, 1e-5, "", "", {})

    def prove(folder: Path, case: Case) -> Proof:
        told = np.zeros((len(uneven), 2), dtype=np.float32)
        told[:, 1] += shift
        save_arrays({"answers": told}, f"{case.measured}{ANSWERS}")
        return Proof(folder, "", 0, 0, 0.0, 1e-5, 0.0)

    monkeypatch.setattr(module, "prove", prove)
    proven = partial(module.proven, base.model, reader, Path("x"), case, Validation(task, uneven))
    if shift == 1e-6:
        assert proven().scored == len(uneven)
    else:
        with pytest.raises((ExportError, TrainingError), match=r"did not pass its proof: accuracy|are not finite"):
            proven()

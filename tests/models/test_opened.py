"""An exported folder again: opened without its code, proven again, and any damage to it named."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, ViTImageProcessor

import layersearch
from layersearch.errors import ExportError
from layersearch.kinds import KindName
from layersearch.models import checkpoint
from layersearch.models.base import quiet
from layersearch.models.case import Case
from layersearch.models.export import export
from layersearch.models.folder import RECORD, damage_in, read_record, write_record
from layersearch.models.opened import load, verify
from layersearch.models.page import PAGE
from layersearch.models.proof import examine
from layersearch.models.surgery import build
from layersearch.pattern import Pattern
from tests.conftest import call

from .conftest import LAYERS, TEXTS
from .test_conformance import TINY, answer
from .test_export import CARD
from .test_forms import pictures  # noqa: F401 - a fixture

Exported = Callable[..., Path]


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof: tests/models/test_export.py and tests/test_cli.py have it in a fresh one."""

    def examined(folder: Path, case: Case) -> dict[str, Any]:
        try:
            with quiet():
                return examine(folder, json.loads(json.dumps(asdict(case))))
        except Exception as error:
            raise ExportError(f"could not be opened: {error}") from error

    monkeypatch.setattr("layersearch.models.export._examine", examined)


@pytest.fixture
def exported(tokenizer_folder: Path, tmp_path: Path) -> Exported:
    """Exports a tiny model; weights in several files."""

    def make(text: str = "0-1 2f 3a", name: str = "bert", kind: KindName = "classification", **others: Any) -> Path:
        pattern, base = Pattern.parse(text), TINY[name].model(others.pop("head", None))
        kept, to = tmp_path / "kept", tmp_path / f"{name} {text}"
        checkpoint.save(build(base, pattern), pattern, kept, source_layers=LAYERS, extras={}, kind=kind)
        reader, texts = others.pop("reader", tokenizer_folder), others.pop("texts", TEXTS)
        card = replace(CARD, labels=() if kind == "causal-lm" else CARD.labels)
        export(kept, to, reader, texts, card, 16, shard="16KB", **others)
        return to

    return make


@pytest.mark.parametrize(
    ("name", "text"),
    [("bert", "0-1 2f 3a"), ("bert", "0 3"), ("modernbert", "1-3"), ("t5", "0f 1 2a 3"), ("xlnet", "0 1a")],
)
@torch.no_grad()
def test_a_folder_is_loaded_without_its_code(name: str, text: str, exported: Exported) -> None:
    folder, inputs = exported(text, name), TINY[name].inputs()
    assert (folder / PAGE).exists() == (text != "0 3")
    model, tokenizer = layersearch.load(folder)
    assert not model.training
    assert torch.equal(answer(model, inputs), answer(build(TINY[name].model(), Pattern.parse(text)), inputs))
    assert tokenizer("a man eats")["input_ids"]


def test_no_code_of_the_folder_runs(exported: Exported, tmp_path: Path) -> None:
    """Where it does, with plain transformers and its trust, the code leaves a file behind."""
    folder, ran = exported(), tmp_path / "ran"
    page = folder / PAGE
    page.write_text(f"{page.read_text()}\nopen({str(ran)!r}, 'w').close()\n")
    write_record(folder, facts_of(folder))
    load(folder)
    assert not ran.exists()
    with quiet():
        AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True)
    assert ran.exists()


@pytest.mark.parametrize("strange", ["page", "map"])
def test_code_that_layersearch_did_not_write_is_not_run_to_prove_a_folder(strange: str, exported: Exported) -> None:
    folder = exported()
    if strange == "page":
        (folder / PAGE).write_text("raise RuntimeError('it ran')\n")
    else:
        file = folder / "config.json"
        file.write_text(file.read_text().replace("modeling_layersearch.", "someone/else--modeling."))
    write_record(folder, facts_of(folder))
    (problem,) = verify(folder).problems
    assert (
        problem
        == {
            "page": f"{PAGE} is not what this version of layersearch writes and was not run; use the version that "
            "exported it",
            "map": f"config.json names other code than that in {PAGE}, which was not run",
        }[strange]
    )


@torch.no_grad()
def test_what_was_loaded_and_is_saved_opens_with_its_code_again(exported: Exported, tmp_path: Path) -> None:
    model, _ = load(exported("0 1a 2f", "llama", "causal-lm", head=AutoModelForCausalLM))
    model.save_pretrained(tmp_path / "again")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "again", trust_remote_code=True)
    inputs = TINY["llama"].inputs()
    assert torch.equal(answer(again, inputs), answer(model, inputs))


def test_images_come_with_their_processor(exported: Exported, pictures: Any, tmp_path: Path) -> None:  # noqa: F811
    ViTImageProcessor(size={"height": 8, "width": 8}).save_pretrained(tmp_path / "reader")
    folder = exported("0 1a 3f", "vit", "image-classification", reader=tmp_path / "reader", texts=pictures)
    model, reader = load(folder)
    assert model(**reader(images=[torch.zeros(3, 9, 9)], return_tensors="pt")).logits.shape == (1, 3)


@pytest.mark.parametrize("text", ["0-1 2f 3a", "0 3"])
def test_a_folder_as_it_was_exported_is_proven_again(text: str, exported: Exported) -> None:
    folder = exported(text)
    (folder / ".gitattributes").write_text("* lfs")
    verdict = verify(folder)
    assert verdict.problems == ()
    assert verdict.proof is not None
    assert verdict.proof.max_difference <= 1e-5
    assert verdict.files == len(list(folder.iterdir())) - 2
    said = call("verify", folder)
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(
        f"{folder}: its {verdict.files} files are as they were exported; proven in a fresh process"
    )
    plain = call("verify", folder, "--json")
    assert (plain.code, plain.err) == (0, "")
    found = json.loads(plain.out)
    assert (found["folder"], found["files"], found["problems"]) == (str(folder), verdict.files, [])
    assert found["proof"]["parameters"] == verdict.proof.parameters
    assert found["proof"]["max_difference"] <= found["proof"]["tolerance"]


def facts_of(folder: Path) -> dict[str, Any]:
    record = read_record_unchecked(folder)
    return {key: value for key, value in record.items() if key not in ("files", "sha256", "format")}


def read_record_unchecked(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / RECORD).read_text())
    return found


def shard_in(folder: Path) -> Path:
    return sorted(folder.glob("model-00001-of-*.safetensors"))[0]


def missing_shard(folder: Path) -> None:
    shard_in(folder).unlink()


def truncated(folder: Path) -> None:
    os.truncate(shard_in(folder), 1000)


def one_bit(folder: Path) -> None:
    content = bytearray(shard_in(folder).read_bytes())
    content[-1] ^= 1
    shard_in(folder).write_bytes(content)


def wrong_depth(folder: Path) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"num_hidden_layers": 3}))


def other_parts(folder: Path) -> None:
    file = folder / "config.json"
    file.write_text(file.read_text().replace('"attention"\n', '"both"\n'))


def swapped_layers(folder: Path) -> None:
    files = sorted(folder.glob("model-*.safetensors"))
    held = {file: load_file(file) for file in files}
    every = {name: tensor for tensors in held.values() for name, tensor in tensors.items()}
    other = {"0": "1", "1": "0"}

    def swap(name: str) -> str:
        head, mark, rest = name.partition("encoder.layer.")
        number, _, path = rest.partition(".")
        return f"{head}{mark}{other.get(number, number)}.{path}" if mark else name

    for file, tensors in held.items():
        save_file({name: every[swap(name)].clone() for name in tensors}, file, metadata={"format": "pt"})


def edited_card(folder: Path) -> None:
    card = folder / "README.md"
    card.write_text(card.read_text().replace("0.8400", "0.9400"))


def edited_page(folder: Path) -> None:
    page = folder / PAGE
    page.write_text(page.read_text() + "# more\n")


def added_weights(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"x")


@pytest.mark.parametrize(
    ("damage", "sentences"),
    [
        (missing_shard, [r"model-00001-of-\d+.safetensors is missing"]),
        (truncated, [r"model-00001-of-\d+.safetensors has 1,000 bytes where the export had [\d,]+"]),
        (one_bit, [r"model-00001-of-\d+.safetensors was changed: another content of the same size"]),
        (wrong_depth, [r"config.json has [\d,]+ bytes where the export had [\d,]+"]),
        (swapped_layers, [r"model-00001-of-\d+.safetensors was changed: .*", r"model-00002-of-\d+.safetensors was .*"]),
        (edited_card, ["README.md was changed: another content of the same size"]),
        (edited_page, [rf"{PAGE} has [\d,]+ bytes where the export had [\d,]+"]),
        (added_weights, ["pytorch_model.bin is not of the export: it was added later"]),
    ],
)
def test_damage_is_told_in_a_sentence_that_names_the_file(
    damage: Callable[[Path], None], sentences: list[str], exported: Exported
) -> None:
    folder = exported()
    damage(folder)
    problems = verify(folder).problems
    assert len(problems) == len(sentences)
    assert all(re.fullmatch(pattern, found) for pattern, found in zip(sentences, problems, strict=True)), problems
    said = call("verify", folder)
    assert (said.code, said.out) == (1, "")
    assert said.err.splitlines() == [f"error: {problem}" for problem in problems]
    plain = call("verify", folder, "--json")
    assert (plain.code, plain.err) == (1, said.err)
    facts = {"folder": str(folder), "files": verify(folder).files, "problems": list(problems), "proof": None}
    assert json.loads(plain.out) == facts
    if damage is edited_card:
        load(folder)
        return
    with pytest.raises(ExportError) as caught:
        load(folder)
    assert str(caught.value) == (
        f"{folder} is not as it was exported: {'; '.join(problems)}; get the folder again, or export the trial again"
    )


@pytest.mark.parametrize(
    ("text", "damage", "found"),
    [
        ("0-1 2f 3a", missing_shard, "cannot be opened: "),
        ("0-1 2f 3a", truncated, "cannot be opened: "),
        ("0-1 2f 3a", wrong_depth, "do not belong together"),
        ("0-1 2f 3a", other_parts, "do not belong together"),
        ("0-1 2f 3a", swapped_layers, "logits of made inputs: they differ by up to "),
        ("0 3", missing_shard, "could not be opened: "),
        ("0 3", wrong_depth, "missing keys: "),
        ("0 3", swapped_layers, "logits of made inputs: they differ by up to "),
    ],
)
def test_the_proof_finds_damage_that_the_hashes_hide(
    text: str, damage: Callable[[Path], None], found: str, exported: Exported
) -> None:
    folder = exported(text)
    damage(folder)
    write_record(folder, facts_of(folder))
    assert damage_in(folder, read_record(folder)) == {}
    (problem,) = verify(folder).problems
    assert found in problem
    if damage is not swapped_layers:
        with pytest.raises(
            ExportError,
            match=r"(cannot be opened: .*; get the folder again, or|do not belong together;) export the trial again$",
        ):
            load(folder)


def edited_record(folder: Path) -> None:
    record = read_record_unchecked(folder)
    (folder / RECORD).write_text(json.dumps(record | {"pattern": "0-3"}))


def older_record(folder: Path) -> None:
    (folder / RECORD).write_text(json.dumps({"pattern": "0-3", "weights_sha256": "0"}))


def newer_record(folder: Path) -> None:
    record = read_record_unchecked(folder)
    (folder / RECORD).write_text(json.dumps(record | {"format": 2}))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (shutil.rmtree, "no such folder: {folder}; give one that `layersearch"),
        (
            lambda folder: (folder / RECORD).unlink(),
            "is no folder that layersearch exported: it has no layersearch.json",
        ),
        (lambda folder: os.truncate(folder / RECORD, 100), "layersearch.json is damaged or of an older version of "),
        (older_record, "layersearch.json is damaged or of an older version of layersearch; get the folder again, or "),
        (newer_record, "layersearch.json has another format than 1; use the version that wrote it"),
        (edited_record, "layersearch.json was changed after the export: it does not have the hash that it names; get "),
    ],
)
def test_a_folder_that_is_not_ours_is_one_clear_line(
    damage: Callable[[Path], None], words: str, exported: Exported
) -> None:
    folder = exported("0 3")
    damage(folder)
    for open_it in (load, verify):
        with pytest.raises(ExportError) as caught:
            open_it(folder)
        assert words.format(folder=folder) in str(caught.value)
        assert "\n" not in str(caught.value)
    said = call("verify", folder)
    assert (said.code, said.out, len(said.err.splitlines())) == (1, "", 1)


def test_a_file_and_nothing_are_no_folders(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "nothing"):
        with pytest.raises(ExportError, match=r"is no folder that layersearch exported|^no such folder: "):
            load(place)

"""Decoders on text and ViT on pictures, through the command line: what is better small, exports that are proven."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tests.conftest import call
from tests.tasks.test_images import painted, reader
from tests.tasks.test_perplexity import tokenizer

if TYPE_CHECKING:
    from layersearch.search.record import Record

QUICK = ("--lr", "1e-2", "--batch-size", "8", "--max-length", "12", "--precision", "fp32", "--confirm", "1")
HOW = ("--workers", "0", "--device", "cpu")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text in which a word mostly tells the next."""
    rng, words, place = np.random.default_rng(0), ("red", "blue", "old", "new", "car", "house"), 0
    file, said = tmp_path_factory.mktemp("text") / "text.txt", []
    for number in range(2500):
        place = (5 * place + 1 if rng.random() < 0.8 else int(rng.integers(6))) % 6
        said.append(words[place] + ("\n" if number % 9 == 8 else " "))
    file.write_text("".join(said))
    return file


def _decoder(folder: Path, name: str, **sizes: int) -> Path:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(name, vocab_size=8, bos_token_id=1, eos_token_id=1, **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder / name)  # type: ignore[no-untyped-call]
    tokenizer(first=name == "llama").save_pretrained(folder / name)
    return folder / name


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _decoder(tmp_path_factory.mktemp("model"), "gpt2", n_embd=16, n_layer=3, n_head=2, n_positions=16)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import ViTConfig, ViTForImageClassification

    folder = tmp_path_factory.mktemp("model") / "vit"
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ViTForImageClassification(ViTConfig(image_size=8, patch_size=4, **sizes)).save_pretrained(folder)
    reader().save_pretrained(folder)
    return folder


def _run(model: Path, task: str, data: Path, folder: Path, *more: str) -> Record:
    from layersearch.search.record import read_study

    where = ("--storage", folder / "s.db", "--files", folder / "files", "--study", "it")
    said = call("run", "--model", model, "--task", task, "--data", data, *QUICK, *HOW, *where, *more)
    assert said.code == 0, said.err
    return read_study(str(folder / "s.db"), "it", print)


@pytest.fixture(scope="module")
def surprised(gpt2: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, Path]:
    """A study of every pattern of the decoder's layers, and the folder of its database."""
    folder = tmp_path_factory.mktemp("study")
    return _run(gpt2, "perplexity", text, folder, "--epochs", "2", "--method", "fine-tune", "--trials", "7"), folder


def test_the_front_of_a_decoder_is_of_small_perplexities(surprised: tuple[Record, Path]) -> None:
    record, _ = surprised
    done = [row for row in record.rows if row.score is not None]
    assert (record.purpose.metric, record.purpose.direction, len(done)) == ("perplexity", "minimize", 7)
    assert all(1 < (row.score or 0) < 6 for row in done)  # six words, and each mostly tells the next
    for row in record.front:
        better = [other for other in done if (other.score or 0) < (row.score or 0)]
        assert all((other.parameters or 0) > (row.parameters or 0) for other in better)
    assert record.confirmed.keys() >= {row.pattern for row in record.front}


def test_what_is_said_of_a_front_says_that_less_is_better(surprised: tuple[Record, Path], tmp_path: Path) -> None:
    record, folder = surprised
    storage = ("--storage", folder / "s.db")
    shown = json.loads(call("front", "it", "--json", "--all", *storage).out)
    best, base = min(shown, key=lambda row: row["score"]), next(row for row in shown if row["trial"] == 0)
    assert all(row["score_kept"] == pytest.approx(base["score"] / row["score"]) for row in shown)
    assert best["on_front"]
    assert "kept: the unchanged model's perplexity over the candidate's" in call("front", "it", *storage).out
    assert call("report", "it", "--to", tmp_path / "it.html", "--png", tmp_path, *storage).code == 0
    page = (tmp_path / "it.html").read_text()
    assert "lower is better" in page
    assert "perplexity over the candidate" in page
    assert (tmp_path / "front.png").stat().st_size > 9000
    picked = json.loads(call("best", "it", "--max-params", "100%", "--json", *storage).out)["pick"]
    means = {pattern: found.mean for pattern, found in record.confirmed.items()}
    assert picked["score"] == min(means.values())
    assert picked["lost"] == pytest.approx(means[picked["pattern"]] - means[record.unchanged])


def test_the_least_score_of_what_is_better_small_is_refused(gpt2: Path, text: Path) -> None:
    said = call(
        "plan", "--model", gpt2, "--task", "perplexity", "--data", text, "--max-length", "12", "--min-score", "3"
    )
    assert (said.code, said.err) == (
        2,
        "error: --min-score 3 asks for a large perplexity, which is better small: leave it out\n",
    )


@pytest.mark.parametrize("method", ["one-shot", "distill", "halving"])
def test_every_method_looks_for_small_perplexities(method: str, gpt2: Path, text: Path, tmp_path: Path) -> None:
    trials = () if method == "one-shot" else ("--trials", "4")
    record = _run(gpt2, "perplexity", text, tmp_path, "--epochs", "1", "--method", method, "--confirm", "0", *trials)
    scores = {row.number: row.score for row in record.rows if row.score is not None}
    assert min(scores, key=lambda number: scores[number]) in {row.number for row in record.front}
    if method == "one-shot":  # what is fine-tuned first is the best of those that the network scored, by its size
        first = next(row for row in record.rows if row.number == 1)
        depth = {pattern: pattern.count(" ") for pattern in record.shared}
        assert record.shared[first.pattern] == min(s for p, s in record.shared.items() if p != record.unchanged), depth


def test_llama_reads_its_first_token(text: Path, tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    llama = _decoder(tmp_path, "llama", max_position_embeddings=16, **sizes)
    record = _run(llama, "perplexity", text, tmp_path, "--epochs", "1", "--method", "fine-tune", "--trials", "2")
    assert record.baseline is not None
    assert record.baseline.metrics is not None
    assert 1 < record.baseline.metrics["perplexity"] < 6


def test_an_encoder_is_refused_in_one_line(tiny_model: Path, text: Path, tmp_path: Path) -> None:
    words = ("--model", tiny_model, "--task", "perplexity", "--data", text, "--storage", tmp_path / "s.db")
    said = call("run", *words, *QUICK, *HOW, "--files", tmp_path / "files")
    assert said.code == 1
    assert re.search(
        r"error: the bert in \S+ reads both ways and is no decoder, .*; choose a decoder, such as gpt2\n$", said.err
    )


def test_pictures_are_searched_one_shot_and_exported(vit: Path, tmp_path: Path) -> None:
    painted(tmp_path / "pictures", {"red": 30, "blue": 30, "green": 30})
    record = _run(vit, "images", tmp_path / "pictures", tmp_path, "--epochs", "3")
    assert record.baseline is not None
    assert (record.baseline.score or 0) > 0.6
    assert record.baseline.metrics is not None
    assert record.baseline.metrics.keys() == {"accuracy", "f1-macro"}
    assert len(record.shared) == 7
    number = record.front[-1].number
    said = call("export", "it", "--trial", number, "--to", tmp_path / "out", "--storage", tmp_path / "s.db")
    assert said.code == 0, said.err
    assert re.search(r"logits of \d+ examples equal within", said.out + said.err)
    opened: Any = json.loads((tmp_path / "out" / "config.json").read_text())
    assert opened["id2label"] == {"0": "blue", "1": "green", "2": "red"}
    assert "pipeline_tag: image-classification" in (tmp_path / "out" / "README.md").read_text()


def test_a_broken_picture_ends_a_run_with_one_line(vit: Path, tmp_path: Path) -> None:
    painted(tmp_path / "pictures", {"red": 9, "blue": 9})
    for file in (tmp_path / "pictures" / "red").glob("*.png"):
        file.write_bytes(file.read_bytes()[:60])
    words = ("--model", vit, "--task", "images", "--data", tmp_path / "pictures", "--storage", tmp_path / "s.db")
    said = call("run", *words, *QUICK, *HOW, "--files", tmp_path / "files")
    assert said.code == 1
    assert re.search(r"error: \S+/red/00\d.png is broken: .*; mend or remove it\n$", said.err)

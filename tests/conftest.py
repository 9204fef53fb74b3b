"""What several tests share: a tiny random BERT with its tokenizer, a tiny data folder, and a study of both.

Knows: how to make them once a session, without a network. Does not know: what the tests do with them.
"""

from __future__ import annotations

import io
import os
import random
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("same-every-time", derandomize=True, deadline=None)
settings.load_profile("same-every-time")

LAYERS = 4

# Torch, which reads it when it is imported, computes on one thread, in the processes that tests start too: of two on
# cores that other tests use one waits for the other, and tiny models are slower with more in any case.
os.environ["OMP_NUM_THREADS"] = "1"

# Where transformers puts code from exported folders: nowhere that stays. It reads this when it is imported.
_MODULES = tempfile.TemporaryDirectory(prefix="layersearch-")
os.environ["HF_MODULES_CACHE"] = _MODULES.name

# What the tests count is not kept with the user's own.
_COUNTED = tempfile.TemporaryDirectory(prefix="layersearch-")
os.environ["LAYERSEARCH_CACHE"] = _COUNTED.name

GOOD = ("good", "fine", "great", "warm", "bright")
BAD = ("bad", "poor", "awful", "cold", "dull")
PLAIN = ("the", "film", "was", "and", "a", "plot", "with", "music", "very", "it")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random BERT of four layers, with weights as safetensors and a tokenizer that knows 20 words."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    words = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *PLAIN)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        max_position_embeddings=128,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertForSequenceClassification(config).save_pretrained(folder)
    BertTokenizer(vocab={word: number for number, word in enumerate(words)}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in SST-2's layout, 60 rows to train and 24 to validate on; one word of each sentence tells its label."""
    folder = tmp_path_factory.mktemp("data")
    rng = random.Random(0)
    for file, rows in (("train.tsv", 60), ("dev.tsv", 24)):
        lines = ["sentence\tlabel", *(_row(rng, label % 2) for label in range(rows))]
        (folder / file).write_text("\n".join(lines) + "\n")
    return folder


def _row(rng: random.Random, label: int) -> str:
    words = rng.choices(PLAIN, k=rng.randint(2, 9))
    words.insert(rng.randrange(len(words)), rng.choice((BAD, GOOD)[label]))
    return f"{' '.join(words)}\t{label}"


@dataclass(frozen=True)
class Said:
    """What a command left behind: its exit code and its words on standard output and standard error."""

    code: int
    out: str
    err: str


def call(*words: str | Path | int) -> Said:
    """Run `layersearch WORDS` in this process, which spares it the imports, as a shell would: by `entry.main`."""
    from layersearch.entry import main

    out, err = io.StringIO(), io.StringIO()
    code: int | str | None = 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr("sys.argv", ["layersearch", *map(str, words)])
        try:
            main()
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int | None), code
    return Said(code or 0, out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class TinyRun:
    """A finished search of five trials, confirmed with one seed: the question's words, the study, what was said."""

    what: tuple[str, ...]
    storage: Path
    files: Path
    said: Said


@pytest.fixture(scope="session")
def tiny_run(tiny_model: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    """The study `tiny` of the tiny model, made by the command line without Ray."""
    folder = tmp_path_factory.mktemp("run")
    what: tuple[str, ...] = ("--model", str(tiny_model), "--task", "sst2", "--data", str(tiny_data), "--epochs", "2")
    what += (
        "--lr",
        "1e-2",
        "--batch-size",
        "8",
        "--max-length",
        "24",
        "--precision",
        "fp32",
        "--holdout",
        "0.3",
        "--confirm",
        "1",
        "--method",
        "fine-tune",
    )
    how = ("--study", "tiny", "--storage", f"{folder}/study.db", "--files", f"{folder}/files", "--workers", "0")
    said = call("run", *what, *how, "--trials", "5", "--device", "cpu")
    assert said.code == 0, said.err
    return TinyRun(what, folder / "study.db", folder / "files", said)

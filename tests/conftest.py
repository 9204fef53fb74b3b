"""What several tests share: a tiny random BERT with its tokenizer, and a tiny data folder, made on the spot.

Knows: how to write both to a folder once a session. Does not know: the network, or what the tests do with them.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

LAYERS = 4
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
        max_position_embeddings=32,
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

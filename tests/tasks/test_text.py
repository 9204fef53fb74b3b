"""Text tasks: the held-out part, the fingerprint, the encoding, the scores."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layersearch.errors import DataError, TrainingError
from layersearch.tasks.task import Examples, Task
from layersearch.tasks.text import Corpus, TextTask, held_out
from tests.tasks.support import scored

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

WORDS = ("red", "blue", "old", "new", "car", "house")


def _examples(n: int, regression: bool = False, pair: bool = True) -> Examples:
    rng = np.random.default_rng(n)
    text, second = (tuple(" ".join(rng.choice(WORDS, rng.integers(1, 6))) for _ in range(n)) for _ in range(2))
    labels = rng.uniform(0, 5, n).astype(np.float32) if regression else rng.integers(0, 2, n)
    return Examples(text, second if pair else None, labels)


def _corpus(n: int, regression: bool = False) -> Corpus:
    return Corpus(_examples(n, regression), _examples(n // 4, regression), ("a remark",))


def _task(corpus: Corpus | None = None) -> TextTask:
    read = partial(_corpus, 80) if corpus is None else lambda: corpus
    return TextTask("toy", "classification", ("no", "yes"), ("accuracy", "f1"), read)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """A word tokenizer as BERT's: [CLS] first, [SEP] behind each text, types 0 and 1."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = {word: number for number, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS))}
    backend = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


@settings(deadline=None)
@given(
    labels=st.lists(st.integers(0, 3), min_size=8, max_size=300),
    share=st.floats(0.1, 0.6),
    seed=st.integers(0, 9),
)
def test_every_class_keeps_its_share_to_within_two_examples(labels: list[int], share: float, seed: int) -> None:
    values = np.array(labels, dtype=np.int64)
    picked = held_out(values, share, seed)
    assert len(picked) == round(share * len(values))
    assert np.all(np.diff(picked) > 0)
    for label in range(4):
        assert abs(np.sum(values[picked] == label) - len(picked) / len(values) * np.sum(values == label)) < 2


def test_scores_keep_their_quantiles() -> None:
    values = np.random.default_rng(0).beta(1, 4, 2000).astype(np.float32)
    picked = values[held_out(values, 0.15, seed=0)]
    shares = np.linspace(0.05, 0.95, 19)
    assert np.mean(picked[:, None] <= np.quantile(values, shares), axis=0) == pytest.approx(shares, abs=1 / 300)


def test_the_seed_decides_who_is_held_out() -> None:
    labels = np.arange(100) % 2
    assert np.array_equal(held_out(labels, 0.15, 1), held_out(labels, 0.15, 1))
    assert not np.array_equal(held_out(labels, 0.15, 1), held_out(labels, 0.15, 2))


@pytest.mark.parametrize("share", [0.0, 1.0, 0.001, -0.1, 1.5])
def test_a_holdout_that_leaves_a_part_empty_is_refused(share: float) -> None:
    with pytest.raises(DataError, match=rf"a holdout of {share} of 100 training examples leaves a part empty: give"):
        held_out(np.arange(100) % 2, share, 0, holdout=True)


@pytest.mark.parametrize(("share", "least"), [(0.15, 4), (0.5, 2), (0.25, 3), (0.85, 4), (0.001, 501), (0.99, 51)])
def test_too_few_examples_to_hold_some_out_are_said_with_enough(share: float, least: int) -> None:
    with pytest.raises(DataError, match=rf"leaves a part empty: give {least} examples or more") as caught:
        held_out(np.arange(least - 1) % 2, share, 0, holdout=True)
    with pytest.raises(DataError, match=r"a part of .* or more$"):  # no option sets this share
        held_out(np.arange(least - 1) % 2, share, 0)
    if least > 2:
        other = float(str(caught.value).split(" or a holdout of ")[1].split()[0])
        assert 0 < len(held_out(np.arange(least - 1) % 2, other, 0)) < least - 1
    assert 0 < len(held_out(np.arange(least) % 2, share, 0)) < least


def test_splits_part_the_training_data_and_leave_validation_alone() -> None:
    corpus = _corpus(80)
    splits = _task(corpus).splits(0.25, seed=0)
    assert (len(splits.train), len(splits.search)) == (60, 20)
    both = [*zip(splits.train.text, splits.train.pair or (), strict=True)]
    both += [*zip(splits.search.text, splits.search.pair or (), strict=True)]
    assert sorted(both) == sorted(zip(corpus.train.text, corpus.train.pair or (), strict=True))
    assert splits.validation is corpus.validation
    assert splits.warnings == ("a remark",)


def test_the_fingerprint_changes_with_any_text_label_or_part() -> None:
    corpus = _corpus(80)
    known = _task(corpus).splits(0.25, 0).fingerprint
    assert known == _task(_corpus(80)).splits(0.25, 0).fingerprint

    text = corpus.train.text
    moved = (text[0] + text[1][:1], text[1][1:], *text[2:])
    flipped = corpus.train.labels.copy()
    flipped[[0, 1, 2, 3]] = 1 - flipped[[0, 1, 2, 3]]
    others = [
        _task(replace(corpus, train=replace(corpus.train, text=moved))).splits(0.25, 0),
        _task(replace(corpus, train=replace(corpus.train, labels=flipped))).splits(0.25, 0),
        _task(replace(corpus, validation=replace(corpus.validation, pair=None))).splits(0.25, 0),
        _task(corpus).splits(0.25, 1),
        _task(corpus).splits(0.3, 0),
    ]
    assert len({known, *(splits.fingerprint for splits in others)}) == 1 + len(others)


def test_a_task_travels_by_pickle_and_carries_no_data() -> None:
    task: Task = _task()
    sent = pickle.dumps(task)
    assert len(sent) < 500
    assert pickle.loads(sent).splits(0.25, 0).fingerprint == task.splits(0.25, 0).fingerprint


def test_encoding_in_one_call_equals_encoding_one_by_one(tokenizer: PreTrainedTokenizerFast) -> None:
    examples = _examples(30)
    encoded = _task().encode(examples, tokenizer, max_length=32)
    assert encoded.input_ids.dtype == np.int32
    assert encoded.token_type_ids is not None
    assert encoded.token_type_ids.dtype == np.int8
    assert np.array_equal(encoded.labels, examples.labels)
    assert len(encoded.offsets) == 31
    for i, (text, pair) in enumerate(zip(examples.text, examples.pair or (), strict=True)):
        alone, here = tokenizer(text, pair), slice(encoded.offsets[i], encoded.offsets[i + 1])
        assert encoded.input_ids[here].tolist() == alone["input_ids"]
        assert encoded.token_type_ids[here].tolist() == alone["token_type_ids"]


def test_encoding_cuts_to_the_length_and_pads_nothing(tokenizer: PreTrainedTokenizerFast) -> None:
    examples = _examples(50)
    full, cut = (_task().encode(examples, tokenizer, length) for length in (32, 7))
    assert cut.lengths.max() == 7 < full.lengths.max()
    assert np.array_equal(cut.lengths, np.minimum(full.lengths, 7))
    assert 0 not in cut.input_ids


def test_a_tokenizer_without_token_types_yields_none(tokenizer: PreTrainedTokenizerFast) -> None:
    from transformers import PreTrainedTokenizerFast

    plain = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer.backend_tokenizer,
        pad_token="[PAD]",
        model_input_names=["input_ids", "attention_mask"],
    )
    assert _task().encode(_examples(5, pair=False), plain, 32).token_type_ids is None


def test_classes_are_scored_by_their_largest_logit() -> None:
    logits = np.array([[0.1, 0.9], [2.0, -2.0], [0.0, 1.0], [-1.0, -3.0]], dtype=np.float32)
    assert _task().score(logits, scored(np.array([1, 0, 0, 0]))) == {"accuracy": 0.75, "f1": pytest.approx(2 / 3)}
    low, high = _task().noise(logits, scored(np.array([1, 0, 0, 0]))).interval
    assert 0 <= low <= 0.75 <= high <= 1


def test_values_are_scored_as_they_are() -> None:
    task = TextTask("toy", "regression", (), ("spearman", "pearson"), partial(_corpus, 80, True))
    logits = np.array([[0.0], [1.0], [10.0]], dtype=np.float32)
    assert task.score(logits, scored(np.array([1, 2, 3], dtype=np.float32))) == {
        "spearman": pytest.approx(1.0),
        "pearson": pytest.approx(0.9078413),
    }


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_refused_where_argmax_would_say_class_0(bad: float) -> None:
    logits = np.zeros((4, 2), dtype=np.float32)
    logits[2, 0] = bad
    for call in (_task().score, _task().noise):
        with pytest.raises(TrainingError, match="the logits of 1 of 4 examples are not finite"):
            call(logits, scored(np.zeros(4, dtype=np.int64)))


def test_logits_of_another_head_are_a_mistake() -> None:
    with pytest.raises(ValueError, match=r"logits \(4, 3\) where task toy has \[n, 2\]"):
        _task().score(np.zeros((4, 3), dtype=np.float32), scored(np.zeros(4, dtype=np.int64)))


@pytest.mark.parametrize(("also", "found"), [("", "set()"), (", scipy", "{'scipy'}")])
def test_importing_the_tasks_loads_no_heavy_library_and_this_test_would_see_one(also: str, found: str) -> None:
    heavy = {"torch", "transformers", "datasets", "evaluate", "sklearn", "scipy", "ray", "optuna", "huggingface_hub"}
    code = f"import sys, layersearch.tasks, layersearch.hub{also}; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == found

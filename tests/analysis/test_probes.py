"""Linear probes: what is there is found, what is not is not, the strength is chosen on a part of its own."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from layersearch.analysis.probes import STRENGTHS, Part, Probed, _best, probe
from layersearch.errors import DataError, WordsError
from layersearch.kinds import KindName
from layersearch.tasks.task import Encoded, Examples
from layersearch.tasks.text import Corpus, TextTask

NONE = Examples((), None, np.zeros(0))


def task_of(kind: KindName, labels: tuple[str, ...], metric: str) -> TextTask:
    return TextTask("made", kind, labels, (metric,), partial(Corpus, NONE, NONE))


def part_of(rows: NDArray[Any], labels: NDArray[Any]) -> Part:
    offsets = np.arange(len(labels) + 1, dtype=np.int64)
    return Part(rows.astype(np.float32), Encoded(np.zeros(len(labels), np.int32), None, offsets, labels))


def three_parts(labels_of: object, seed: int = 0) -> tuple[Part, Part, Part]:
    """Two places: noise, and rows whose first two columns tell the labels, among eight."""
    rng = np.random.default_rng(seed)
    parts = []
    for number in (200, 80, 120):
        there = rng.normal(size=(number, 8))
        rows = np.stack([rng.normal(size=(number, 8)), 5 + 3 * there])
        parts.append(part_of(rows, labels_of(there)))  # type: ignore[operator]
    return parts[0], parts[1], parts[2]


def check(found: Probed, least: float) -> None:
    """The second place tells, the first does not tell more than nothing does."""
    assert found.scores[1] > least > found.intervals[0][1]
    low, high = found.intervals[1]
    assert low <= found.scores[1] <= high
    assert found.best == 1
    assert found.examples == (200, 80, 120)
    assert set(found.strengths) <= set(STRENGTHS)


def test_classes_are_read_off_where_they_stand() -> None:
    parts = three_parts(lambda x: (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 1))
    shares: list[float] = []
    found = probe(task_of("classification", ("a", "b", "c"), "accuracy"), *parts, heartbeat=shares.append)
    check(found, 0.8)
    assert found.majority == np.mean(parts[2].labels == np.bincount(parts[0].labels).argmax())
    assert shares == [0.5, 1.0]


def test_numbers_and_several_labels_are_too() -> None:
    check(
        probe(task_of("regression", (), "spearman"), *three_parts(lambda x: (x[:, 0] - x[:, 1]).astype(np.float32))),
        0.9,
    )
    several = three_parts(lambda x: np.stack([x[:, 0] > 0, x[:, 1] > 0, x[:, 0] > 99], axis=1).astype(np.float32))
    check(probe(task_of("multi-label", ("a", "b", "never"), "f1-micro"), *several), 0.85)


def test_the_strength_is_the_second_parts_choice() -> None:
    """Labels of the first part are noise: only a penalty that leaves next to nothing does not lie on the second."""
    rng = np.random.default_rng(0)
    fit, dev, test = (
        part_of(rng.normal(size=(1, n, 40)), (rng.random(n) < 0.25).astype(np.int64)) for n in (60, 400, 50)
    )
    always = part_of(dev.rows, np.full(400, np.bincount(fit.labels).argmax()))
    assert probe(task_of("classification", ("a", "b"), "accuracy"), fit, always, test).strengths == (STRENGTHS[0],)


def test_a_place_is_best_only_where_its_whole_interval_lies_above_the_constant_answer() -> None:
    """Labels that no place tells: scores lie about the commonest answer's, some above it, and none is best."""
    rng = np.random.default_rng(1)
    parts = three_parts(lambda x: (rng.random(len(x)) < 0.4).astype(np.int64))
    found = probe(task_of("classification", ("a", "b"), "accuracy"), *parts)
    assert all(low <= found.majority for low, _ in found.intervals)
    assert found.best is None
    assert _best((0.7, 0.8, 0.8), ((0.6, 0.8), (0.71, 0.9), (0.71, 0.9)), 0.7, 1.0) == 1
    assert _best((0.9, 0.8), ((0.6, 0.99), (0.75, 0.85)), 0.7, 1.0) == 1, "the better one may be chance"
    assert _best((9.0, 5.0), ((8.0, 10.0), (4.0, 6.0)), 7.0, -1.0) == 1, "where less is better"


def test_a_class_that_is_not_learnt_is_not_said() -> None:
    fit, dev, test = three_parts(lambda x: (x[:, 0] > 0).astype(np.int64) * 2)  # class 1 never comes
    assert probe(task_of("classification", ("a", "b", "c"), "accuracy"), fit, dev, test).scores[1] > 0.8


def test_labels_that_cannot_be_probed_are_one_line() -> None:
    parts = three_parts(lambda x: np.zeros(len(x), np.int64))
    with pytest.raises(
        DataError, match=r"^the 200 examples that probes of made are fitted on all have one label; take"
    ):
        probe(task_of("classification", ("a", "b"), "accuracy"), *parts)
    with pytest.raises(WordsError, match=r"^a probe needs one label an example, and task made \(causal-lm\) has"):
        probe(task_of("causal-lm", (), "accuracy"), *parts)

"""Which trainings count as diverged, and the rate over seeds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from layersearch.report.notes import notes_on_front
from layersearch.search.divergence import WHAT_DIVERGED, Divergence, diverged, divergences, told_of
from layersearch.search.purpose import Purpose
from layersearch.search.record import Record
from layersearch.search.trials import Row
from layersearch.tasks import load_task
from layersearch.tasks.constant import MOST_CLASSES, constant_score
from layersearch.tasks.glue import GLUE
from layersearch.tasks.task import Encoded
from layersearch.training.finetune import finetune, predict
from layersearch.training.job import DIVERGED


def row(seed: int, score: float | None, constant: float | None = 0.6, **more: object) -> Row:
    state = "COMPLETE" if score is not None else "FAIL"
    return Row(seed, state, "0-3", seed, score=score, constant=constant, **more)  # type: ignore[arg-type]


def test_the_front_says_when_nothing_was_learned() -> None:
    def notes(*rows: Row) -> str:
        record = Record("s", Purpose({}, "accuracy", "maximize"), {"num_layers": 4, "parameters": 1}, rows, {})
        return "\n".join(notes_on_front(record, everything=False))

    nothing = "so nothing was learned: train longer (--epochs) or with another --lr"
    assert f"no score is better than that of one answer to everything (0.6000), {nothing}" in notes(row(0, 0.6))
    assert nothing not in notes(row(0, 0.61))
    equal = notes(row(0, 0.61, None), row(1, 0.61, None))
    assert f"all scores are equal, {nothing}" in equal
    alike = "all scores are equal, so nothing but their size tells the candidates apart"
    for learned in (notes(row(0, 0.61), row(1, 0.61)), notes(row(0, 1.0, None), row(1, 1.0, None))):
        assert alike in learned
        assert nothing not in learned
    assert nothing not in notes(row(0, 0.59), row(1, 0.7))


def test_no_finite_loss_or_no_better_than_a_constant_is_diverged() -> None:
    assert not diverged(row(0, 0.61), "maximize")
    assert diverged(row(0, 0.6), "maximize")
    assert diverged(row(0, 0.3), "maximize")
    assert diverged(row(0, 17 / 26, constant=0.653846), "maximize"), "as older studies keep 17 of 26"
    assert not diverged(row(0, 0.3, constant=None), "maximize")
    assert not diverged(row(0, 0.3), "minimize")
    assert diverged(row(0, None, reason=f"the loss is nan at step 16: {DIVERGED}; try another"), "maximize")
    assert not diverged(row(0, None, reason="out of memory on cpu"), "maximize")


def test_the_rate_is_over_seeds_that_were_trained_to_an_end() -> None:
    rows = [row(1, 0.9), row(2, 0.6), row(3, None, reason=f"..: {DIVERGED}"), row(4, None, reason="ValueError: 1")]
    found = divergences([*rows, Row(9, "RUNNING", "0-3", 5), Row(10, "COMPLETE", "1", 1, score=0.7)], "maximize")
    assert found == {"0-3": Divergence((2, 3), (1, 2, 3)), "1": Divergence((), (1,))}
    assert found["0-3"].rate == pytest.approx(2 / 3)
    assert str(found["0-3"]) == "2 of 3 seeds diverged"


def test_who_takes_the_weights_is_told_what_diverged() -> None:
    good, bad = row(0, 0.9), row(0, 0.6)
    assert told_of(good, None, "maximize") == told_of(good, Divergence((), (1, 2)), "maximize") == ""
    again = "2 of 3 seeds diverged in the confirmation of this pattern (seeds 1, 3)"
    assert told_of(good, Divergence((1, 3), (1, 2, 3)), "maximize") == f"{again}: {WHAT_DIVERGED}"
    own = "the training of these weights (seed 0) diverged"
    assert told_of(bad, None, "maximize") == f"{own}: {WHAT_DIVERGED}"
    one = "1 of 1 seed diverged in the confirmation of this pattern (seed 2)"
    assert told_of(bad, Divergence((2,), (2,)), "maximize") == f"{own}; {one}: {WHAT_DIVERGED}"


def encoded(labels: list[float]) -> Encoded:
    values = np.array(labels, dtype=np.float32)
    places = np.arange(len(labels) + 1)
    return Encoded(np.zeros(len(labels), np.int32), None, places, values if (values % 1).any() else values.astype(int))


@pytest.mark.parametrize(
    ("task", "labels", "score"),
    [
        ("mrpc", [1, 1, 0, 1], 0.75),
        ("cola", [1, 1, 0, 1], 0.0),
        ("mnli", [2, 2, 0, 1], 0.5),
        ("stsb", [0.5, 1, 2], 0.0),
    ],
)
def test_a_constant_answer_scores_what_the_best_class_gives(task: str, labels: list[float], score: float) -> None:
    assert task in GLUE
    assert constant_score(load_task(task, None), encoded(labels)) == pytest.approx(score)


class Labels:
    """A task of any number of labels, for the answers that are tried."""

    metric, direction = "m", "maximize"

    def __init__(self, kind: str, num_labels: int) -> None:
        self.kind, self.num_labels, self.seen = kind, num_labels, list[list[float]]()

    def score(self, answers: np.ndarray, _: Encoded) -> dict[str, float]:
        self.seen.append(answers[0].tolist())
        return {"m": float(len(self.seen))}


def test_of_many_classes_the_commonest_is_tried_and_of_labels_none_too() -> None:
    many = Labels("classification", MOST_CLASSES + 1)
    assert constant_score(many, encoded([3, 5, 5])) == 1.0  # type: ignore[arg-type]
    assert int(np.argmax(many.seen[0])) == 5
    several = Labels("multi-label", 2)
    assert constant_score(several, encoded([0, 1])) == 3.0  # type: ignore[arg-type]
    assert several.seen == [[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]]
    rows = np.zeros((5, MOST_CLASSES + 1))
    rows[:, 9], rows[:3, 3] = 1, 1
    labelled = Labels("multi-label", MOST_CLASSES + 1)
    constant_score(labelled, replace(encoded([0]), labels=rows))  # type: ignore[arg-type]
    assert int(np.argmax(labelled.seen[-1])) == 9, "the commonest of all, not the first of a row"
    assert constant_score(Labels("span", 2), encoded([0])) is None  # type: ignore[arg-type]
    assert constant_score(Labels("causal-lm", 1), encoded([0])) is None  # type: ignore[arg-type]


def test_the_errors_of_training_say_the_word_by_which_it_is_known() -> None:
    import inspect

    from layersearch.training import steps

    assert "{DIVERGED}" in inspect.getsource(steps._finite_mean)
    assert "{DIVERGED}" in inspect.getsource(predict)
    assert finetune is not None

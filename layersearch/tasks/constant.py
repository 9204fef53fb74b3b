"""What the same answer to every example scores: a training that does no better has learned nothing.

Knows: a task's score and how wide its answers are. Does not know: models, what is made of the number.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from layersearch.tasks.task import Encoded, Task

MOST_CLASSES = 20  # that are tried one by one; of more the commonest


def constant_score(task: Task, scored: Encoded) -> float | None:
    """The best score on `scored` of one answer for all its units: each class or label alone, or no label at all.

    Of numbers any constant scores alike. None where no answer fits all: spans of texts, the next token.
    """
    if task.kind in ("span", "causal-lm"):
        return None
    found = [task.score(answers, scored)[task.metric] for answers in _constants(task, scored)]
    return max(found) if task.direction == "maximize" else min(found)


def _constants(task: Task, scored: Encoded) -> Iterator[NDArray[np.float32]]:
    shape = (len(scored.labels), task.num_labels)
    if task.kind in ("regression", "multi-label"):
        yield np.full(shape, -1.0, dtype=np.float32)
    if task.kind == "regression":
        return
    classes = range(task.num_labels)
    if task.num_labels > MOST_CLASSES:
        labels = scored.labels
        often = labels.sum(axis=0) if labels.ndim > 1 else np.bincount(labels[labels >= 0].astype(np.int64))
        classes = range(found := int(often.argmax()), found + 1)
    for number in classes:
        answers = np.full(shape, -1.0, dtype=np.float32)
        answers[:, number] = 1.0
        yield answers

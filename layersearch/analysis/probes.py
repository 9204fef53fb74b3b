"""Linear probes: what of a task a linear model reads off each frozen layer.

Knows: rows of every layer as arrays, labels, scikit-learn. Does not know: models, texts, where labels come from. The
states are never trained: what a probe finds was there, and what it misses may be there in another form.

Each probe is fitted on one part, its strength of regularisation chosen on a second, its score and interval taken on a
third.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layersearch.analysis.states import Floats
from layersearch.counts import count
from layersearch.errors import DataError, WordsError
from layersearch.kinds import KindName
from layersearch.tasks.task import Encoded, Task

STRENGTHS = (1e4, 1e3, 1e2, 10.0, 1.0, 0.1)  # of the penalty on squared weights, strongest first
MOST_STEPS = 200
PROBED = ("classification", "regression", "multi-label", "image-classification")
"""Kinds with a label an example."""


@dataclass(frozen=True)
class Part:
    """Examples to fit, choose or score on: `rows` [places, n, width] and what the task scores, with the labels [n]."""

    rows: Floats
    scored: Encoded

    @property
    def labels(self) -> NDArray[Any]:
        """[n], or [n, labels] of a multi-label task."""
        return np.asarray(self.scored.labels)


@dataclass(frozen=True)
class Probed:
    """The probes of one task at all places: before the first layer, then after each.

    `scores` are of the task's `metric` on the third part, with 95 % bootstrap `intervals` over its examples;
    `strengths` were chosen on the second. `majority` is the score of one constant answer, the commonest of the first
    part (of numbers the mean). `examples` are those of the three parts. `best` is the place with the best score among
    those whose whole interval is better than `majority`, the first of equal ones; None where there is none.
    """

    task: str
    metric: str
    scores: tuple[float, ...]
    intervals: tuple[tuple[float, float], ...]
    strengths: tuple[float, ...]
    majority: float
    examples: tuple[int, int, int]
    best: int | None


def probe(task: Task, fit: Part, dev: Part, test: Part, heartbeat: Callable[[float], None] = lambda _: None) -> Probed:
    """Probe every place: fitted on `fit`, strength chosen on `dev` (the stronger of equal ones), scored on `test`.

    Logistic regression for classes, one for each label of a multi-label task, ridge regression for numbers, on rows
    with mean 0 and variance 1 over `fit`. Raises DataError for a task without a label an example, and for labels to
    fit on that are all the same.
    """
    require_labels(task)
    _require_two(task, fit)
    sign = 1.0 if task.direction == "maximize" else -1.0
    scores, intervals, strengths = [], [], []
    for place in range(len(fit.rows)):
        best, chosen, answers = -np.inf, STRENGTHS[0], None
        rows = tuple(np.asarray(part.rows[place], dtype=np.float64) for part in (fit, dev, test))
        for strength, on_dev, on_test in answers_by_strength(task.kind, task.num_labels, rows, fit.labels):
            score = sign * task.score(on_dev, dev.scored)[task.metric]
            if score > best:
                best, chosen, answers = score, strength, on_test
        assert answers is not None
        scores.append(task.score(answers, test.scored)[task.metric])
        intervals.append(task.noise(answers, test.scored).interval)
        strengths.append(chosen)
        heartbeat((place + 1) / len(fit.rows))
    majority = task.score(_commonest(task, fit.labels, len(test.labels)), test.scored)[task.metric]
    counts = (len(fit.labels), len(dev.labels), len(test.labels))
    found = tuple(scores), tuple(intervals), tuple(strengths), majority, counts
    return Probed(task.name, task.metric, *found, _best(scores, intervals, majority, sign))


def _best(
    scores: Sequence[float], intervals: Sequence[tuple[float, float]], majority: float, sign: float
) -> int | None:
    """See `Probed`; `sign` is -1 where less is better."""
    above = [place for place, ends in enumerate(intervals) if min(sign * end for end in ends) > sign * majority]
    return max(above, key=lambda place: sign * scores[place], default=None)


def require_labels(task: Task) -> None:
    """Raise WordsError for a task that a probe cannot be fitted to."""
    if task.kind not in PROBED:
        raise WordsError(
            f"a probe needs one label an example, and task {task.name} ({task.kind}) has none; probe what texts tell "
            "of themselves, such as --probe length, or choose another task"
        )


def answers_by_strength(
    kind: KindName, num_labels: int, rows: tuple[Floats | NDArray[np.float64], ...], labels: NDArray[Any]
) -> Iterator[tuple[float, NDArray[np.float32], NDArray[np.float32]]]:
    """Strengths, and what a probe of each answers to the second and the third of `rows`, as float32 [n, num_labels].

    Fitted to `labels` on the first of `rows` [n, width]. Answers are what `Task.score` takes.
    """
    from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]
    from sklearn.preprocessing import StandardScaler  # type: ignore[import-untyped]

    scaler = StandardScaler().fit(rows[0])
    fit, *others = (scaler.transform(part) for part in rows)
    fitted = _ridges(fit, labels) if kind == "regression" else _logistics(fit, labels, num_labels, kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # steps are few on purpose; the second part decides
        for strength, answer in fitted:
            on_dev, on_test = (np.asarray(answer(part), dtype=np.float32) for part in others)
            yield strength, on_dev, on_test


Answer = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def _ridges(rows: NDArray[np.float64], labels: NDArray[Any]) -> Iterator[tuple[float, Answer]]:
    from sklearn.linear_model import Ridge  # type: ignore[import-untyped]

    for strength in STRENGTHS:
        model = Ridge(alpha=strength).fit(rows, labels.astype(np.float64))
        yield strength, lambda part, model=model: model.predict(part)[:, None]  # type: ignore[misc]


def _logistics(
    rows: NDArray[np.float64], labels: NDArray[Any], num_labels: int, kind: KindName
) -> Iterator[tuple[float, Answer]]:
    """One model over the classes, or one a label; each strength starts from what the one before has found."""
    columns = [labels] if kind != "multi-label" else list(labels.T.astype(np.int64))
    models = [_logistic() for _ in columns]
    for strength in STRENGTHS:
        for model, column in zip(models, columns, strict=True):
            if len(np.unique(column)) > 1:
                model.set_params(C=1 / strength).fit(rows, column)
        if kind == "multi-label":
            yield (
                strength,
                lambda part: np.stack([_margin(m, c, part) for m, c in zip(models, columns, strict=True)], 1),
            )
        else:
            yield strength, lambda part: _chances(models[0], part, num_labels)


def _logistic() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=MOST_STEPS, tol=1e-3, warm_start=True)


def _chances(model: Any, rows: NDArray[np.float64], num_labels: int) -> NDArray[np.float64]:
    """Chances of all classes, 0 for those that were not there to be learnt."""
    found = np.zeros((len(rows), num_labels))
    found[:, model.classes_] = model.predict_proba(rows)
    return found


def _margin(model: Any, column: NDArray[Any], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Above 0 where a label is there; a label that all or none have is taken to be so everywhere."""
    if len(np.unique(column)) == 1:
        return np.full(len(rows), column[0] - 0.5)
    return np.asarray(model.decision_function(rows))


def _require_two(task: Task, fit: Part) -> None:
    if len(np.unique(fit.labels, axis=0)) < 2:
        raise DataError(
            f"the {count(len(fit.labels), 'example')} that probes of {task.name} are fitted on all have one label; "
            "take more with --examples"
        )


def _commonest(task: Task, labels: NDArray[Any], number: int) -> NDArray[np.float32]:
    """What is answered where nothing is read: the commonest class, what most have of each label, or the mean."""
    if task.kind == "regression":
        one = np.array([labels.mean()])
    elif task.kind == "multi-label":
        one = labels.mean(axis=0) - 0.5
    else:
        one = np.eye(task.num_labels)[np.bincount(labels, minlength=task.num_labels).argmax()]
    return np.tile(one, (number, 1)).astype(np.float32)

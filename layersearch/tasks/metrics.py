"""The scores of a candidate's predictions, and how sure one may be of them.

Knows: predictions, labels and seven metrics, as numpy functions that the search uses and as `evaluate.Metric` modules
for users of that library. Does not know: logits, tasks, models. Nothing here needs a hub: `evaluate.load` would fetch a
script and run it (FACTS.md 3.4, D3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layersearch.errors import TrainingError

Floats = NDArray[np.float64]
Values = NDArray[Any]

REDRAWN = 64  # scores over examples drawn anew that a trial keeps: enough for their spread to within a tenth
_MOST_DRAWS = 10_000_000
_DRAWS_AT_ONCE = 2_000_000
_NO_SPREAD = 1e-12


def accuracy(predictions: Values, labels: Values) -> float:
    """Share of the n predicted classes that equal their label."""
    return float(_accuracy(_confusion(predictions, labels)))


def f1(predictions: Values, labels: Values) -> float:
    """F1 of class 1, as GLUE scores MRPC and QQP; 0.0 where neither side ever says 1."""
    return float(_f1(_confusion(predictions, labels)))


def f1_macro(predictions: Values, labels: Values) -> float:
    """The mean of each class's F1, over the classes that either side says."""
    return float(_f1_macro(_confusion(predictions, labels)))


def f1_micro(predictions: Values, labels: Values) -> float:
    """F1 over all labels of all examples, 0 and 1 in [n, labels]; 0.0 where neither side ever says 1."""
    x, y = _checked(predictions, labels)
    return float(_f1_micro(x, y, np.ones((1, len(x))))[0])


def matthews(predictions: Values, labels: Values) -> float:
    """Matthews correlation for any number of classes (Gorodkin 2004, R_K), as GLUE scores CoLA.

    0.0 where either side is constant: the quotient is 0 / 0 there, and a candidate that says one class whatever it
    reads is a finished trial that learned nothing, which NaN would turn into a failed one.
    """
    return float(_matthews(_confusion(predictions, labels)))


def pearson(predictions: Values, labels: Values) -> float:
    """Pearson correlation; 0.0 where either side is constant, for the reason given at `matthews`."""
    x, y = _checked(predictions, labels)
    return float(_correlation(x, y, np.ones((1, len(x))))[0])


def spearman(predictions: Values, labels: Values) -> float:
    """Spearman rank correlation, ties at their mean rank; 0.0 where either side is constant (see `matthews`)."""
    x, y = _checked(predictions, labels)
    return float(_rank_correlation(x, y, np.ones((1, len(x))))[0])


METRICS: Mapping[str, Callable[[Values, Values], float]] = MappingProxyType(
    {
        "accuracy": accuracy,
        "f1": f1,
        "f1-macro": f1_macro,
        "f1-micro": f1_micro,
        "matthews": matthews,
        "pearson": pearson,
        "spearman": spearman,
    }
)


def interval(
    metric: str, predictions: Values, labels: Values, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of `metric` over the n examples (Efron 1979).

    The class metrics depend on the confusion matrix alone, and its resamples are multinomial, so they cost the same
    for any n. The correlations draw n examples `resamples` times, or as often as 10 million draws allow, but at least
    200 times. Where all classes are right no draw is another one, and the lower end is the score with as many wrong as
    may hide behind that (`_hidden`). Raises TrainingError for a prediction that is not finite.
    """
    rng = np.random.default_rng(seed)
    if metric not in _OF_CONFUSION:
        x, y = _checked(predictions, labels)
        low, high = np.quantile(_drawn(len(x), partial(_OF_COUNTS[metric], x, y), resamples, rng), (0.025, 0.975))
        return float(low), float(high)
    score, confusion = _OF_CONFUSION[metric], _confusion(predictions, labels)
    low, high = np.quantile(score(_resampled_confusion(confusion, resamples, rng)), (0.025, 0.975))
    if np.trace(confusion) == confusion.sum():
        low = min(low, score(_with_wrong(confusion, _hidden(int(confusion.sum())))))
    return float(low), float(high)


def interval_of_share(hits: Values, whole: Values, resamples: int = 1000) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the sum of `hits` over that of `whole`, each [n] of the n examples.

    Draws as often as `interval` does for the correlations. Raises TrainingError for a value that is not finite.
    """
    x, y = _checked(hits, whole)
    score = partial(_share, x, y)
    low, high = np.quantile(_drawn(len(x), score, resamples, np.random.default_rng(0)), (0.025, 0.975))
    low = min(low, 1 - _hidden(len(x))) if np.array_equal(x, y) else low
    return float(low), float(high if x.any() or not y.any() else max(high, _hidden(len(x))))


def _hidden(n: int) -> float:
    """The largest share of wrong answers of which n right ones are no surprise (2.5 %; Clopper and Pearson 1934)."""
    return float(1 - 0.025 ** (1 / n))


def _with_wrong(confusion: Floats, share: float) -> Floats:
    """The counts with a `share` of each class's examples taken for each of the other classes alike."""
    others = 1 - np.eye(len(confusion))
    wrong = share * confusion.sum(1, keepdims=True) * others / others.sum(1, keepdims=True)
    return np.asarray((1 - share) * confusion + wrong)


@dataclass(frozen=True)
class Noise:
    """How far a score may lie off because its examples are few: a 95 % bootstrap interval, and scores `redrawn`.

    These are over REDRAWN draws of the n examples, the same draws for every model that is scored on the examples: what
    two models score on one draw can be compared (a paired bootstrap; Efron and Tibshirani 1993, chapter 8).
    """

    interval: tuple[float, float]
    redrawn: tuple[float, ...]


def noise(metric: str, predictions: Values, labels: Values) -> Noise:
    """The noise of `metric` over the n examples. Raises TrainingError for a prediction that is not finite."""
    x, y = _checked(predictions, labels)
    if metric in _OF_CONFUSION:
        return Noise(interval(metric, x, y), _redrawn(len(x), partial(_of_classes, _OF_CONFUSION[metric], x, y)))
    return Noise(interval(metric, x, y), _redrawn(len(x), partial(_OF_COUNTS[metric], x, y)))


def noise_of_share(hits: Values, whole: Values) -> Noise:
    """The noise of the sum of `hits` over that of `whole`, each [n] of the n examples; raises as `noise` does."""
    x, y = _checked(hits, whole)
    return Noise(interval_of_share(x, y), _redrawn(len(x), partial(_share, x, y)))


def evaluate_module(metric: str) -> Any:
    """An `evaluate.Metric` for one of `METRICS`, computed by scikit-learn or scipy, which works without a hub.

    `evaluate_module("f1").compute(predictions=[...], references=[...])` answers `{"f1": ...}`. No other file calls it:
    it is shipped for users of that library (DESIGN.md section 2), and it is the second opinion that the tests hold this
    file's functions against; those are faster and import nothing.
    """
    if metric not in METRICS:
        raise ValueError(f"no metric {metric!r}; there are {', '.join(METRICS)}")
    import datasets  # type: ignore[import-untyped]
    import evaluate  # type: ignore[import-untyped]

    value = "float32" if metric in _OF_COUNTS else "int64"
    feature = datasets.Value(value) if metric != "f1-micro" else datasets.List(datasets.Value(value))
    features = datasets.Features({"predictions": feature, "references": feature})

    class Module(evaluate.Metric):  # type: ignore[misc]
        def _info(self) -> Any:
            about = f"{metric} as layersearch scores it"
            return evaluate.MetricInfo(description=about, citation="", inputs_description="", features=features)

        def _compute(self, predictions: Values, references: Values) -> dict[str, float]:
            return {metric: _reference_score(metric, np.asarray(predictions), np.asarray(references))}

    return Module(keep_in_memory=True)


def _reference_score(metric: str, predictions: Values, labels: Values) -> float:
    from scipy import stats
    from sklearn import metrics as sklearn_metrics  # type: ignore[import-untyped]

    x, y = _checked(predictions, labels)
    if metric == "accuracy":
        return float(sklearn_metrics.accuracy_score(y, x))
    if metric.startswith("f1"):
        average = metric.partition("-")[2] or "binary"
        return float(sklearn_metrics.f1_score(y, x, average=average, zero_division=0.0))
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    if metric == "matthews":
        return float(sklearn_metrics.matthews_corrcoef(y, x))
    return float(stats.pearsonr(x, y).statistic if metric == "pearson" else stats.spearmanr(x, y).statistic)


def _checked(predictions: Values, labels: Values) -> tuple[Floats, Floats]:
    """Both sides as float64 [n]; raises TrainingError where a value is NaN or infinite."""
    x, y = np.asarray(predictions, dtype=np.float64), np.asarray(labels, dtype=np.float64)
    if x.shape != y.shape or not x.ndim or not len(x):
        raise ValueError(f"predictions {x.shape} and labels {y.shape} must be two equally long, non-empty lists")
    for name, values in (("predictions", x), ("labels", y)):
        if bad := int(np.sum(~np.isfinite(values).reshape(len(values), -1).all(axis=1))):
            raise TrainingError(f"{bad} of {len(values)} {name} are not finite, so there is no score")
    return x, y


def _confusion(predictions: Values, labels: Values) -> Floats:
    """Counts [classes, classes]: rows are labels, columns predictions; at least two classes."""
    x, y = _checked(predictions, labels)
    if min(x.min(), y.min()) < 0 or np.any(x % 1) or np.any(y % 1):
        raise ValueError("predictions and labels of a class metric must be whole numbers from 0 on")
    classes = max(2, int(max(x.max(), y.max())) + 1)
    cells = np.bincount((y * classes + x).astype(np.int64), minlength=classes * classes)
    return cells.reshape(classes, classes).astype(np.float64)


def _quotient(above: Floats, below: Floats) -> Floats:
    """above / below, and 0.0 where below is 0."""
    return np.divide(above, below, out=np.zeros_like(above), where=below > 0)


def _accuracy(confusion: Floats) -> Floats:
    hits = np.asarray(np.trace(confusion, axis1=-2, axis2=-1))
    return _quotient(hits, confusion.sum((-2, -1)))


def _f1(confusion: Floats) -> Floats:
    hits = confusion[..., 1, 1]
    return _quotient(2 * hits, confusion[..., 1, :].sum(-1) + confusion[..., :, 1].sum(-1))


def _f1_macro(confusion: Floats) -> Floats:
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    said = confusion.sum(-1) + confusion.sum(-2)
    return np.asarray(_quotient(2 * hits, said).sum(-1) / (said > 0).sum(-1))


def _f1_micro(x: Floats, y: Floats, counts: Floats) -> Floats:
    """Of examples [n, labels] taken `counts` [resamples, n] times."""
    return _share(2 * (x * y).reshape(len(x), -1).sum(1), (x + y).reshape(len(x), -1).sum(1), counts)


def _share(hits: Floats, whole: Floats, counts: Floats) -> Floats:
    return _quotient(counts @ hits, counts @ whole)


def _matthews(confusion: Floats) -> Floats:
    total = confusion.sum((-2, -1))
    true, predicted = confusion.sum(-1), confusion.sum(-2)
    covariance = np.trace(confusion, axis1=-2, axis2=-1) * total - (true * predicted).sum(-1)
    spread = (total**2 - (true**2).sum(-1)) * (total**2 - (predicted**2).sum(-1))
    return _quotient(np.asarray(covariance), np.sqrt(spread))


def _correlation(x: Floats, y: Floats, counts: Floats) -> Floats:
    """Pearson correlation [resamples] of examples taken `counts` [resamples, n] times."""
    x, y = x - x.mean(), y - y.mean()
    mean_x, mean_y, xx, yy, xy = (counts @ np.stack([x, y, x * x, y * y, x * y], axis=1) / counts.sum(1)[:, None]).T
    spread_x, spread_y = xx - mean_x**2, yy - mean_y**2
    # The squares' rounding is all that is left of the spread of a constant, so what lies below it counts as none.
    spread = np.where((spread_x > _NO_SPREAD * xx) & (spread_y > _NO_SPREAD * yy), spread_x * spread_y, 0.0)
    return _quotient(xy - mean_x * mean_y, np.sqrt(spread))


def _rank_correlation(x: Floats, y: Floats, counts: Floats) -> Floats:
    """Spearman correlation [resamples]: the ranks are those inside each resample."""
    rank_x, rank_y = _ranks(x, counts), _ranks(y, counts)
    xx, yy, xy = (
        np.einsum("rn,rn,rn->r", counts, a, b) for a, b in ((rank_x, rank_x), (rank_y, rank_y), (rank_x, rank_y))
    )
    return _quotient(xy, np.sqrt(xx * yy))


def _ranks(values: Floats, counts: Floats) -> Floats:
    """Mean rank of each example inside each resample as a share of its size, centred on 0: [resamples, n]."""
    groups, group_of = np.unique(values, return_inverse=True)
    order = np.argsort(group_of, kind="stable")
    starts = np.searchsorted(group_of[order], np.arange(len(groups)))
    sizes = np.add.reduceat(counts[:, order], starts, axis=1)
    middle = (np.cumsum(sizes, axis=1) - sizes / 2) / counts.sum(1)[:, None] - 0.5
    return np.asarray(middle[:, group_of])


def _resampled_confusion(confusion: Floats, resamples: int, rng: np.random.Generator) -> Floats:
    total = int(confusion.sum())
    draws = rng.multinomial(total, confusion.ravel() / total, size=resamples)
    return draws.reshape(resamples, *confusion.shape).astype(np.float64)


def _drawn(n: int, score: Callable[[Floats], Floats], resamples: int, rng: np.random.Generator) -> Floats:
    """The scores of n examples drawn anew again and again, as `interval` says how often."""
    times = max(min(resamples, _MOST_DRAWS // n), min(resamples, 200))
    chunk = max(1, _DRAWS_AT_ONCE // n)
    sizes = [min(chunk, times - start) for start in range(0, times, chunk)]
    return np.concatenate([score(_resampled_counts(n, size, rng)) for size in sizes])


def _redrawn(n: int, score: Callable[[Floats], Floats]) -> tuple[float, ...]:
    return tuple(map(float, _drawn(n, score, REDRAWN, np.random.default_rng(0))))


def _of_classes(score: Callable[[Floats], Floats], x: Floats, y: Floats, counts: Floats) -> Floats:
    """A class metric [resamples] of examples taken `counts` [resamples, n] times."""
    classes = max(2, int(max(x.max(), y.max())) + 1)
    cells = (y * classes + x).astype(np.int64)
    drawn = [np.bincount(cells, weights=row, minlength=classes * classes) for row in counts]
    return score(np.stack(drawn).astype(np.float64).reshape(-1, classes, classes))


def _resampled_counts(n: int, resamples: int, rng: np.random.Generator) -> Floats:
    """How often each of n examples was drawn, [resamples, n]; each row sums to n."""
    draws = rng.integers(0, n, size=(resamples, n)) + n * np.arange(resamples)[:, None]
    return np.bincount(draws.ravel(), minlength=resamples * n).reshape(resamples, n).astype(np.float64)


_OF_CONFUSION = {"accuracy": _accuracy, "f1": _f1, "f1-macro": _f1_macro, "matthews": _matthews}
_OF_COUNTS = {"f1-micro": _f1_micro, "pearson": _correlation, "spearman": _rank_correlation}

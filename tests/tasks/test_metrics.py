"""Metrics: the numpy functions against scikit-learn and scipy, the edges, and what the bootstrap interval is."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from layersearch.errors import TrainingError
from layersearch.tasks.metrics import (
    METRICS,
    REDRAWN,
    evaluate_module,
    interval,
    interval_of_share,
    noise,
    noise_of_share,
)

SLOW_REFERENCE = settings(deadline=None, max_examples=40)  # `evaluate` takes 20 ms a call
CLASS_METRICS = ("accuracy", "f1", "matthews")
CORRELATIONS = ("pearson", "spearman")
CLASSES = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=40)
MANY_CLASSES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40)
# Few distinct values, so that ties are common; eighths, so that no sum is rounded.
SCORES = st.lists(st.tuples(st.integers(-40, 40), st.integers(-40, 40)), min_size=2, max_size=40)


@pytest.fixture(scope="module")
def modules() -> dict[str, Any]:
    return {name: evaluate_module(name) for name in METRICS}


def _columns(pairs: list[tuple[int, int]], scale: float = 1) -> tuple[NDArray[Any], NDArray[Any]]:
    table = np.array(pairs) / scale if scale != 1 else np.array(pairs)
    return table[:, 0], table[:, 1]


@pytest.mark.parametrize("name", CLASS_METRICS)
@SLOW_REFERENCE
@given(pairs=CLASSES)
def test_class_metrics_agree_with_scikit_learn(
    name: str, pairs: list[tuple[int, int]], modules: dict[str, Any]
) -> None:
    predictions, labels = _columns(pairs)
    assert METRICS[name](predictions, labels) == pytest.approx(_reference(modules[name], predictions, labels))


@pytest.mark.parametrize("name", ["accuracy", "matthews"])
@SLOW_REFERENCE
@given(pairs=MANY_CLASSES)
def test_so_they_do_for_five_classes(name: str, pairs: list[tuple[int, int]], modules: dict[str, Any]) -> None:
    predictions, labels = _columns(pairs)
    assert METRICS[name](predictions, labels) == pytest.approx(_reference(modules[name], predictions, labels))


@pytest.mark.parametrize("name", CORRELATIONS)
@SLOW_REFERENCE
@given(pairs=SCORES)
def test_correlations_agree_with_scipy(name: str, pairs: list[tuple[int, int]], modules: dict[str, Any]) -> None:
    predictions, labels = _columns(pairs, 8)
    assert METRICS[name](predictions, labels) == pytest.approx(_reference(modules[name], predictions, labels), abs=1e-6)


def _reference(module: Any, predictions: NDArray[Any], labels: NDArray[Any]) -> float:
    (score,) = module.compute(predictions=predictions, references=labels).values()
    return float(score)


@pytest.mark.parametrize("name", ["matthews", "pearson", "spearman"])
@pytest.mark.parametrize("constant", [0, 1])
def test_a_constant_prediction_scores_zero_and_warns_of_nothing(
    name: str, constant: int, modules: dict[str, Any]
) -> None:
    labels = np.array([0, 1, 1, 0, 1])
    predictions = np.full(5, constant)
    assert METRICS[name](predictions, labels) == 0.0
    assert _reference(modules[name], predictions, labels) == 0.0
    assert interval(name, predictions, labels) == (0.0, 0.0)


def test_a_constant_that_floats_cannot_hold_exactly_still_scores_zero() -> None:
    predictions, labels = np.full(1500, np.float32(2.7000001)), np.linspace(0, 5, 1500)
    for name in CORRELATIONS:
        assert METRICS[name](predictions, labels) == 0.0
        assert interval(name, predictions, labels, resamples=20) == (0.0, 0.0)


def test_f1_is_that_of_class_1() -> None:
    assert METRICS["f1"](np.array([1, 1, 0, 0]), np.array([1, 0, 0, 0])) == pytest.approx(2 / 3)
    assert METRICS["f1"](np.array([0, 0]), np.array([0, 0])) == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", METRICS)
def test_a_prediction_that_is_not_finite_is_refused(name: str, bad: float) -> None:
    predictions, labels = np.array([0.0, 1.0, bad]), np.array([0.0, 1.0, 1.0])
    for call in (METRICS[name], lambda p, y: interval(name, p, y)):
        with pytest.raises(TrainingError, match="1 of 3 predictions are not finite, so there is no score"):
            call(predictions, labels)


def test_lists_of_different_length_and_halves_of_classes_are_mistakes() -> None:
    with pytest.raises(ValueError, match=r"\(2,\) and labels \(3,\)"):
        METRICS["accuracy"](np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="whole numbers"):
        METRICS["accuracy"](np.array([0.5]), np.array([1]))
    with pytest.raises(ValueError, match="no metric 'bleu'; there are accuracy"):
        evaluate_module("bleu")


def _scipy(name: str, x: NDArray[Any], y: NDArray[Any]) -> float:
    return float(stats.pearsonr(x, y).statistic if name == "pearson" else stats.spearmanr(x, y).statistic)


@pytest.mark.parametrize("name", CORRELATIONS)
def test_the_interval_of_a_correlation_is_that_of_a_plain_bootstrap(name: str) -> None:
    """The same draws, taken out and scored one by one by scipy, have the same quantiles."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 10, 60) / 2
    predictions = labels + rng.integers(-4, 5, 60) / 2
    draws = np.random.default_rng(3).integers(0, 60, size=(200, 60))
    plain = [_scipy(name, predictions[draw], labels[draw]) for draw in draws]
    assert interval(name, predictions, labels, resamples=200, seed=3) == pytest.approx(
        np.quantile(plain, [0.025, 0.975])
    )


@pytest.mark.parametrize("name", CLASS_METRICS)
def test_the_interval_of_a_class_metric_is_that_of_a_plain_bootstrap(name: str) -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, 200)
    predictions = np.where(rng.random(200) < 0.8, labels, 1 - labels)
    draws = rng.integers(0, 200, size=(4000, 200))
    plain = [METRICS[name](predictions[draw], labels[draw]) for draw in draws]
    expected = np.quantile(plain, [0.025, 0.975])
    assert interval(name, predictions, labels, resamples=4000) == pytest.approx(expected, abs=0.012)


@pytest.mark.parametrize(
    ("name", "low"), [("accuracy", 0.9637), ("f1", 0.9637), ("f1-macro", 0.9637), ("matthews", 0.9275)]
)
def test_all_right_is_not_all_sure(name: str, low: float) -> None:
    """Behind 100 right answers 3.6 % wrong ones may hide: Clopper and Pearson's interval, as scipy has it."""
    labels = np.arange(100) % 2
    found = interval(name, labels, labels)
    assert found == pytest.approx((low, 1.0), abs=1e-4)
    exact = stats.binomtest(100, 100).proportion_ci(method="exact")
    if name == "accuracy":
        assert found == pytest.approx((exact.low, exact.high))
        assert interval_of_share(labels + 1, labels + 1) == pytest.approx((exact.low, exact.high))
    few = interval(name, labels[:10], labels[:10])
    assert few[0] < found[0]


@pytest.mark.parametrize("name", METRICS)
def test_an_interval_holds_its_score_and_narrows_with_n(name: str) -> None:
    widths = []
    for n in (200, 3200):
        rng = np.random.default_rng(1)
        labels = rng.integers(0, 2, n)
        predictions = np.where(rng.random(n) < 0.8, labels, 1 - labels)
        low, high = interval(name, predictions, labels)
        assert low < METRICS[name](predictions, labels) < high
        assert (low, high) == interval(name, predictions, labels)
        assert (low, high) != interval(name, predictions, labels, seed=1)
        widths.append(high - low)
    assert widths[1] == pytest.approx(widths[0] / 4, rel=0.25)


@pytest.mark.parametrize(("n", "seconds"), [(1500, 0.5), (60_000, 6)])
@pytest.mark.parametrize("name", METRICS)
def test_an_interval_is_quick_for_any_n(name: str, n: int, seconds: float) -> None:
    """Processor seconds, with room for a busy machine; 0.1 s and 1 s were measured on an idle one."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, n)
    began = time.process_time()
    interval(name, np.where(rng.random(n) < 0.8, labels, 1 - labels), labels)
    assert time.process_time() - began < seconds


def test_the_interval_of_a_share_is_that_of_a_plain_bootstrap() -> None:
    rng = np.random.default_rng(0)
    whole = rng.integers(0, 5, 300).astype(float)
    hits = rng.binomial(whole.astype(int), 0.7)
    drawn = rng.integers(0, 300, (4000, 300))
    expected = np.quantile(hits[drawn].sum(1) / whole[drawn].sum(1), (0.025, 0.975))
    assert interval_of_share(hits, whole, resamples=4000) == pytest.approx(expected, abs=0.004)
    assert interval_of_share(np.zeros(3), np.zeros(3)) == (0.0, 0.0)
    none, every = (interval_of_share(hits, np.full(9, 4.0)) for hits in (np.zeros(9), np.full(9, 4.0)))
    assert none == pytest.approx((0.0, 1 - 0.025 ** (1 / 9)))
    assert every == pytest.approx((0.025 ** (1 / 9), 1.0))
    with pytest.raises(TrainingError, match=r"^1 of 2 predictions are not finite"):
        interval_of_share(np.array([1, np.nan]), np.ones(2))


@pytest.mark.parametrize("name", ["accuracy", "f1", "matthews", "spearman"])
def test_redrawn_scores_are_over_the_same_examples_for_every_model(name: str) -> None:
    """What two models differ in, differs far less from draw to draw than what each scores."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 400) if name != "spearman" else rng.normal(size=400)
    if name == "spearman":
        one = labels + rng.normal(size=400)
        other = one + 0.1 * rng.normal(size=400)
    else:
        one = np.where(rng.random(400) < 0.8, labels, 1 - labels)
        other = np.where(rng.random(400) < 0.98, one, 1 - one)
    first, second = noise(name, one, labels), noise(name, other, labels)
    assert len(first.redrawn) == REDRAWN
    assert first.interval == interval(name, one, labels)
    assert np.std(first.redrawn) == pytest.approx((first.interval[1] - first.interval[0]) / 3.92, rel=0.25)
    assert np.std(np.subtract(first.redrawn, second.redrawn)) < 0.5 * np.std(first.redrawn)


def test_the_redrawn_shares_are_those_of_accuracy() -> None:
    labels = np.arange(40) % 2
    said = np.where(np.arange(40) < 30, labels, 1 - labels)
    assert noise_of_share(said == labels, np.ones(40)).redrawn == pytest.approx(noise("accuracy", said, labels).redrawn)

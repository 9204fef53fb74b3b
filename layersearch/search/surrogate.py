"""A small Gaussian process over patterns, and what a candidate may be expected to add to the front.

Knows: patterns as bits and shares, errors as numbers. Does not know: trials, spaces, Optuna, how candidates are found.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.special import ndtr
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from layersearch.pattern import Pattern
from layersearch.search.quality import Point, layer_share

Floats = NDArray[np.float64]

LENGTHS = (0.2, 0.6, 1.8)  # of the kernel over layers, as shares of the stack that differ
NOISES = (0.01, 0.1)  # variance of a score, as a share of the errors' variance
SHARE_LENGTH = 0.25  # of the kernel over the share of layer parameters
TIMES = 2  # of a layer in a pattern; further ones look like two


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


def one_thread() -> AbstractContextManager[object]:
    """Linear algebra on one core inside this context.

    Where workers keep all cores busy, the threads of a small problem wait for each other: measured on two busy cores, a
    Cholesky factor of 128 rows took 122 ms instead of 0.1.
    """
    limited: AbstractContextManager[object] = _libraries().limit(limits=1, user_api="blas")
    return limited


@dataclass(frozen=True)
class Coded:
    """Patterns as numbers: `bits` [n, 2 x TIMES x layers], whether each half is there once, twice; `share` [n]."""

    bits: Floats
    share: Floats

    def take(self, indices: Sequence[int]) -> Coded:
        """The patterns at `indices`, in that order."""
        return Coded(self.bits[indices], self.share[indices])

    def __add__(self, other: Coded) -> Coded:
        return Coded(np.concatenate([self.bits, other.bits]), np.concatenate([self.share, other.share]))


def coded(patterns: Iterable[Pattern], num_layers: int) -> Coded:
    """`patterns` of a model with `num_layers` layers as numbers."""
    patterns = list(patterns)
    bits = np.zeros((len(patterns), 2, TIMES, num_layers))
    for row, pattern in zip(bits, patterns, strict=True):
        for block in pattern.blocks:
            for half in [0, 1] if block.halves == "both" else [int(block.halves == "ffn")]:
                row[half, min(int(row[half, :, block.layer].sum()), TIMES - 1), block.layer] = 1
    share = np.array([layer_share(pattern, num_layers) for pattern in patterns], dtype=float)
    return Coded(bits.reshape(len(patterns), 2 * TIMES * num_layers), share)


@dataclass(frozen=True)
class Surrogate:
    """Errors of known patterns as a Gaussian process.

    Two patterns are alike if they keep the same halves, and if they are of a size: the kernel is the mean of an
    exponential one over the share of the stack that differs and a squared exponential one over the share of parameters.
    """

    known: Coded
    errors: Floats  # [n]
    length: float
    noise: float
    half: Floats  # [n, n], lower Cholesky factor of the known patterns' covariance
    white: Floats  # [n], the errors without what makes them alike
    centre: float

    @property
    def scale(self) -> float:
        """Of the errors around `centre`, at its likeliest value; the kernel is 1 at distance 0."""
        return math.sqrt(max(float(self.white @ self.white) / len(self.errors), 1e-12))

    @property
    def likelihood(self) -> float:
        """Logarithm, but for a constant, of the marginal likelihood with that scale."""
        return -float(np.log(np.diag(self.half)).sum()) - len(self.errors) * math.log(self.scale)

    def predict(self, candidates: Coded) -> tuple[Floats, Floats]:
        """Mean and standard deviation [n] of the candidates' errors."""
        spread = _solved(self.half, _kernel(_apart(self.known, candidates), self.length))
        variance = np.maximum(1.0 - np.square(spread).sum(axis=0), 1e-12)
        return self.centre + self.white @ spread, self.scale * np.sqrt(variance)

    def believing(self, others: Coded) -> Surrogate:
        """The process as if `others` had been scored as it expects."""
        known = self.known + others
        errors = np.concatenate([self.errors, self.predict(others)[0]])
        return _process(known, errors, _apart(known, known), self.length, self.noise)


def fitted(known: Coded, errors: Floats) -> Surrogate:
    """The process that makes `errors` [n] of the `known` patterns likeliest, over LENGTHS and NOISES.

    See Rasmussen and Williams 2006, chapter 5.
    """
    apart = _apart(known, known)
    processes = [_process(known, errors, apart, length, noise) for length in LENGTHS for noise in NOISES]
    return max(processes, key=lambda process: process.likelihood)


def _process(known: Coded, errors: Floats, apart: tuple[Floats, Floats], length: float, noise: float) -> Surrogate:
    covariance = _kernel(apart, length) + noise * np.eye(len(errors))
    half = np.asarray(np.linalg.cholesky(covariance), dtype=float)
    centre = float(errors.mean())
    return Surrogate(known, errors, length, noise, half, _solved(half, errors - centre), centre)


def _solved(half: Floats, right: Floats) -> Floats:
    return np.asarray(solve_triangular(half, right, lower=True, check_finite=False), dtype=float)


def _apart(one: Coded, other: Coded) -> tuple[Floats, Floats]:
    """How far patterns are apart [n, m]: the share of the stack that differs, and the part of the kernel by size."""
    size = np.exp(-0.5 * np.square((one.share[:, None] - other.share[None, :]) / SHARE_LENGTH))
    return differing(one.bits, other.bits) * TIMES / one.bits.shape[1], size


def differing(one: Floats, other: Floats) -> Floats:
    """In how many bits rows differ, [n, m]."""
    return np.asarray(one.sum(axis=1)[:, None] + other.sum(axis=1)[None, :] - 2 * one @ other.T)


def _kernel(apart: tuple[Floats, Floats], length: float) -> Floats:
    return np.asarray(0.5 * np.exp(-apart[0] / length) + 0.5 * apart[1])


def expected_growth(mean: Floats, deviation: Floats, share: Floats, front: Iterable[Point], reference: Point) -> Floats:
    """The hypervolume [n] that candidates of known `share` and normally distributed error may be expected to add.

    Sizes are known before training, so the expectation over two objectives is one over errors, exact: over each step of
    the staircase `front` (error, share) the expected improvement on the step's error, times the step's width beyond the
    candidate's share.
    """
    steps = [(0.0, reference[0])]
    for share_there, error in sorted((share_there, error) for error, share_there in front):
        if error < steps[-1][1]:
            steps.append((share_there, error))
    growth = np.zeros_like(mean)
    for (start, error), end in zip(steps, [*(start for start, _ in steps[1:]), reference[1]], strict=True):
        width = np.maximum(end - np.maximum(start, share), 0.0)
        growth += width * _expected_improvement(error, mean, deviation)
    return growth


def _expected_improvement(on: float, mean: Floats, deviation: Floats) -> Floats:
    """E max(0, on - e) of normal errors e (Jones et al. 1998)."""
    score = (on - mean) / deviation
    return np.asarray(deviation * (score * ndtr(score) + np.exp(-0.5 * np.square(score)) / math.sqrt(2 * math.pi)))

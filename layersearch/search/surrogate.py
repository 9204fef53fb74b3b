"""A small Gaussian process over patterns, and what a candidate may be expected to add to the front.

Knows: patterns as bits and shares, errors as numbers. Does not know: trials, spaces, Optuna, how candidates are found.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from layersearch.pattern import Pattern
from layersearch.search.quality import layer_share

Floats = NDArray[np.float64]

# By replay of nine tables (results/search-cost); nearby values, and choosing them by likelihood, did no better.
BY_SIZE = 0.7  # part of the kernel that is about size, the rest is about which halves are kept
SHARE_LENGTH = 1 / 3  # over which sizes are alike, as a share of the layers' parameters
STACK_LENGTH = 0.4  # over which kept halves are, as a share of the stack
NOISE = 0.02  # variance of a score, as a share of the errors' variance
TIMES = 2  # of a layer in a pattern; further ones look like two


@cache
def _libraries() -> ThreadpoolController:
    import scipy.linalg  # noqa: F401  # brings a library of its own, and only what is loaded is limited

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
    """Patterns as numbers: `bits` [n, 2 x TIMES x layers], whether each half is there once, twice; `share` [n].

    `mixes` [n]: whether the head reads a mix of the layers, 1 or 0.
    """

    bits: Floats
    share: Floats
    mixes: Floats

    def take(self, indices: Sequence[int]) -> Coded:
        """The patterns at `indices`, in that order."""
        return Coded(self.bits[indices], self.share[indices], self.mixes[indices])

    def __add__(self, other: Coded) -> Coded:
        pairs = ((self.bits, other.bits), (self.share, other.share), (self.mixes, other.mixes))
        return Coded(*map(np.concatenate, pairs))


def coded(patterns: Iterable[Pattern], num_layers: int) -> Coded:
    """`patterns` of a model with `num_layers` layers as numbers."""
    patterns = list(patterns)
    rows = [_row(pattern, num_layers) for pattern in patterns]
    bits = np.array([bits for bits, _ in rows], dtype=float).reshape(len(rows), 2 * TIMES * num_layers)
    mixes = np.array([pattern.mixes for pattern in patterns], dtype=float)
    return Coded(bits, np.array([share for _, share in rows], dtype=float), mixes)


@lru_cache(maxsize=20_000)  # every decision asks for the known patterns again
def _row(pattern: Pattern, num_layers: int) -> tuple[Floats, float]:
    """The bits [2 x TIMES x layers] and the share of one pattern."""
    bits = np.zeros((2, TIMES, num_layers))
    times: Counter[tuple[int, int]] = Counter()
    for block in pattern.blocks:
        for half in (0, 1) if block.halves == "both" else (int(block.halves == "ffn"),):
            bits[half, min(times[half, block.layer], TIMES - 1), block.layer] = 1
            times[half, block.layer] += 1
    return bits.ravel(), layer_share(pattern, num_layers)


@dataclass(frozen=True)
class Surrogate:
    """Errors of known patterns as a Gaussian process (Rasmussen and Williams 2006, chapter 2).

    Two patterns are alike if they are of a size (a squared exponential kernel), and if they keep the same halves (an
    exponential one).
    """

    known: Coded
    errors: Floats  # [n]
    half: Floats  # [n, n], lower Cholesky factor of the known patterns' covariance
    white: Floats  # [n], the errors without what makes them alike

    @property
    def centre(self) -> float:
        """Mean of the known errors."""
        return float(self.errors.mean())

    def predict(self, candidates: Coded) -> tuple[Floats, Floats]:
        """Mean and standard deviation [n] of the candidates' errors."""
        spread = _solved(self.half, _kernel(self.known, candidates))
        variance = np.maximum(1.0 - np.square(spread).sum(axis=0), 0.0)
        return self.centre + self.white @ spread, self.errors.std() * np.sqrt(variance)

    def left_out(self) -> tuple[Floats, Floats]:
        """Mean and standard deviation [n], noise included, of each known error, told from the others alone.

        In closed form (Rasmussen and Williams 2006, equation 5.12).
        """
        root = _solved(self.half, np.eye(len(self.errors)))
        certainty = np.square(root).sum(axis=0)  # the diagonal of the covariance's inverse
        return self.errors - (root.T @ self.white) / certainty, self.errors.std() / np.sqrt(certainty)

    def believing(self, others: Coded) -> Surrogate:
        """The process as if `others` had been scored as it expects."""
        return fitted(self.known + others, np.concatenate([self.errors, self.predict(others)[0]]))


def fitted(known: Coded, errors: Floats) -> Surrogate:
    """The process that has seen `errors` [n] of the `known` patterns."""
    covariance = _kernel(known, known) + NOISE * np.eye(len(errors))
    half = np.asarray(np.linalg.cholesky(covariance), dtype=float)
    return Surrogate(known, errors, half, _solved(half, errors - errors.mean()))


def _solved(half: Floats, right: Floats) -> Floats:
    from scipy.linalg import solve_triangular

    return np.asarray(solve_triangular(half, right, lower=True, check_finite=False), dtype=float)


def _kernel(one: Coded, other: Coded) -> Floats:
    """How alike patterns are, [n, m]; 1 for a pattern and itself."""
    size = np.exp(-0.5 * np.square((one.share[:, None] - other.share[None, :]) / SHARE_LENGTH))
    halves = differing(one.bits, other.bits) + np.abs(one.mixes[:, None] - other.mixes[None, :])  # as much as a half
    apart = halves * TIMES / one.bits.shape[1]
    return np.asarray(BY_SIZE * size + (1 - BY_SIZE) * np.exp(-apart / STACK_LENGTH))


def differing(one: Floats, other: Floats) -> Floats:
    """In how many bits rows differ, [n, m]."""
    return np.asarray(one.sum(axis=1)[:, None] + other.sum(axis=1)[None, :] - 2 * one @ other.T)


def expected_growth(
    mean: Floats, deviation: Floats, sizes: Floats, front: Iterable[Sequence[float]], reference: Sequence[float]
) -> Floats:
    """The hypervolume [n] that candidates of known `sizes` [n, 1 or 2] and normally distributed error are to add.

    Sizes are known before training, so the expectation is one over errors, exact. `front` and `reference` hold points
    (error, size, ...). With errors of the front in order e0 < e1 < ..., a candidate of error e between two of them
    adds, for every error from there up to the next, the area of sizes that is its own: that no point with a smaller
    error covers.
    """
    inside = sorted(point for point in map(tuple, front) if point[0] < reference[0])
    ends = [*dict.fromkeys(point[0] for point in inside), reference[0]]
    growth = np.zeros_like(mean)
    below = np.zeros_like(mean)
    for end in ends:
        better = [point[1:] for point in inside if point[0] < end]
        upto = _expected_improvement(end, mean, deviation)
        growth += _own_area(sizes, better, reference[1:]) * (upto - below)
        below = upto
    return growth


def _own_area(sizes: Floats, others: Sequence[Sequence[float]], corner: Sequence[float]) -> Floats:
    """The area [n] (a length for one size) between `sizes` and `corner` that none of `others` covers."""
    first = np.sort(np.clip(np.array([other[0] for other in others]), None, corner[0])) if others else np.array([])
    if len(corner) == 1:
        return np.asarray(np.maximum((first[0] if len(first) else corner[0]) - sizes[:, 0], 0.0))
    area = np.zeros(len(sizes))
    lowest = corner[1]
    starts = [-math.inf, *first]
    seconds = sorted((other[0], other[1]) for other in others)
    for start, end, (_, second) in zip(starts, [*first, corner[0]], [(0.0, lowest), *seconds], strict=True):
        lowest = min(lowest, second)
        width = np.maximum(end - np.maximum(start, sizes[:, 0]), 0.0)
        area += width * np.maximum(lowest - sizes[:, 1], 0.0)
    return area


def _expected_improvement(on: float, mean: Floats, deviation: Floats) -> Floats:
    """E max(0, on - e) of normal errors e (Jones et al. 1998)."""
    from scipy.special import ndtr

    deviation = np.maximum(deviation, 1e-9)
    score = (on - mean) / deviation
    return np.asarray(deviation * (score * ndtr(score) + np.exp(-0.5 * np.square(score)) / math.sqrt(2 * math.pi)))

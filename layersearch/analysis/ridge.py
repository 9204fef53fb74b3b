"""Bayesian linear regression with an unknown penalty, in closed form.

Knows: columns, values, penalties. Does not know: patterns, studies, what a column means.

A ridge regression is the posterior mean of coefficients drawn from a normal distribution (Bishop 2006, section
3.3). Here each penalty of a grid, and each set of columns given, is weighed by its evidence (section 3.5), so that an
interval holds what is not known of the penalty too. The noise's variance has Jeffreys' prior, the intercept a flat one.
scikit-learn's BayesianRidge takes one penalty for the best and one set of columns; a search by cross-validation over it
takes a hundred times as long (the tests hold both beside this).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PENALTIES: Floats = np.logspace(-3, 1, 17)  # variance of the noise over that of a coefficient


@dataclass(frozen=True)
class Ridge:
    """The regression of `values` [n] on the columns [n, p], by singular value decomposition, at each of PENALTIES."""

    values: Floats
    centre: Floats  # [p], means of the columns
    left: Floats  # [n, r]
    sizes: Floats  # [r], singular values of the centred columns
    right: Floats  # [r, p]

    @property
    def _turned(self) -> Floats:
        """The centred values along the left singular vectors [r]."""
        return np.asarray(self.left.T @ (self.values - self.values.mean()))

    @property
    def _kept(self) -> Floats:
        """What each penalty leaves of each direction, [penalties, r]."""
        squares = np.square(self.sizes)
        return np.asarray(squares / (squares + PENALTIES[:, None]))

    @property
    def noise(self) -> Floats:
        """The variance of the noise at each penalty."""
        centred = self.values - self.values.mean()
        left = np.square(centred).sum() - self._kept @ np.square(self._turned)
        return np.asarray(np.maximum(left, 1e-18) / (len(centred) - 1))

    @property
    def evidence(self) -> Floats:
        """The logarithm of how likely the values are at each penalty, up to a constant."""
        volume = np.log1p(np.square(self.sizes) / PENALTIES[:, None]).sum(axis=1)
        return np.asarray(-0.5 * (volume + (len(self.values) - 1) * np.log(self.noise)))

    def told(self, rows: Floats) -> tuple[Floats, Floats]:
        """Mean and variance [k, penalties] of the sums that `rows` [k, p] make with the coefficients."""
        turned, squares = rows @ self.right.T, np.square(self.sizes)
        along = np.divide(self._turned, self.sizes, out=np.zeros_like(self.sizes), where=self.sizes > 0)
        means = turned @ (self._kept * along).T
        known = np.square(turned) @ (squares / (PENALTIES[:, None] * (squares + PENALTIES[:, None]))).T
        variances = self.noise * np.maximum(np.square(rows).sum(axis=1)[:, None] / PENALTIES - known, 0.0)
        return means, variances

    def left_out(self) -> Floats:
        """Each value as the others tell it, [n, penalties]; in closed form (Hastie et al. 2009, equation 7.64)."""
        fitted = self.values.mean() + self.left @ (self._kept * self._turned).T
        leverage = 1 / len(self.values) + np.square(self.left) @ self._kept.T
        values = self.values[:, None]
        return np.asarray(values - (values - fitted) / np.maximum(1 - leverage, 1e-9))


def ridge(columns: Floats, values: Floats) -> Ridge:
    """Regress `values` [n] on `columns` [n, p]."""
    centre = columns.mean(axis=0)
    left, sizes, right = np.linalg.svd(columns - centre, full_matrices=False)
    return Ridge(values, centre, left, np.where(sizes > 1e-9 * max(sizes.max(initial=0), 1e-9), sizes, 0.0), right)


@dataclass(frozen=True)
class Mixture:
    """Regressions of the same values on several sets of columns, weighed by `weights` [sets, penalties]."""

    ridges: Sequence[Ridge]
    weights: Floats

    @property
    def noise(self) -> float:
        """The variance of the noise."""
        return float(sum(weights @ one.noise for one, weights in zip(self.ridges, self.weights, strict=True)))

    def told(self, rows: Sequence[Floats]) -> tuple[Floats, Floats]:
        """Mean and standard deviation [k] of sums over coefficients; `rows` has one [k, p] for each set of columns."""
        found = [one.told(of_one) for one, of_one in zip(self.ridges, rows, strict=True)]
        pairs = list(zip(found, self.weights, strict=True))
        mean = sum((means @ weights for (means, _), weights in pairs), np.zeros(len(rows[0])))
        square = sum(
            ((variances + np.square(means - mean[:, None])) @ weights for (means, variances), weights in pairs),
            np.zeros(len(rows[0])),
        )
        return mean, np.sqrt(square)

    def left_out(self) -> Floats:
        """Each value as the others tell it, [n]; the weights are those of all."""
        pairs = zip(self.ridges, self.weights, strict=True)
        return np.asarray(sum(one.left_out() @ weights for one, weights in pairs))


def mixture(sets: Sequence[Floats], values: Floats) -> Mixture:
    """Regress `values` [n] on each of `sets` [n, p], all as likely beforehand.

    A penalty above 1 is as likely as one below (the uniform shrinkage prior: Daniels, Canadian Journal of Statistics
    27, 1999), and none is above 10: by simulation, intervals are too short where coefficients may be taken for equal.
    """
    ridges = [ridge(columns, values) for columns in sets]
    evidence = np.stack([one.evidence for one in ridges]) - np.log(2 + PENALTIES + 1 / PENALTIES)
    weights = np.exp(evidence - evidence.max())
    return Mixture(ridges, weights / weights.sum())

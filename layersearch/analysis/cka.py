"""Linear CKA: how alike two sets of representations of the same examples are, whatever their rotation and scale.

Knows: arrays of rows, a batch at a time. Does not know: models, texts. Memory holds one batch's kernels: it grows with
the batch and the number of places, and not with the number of examples.

Linear CKA is after Kornblith et al., arXiv 1905.00414; that numerator and denominator are means over minibatches of the
unbiased estimator of HSIC is after Nguyen, Raghu and Kornblith, arXiv 2010.15327, appendix; the estimator is that of
Song et al., JMLR 13 (2012). What the usual estimator adds for few examples and wide rows is not there: of independent
rows it is 0 on average, and may fall below 0. As any CKA it follows few directions of large variance closely, and
outliers with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from layersearch.analysis.wanted import BATCH
from layersearch.errors import DataError

FEWEST = 4  # rows of which the unbiased estimator can be had
_NOTHING = 1e-10  # of the mean square of the rows: variance below it is the rounding of rows that do not differ


@dataclass(frozen=True)
class Sums:
    """Sums over batches, weighted with their `rows`, float64: unbiased HSIC of all pairs of p and q places.

    `cross` [p, q], `first` [p] and `second` [q] of each place with itself, NaN where rows do not differ.
    """

    cross: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    rows: int

    def plus(self, other: Sums) -> Sums:
        """Both together."""
        return Sums(**{name: value + vars(other)[name] for name, value in vars(self).items()})

    def values(self) -> NDArray[np.float64]:
        """CKA of every pair of places [p, q]; NaN where one has no variance."""
        product = self.first[:, None] * self.second[None, :]
        valid = (self.first[:, None] > 0) & (self.second[None, :] > 0)
        found = self.cross / product.where(valid, torch.nan).sqrt()
        return np.asarray(found.cpu().numpy())


def sums_of(first: torch.Tensor, second: torch.Tensor | None = None) -> Sums:
    """The sums of one batch, `first` [p, rows, width] against `second` [q, rows, another width] or against itself.

    Raises DataError for fewer than FEWEST rows, and where the two do not have equally many.
    """
    rows = first.shape[1]
    if second is not None and second.shape[1] != rows:
        raise DataError(
            f"CKA compares the same examples in both models, and here are {rows} and {second.shape[1]}; give both the "
            "same examples, cut into as many pieces"
        )
    if rows < FEWEST:
        raise DataError(f"CKA needs at least {FEWEST} examples, and here are {rows}; give more")
    ours = _kernels(first)
    theirs = ours if second is None else _kernels(second)
    cross = _hsic(ours, theirs)
    own = (cross if second is None else _hsic(ours, ours)).diagonal().where(_varies(first), torch.nan)
    other = own if second is None else _hsic(theirs, theirs).diagonal().where(_varies(second), torch.nan)
    return Sums(rows * cross, rows * own, rows * other, rows)


def batches_of(rows: torch.Tensor, batch: int, seed: int) -> Iterator[torch.Tensor]:
    """`rows` [p, n, width] in random batches of at most `batch` rows, and of FEWEST or more where n is not less.

    The same seed draws the same rows, so that those of two models stay side by side.
    """
    number = rows.shape[1]
    order = np.random.default_rng(seed).permutation(number)
    for part in np.array_split(order, max(1, -(-number // max(batch, 2 * FEWEST)))):
        yield rows[:, torch.from_numpy(np.sort(part)).to(rows.device)]


def linear_cka(first: ArrayLike, second: ArrayLike, batch: int = BATCH, seed: int = 0) -> NDArray[np.float64]:
    """Debiased linear CKA of rows that are there already: [n, width] or [places, n, width] each, any two widths.

    Gives [places of the first, places of the second], over batches of at most `batch` rows drawn with `seed`; a `batch`
    of n or more is the full-batch estimator. Raises DataError as `sums_of` does.
    """
    ours, theirs = (_placed(rows) for rows in (first, second))
    if ours.shape[1] != theirs.shape[1]:
        sums_of(ours, theirs)  # says so
    pairs = zip(batches_of(ours, batch, seed), batches_of(theirs, batch, seed), strict=True)
    found: Sums | None = None
    for one, other in pairs:
        sums = sums_of(one, other)
        found = sums if found is None else found.plus(sums)
    assert found is not None
    return found.values()


def _placed(rows: ArrayLike) -> torch.Tensor:
    array = torch.as_tensor(np.asarray(rows))
    return array[None] if array.ndim == 2 else array


def _centred(rows: torch.Tensor) -> torch.Tensor:
    wide = rows.double()
    return wide - wide.mean(dim=1, keepdim=True)


def _kernels(rows: torch.Tensor) -> torch.Tensor:
    """Linear kernels without their diagonals [p, rows, rows]; centring changes no HSIC and spares digits."""
    centred = _centred(rows)
    kernels = centred @ centred.transpose(1, 2)
    kernels.diagonal(dim1=1, dim2=2).zero_()
    return kernels


def _varies(rows: torch.Tensor) -> torch.Tensor:
    """Whether the rows of a place differ by more than rounding [p]."""
    return _centred(rows).square().mean(dim=(1, 2)) > _NOTHING * rows.double().square().mean(dim=(1, 2))


def _hsic(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Unbiased HSIC [p, q] of kernels without diagonals [p, n, n] and [q, n, n]; Song et al. 2012, equation 5."""
    n = first.shape[1]
    sums, others = first.sum(dim=2), second.sum(dim=2)
    traces = first.flatten(1) @ second.flatten(1).T
    means = sums.sum(1)[:, None] * others.sum(1)[None, :] / ((n - 1) * (n - 2))
    return (traces + means - 2 / (n - 2) * sums @ others.T) / (n * (n - 3))

"""Debiased linear CKA: against the full formula in plain numpy, on cases with a known answer, and of a model's rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from layersearch.analysis.cka import batches_of, linear_cka, sums_of
from layersearch.analysis.states import SPREAD, groups_of, layer_rows, rows_of
from layersearch.errors import DataError
from layersearch.tasks.task import Encoded
from layersearch.training.batches import collate
from tests.models.conftest import make_tiny, tiny

__all__ = ["make_tiny", "tiny"]

Floats = NDArray[np.float64]


def by_the_formula(x: Floats, y: Floats) -> tuple[float, float, float]:
    """Unbiased HSIC of x with y, x with x, y with y; every sum written out over pairs of rows."""

    def hsic(k: Floats, m: Floats) -> float:
        n, one = len(k), np.ones(len(k))
        trace = np.einsum("ij,ji->", k, m)
        return float(
            (trace + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ m @ one))
            / (n * (n - 3))
        )

    k, m = (rows @ rows.T * (1 - np.eye(len(rows))) for rows in (x, y))
    return hsic(k, m), hsic(k, k), hsic(m, m)


@pytest.fixture
def rows() -> tuple[Floats, Floats]:
    """Two sets of 90 rows that have something in common, far from the origin, of unlike widths."""
    rng = np.random.default_rng(0)
    first = rng.normal(size=(90, 12)) + 7
    return first, first[:, :4] @ rng.normal(size=(4, 20)) + 2 * rng.normal(size=(90, 20)) - 3


def test_one_batch_is_the_full_formula(rows: tuple[Floats, Floats]) -> None:
    cross, first, second = by_the_formula(*rows)
    assert linear_cka(*rows, batch=90)[0, 0] == pytest.approx(cross / np.sqrt(first * second), abs=1e-9)


def test_batches_are_means_of_the_formula(rows: tuple[Floats, Floats]) -> None:
    """Nguyen et al.: the means of numerator and denominator, not of their quotients."""
    ours, theirs = (torch.from_numpy(one)[None] for one in rows)
    pairs = zip(batches_of(ours, 30, 0), batches_of(theirs, 30, 0), strict=True)
    sums = np.array([by_the_formula(a[0].numpy(), b[0].numpy()) for a, b in pairs])
    assert len(sums) == 3
    cross, first, second = sums.mean(axis=0)
    assert linear_cka(*rows, batch=30)[0, 0] == pytest.approx(cross / np.sqrt(first * second), abs=1e-9)


@pytest.mark.parametrize("batch", [64, 1000])
def test_rotation_and_scale_do_not_matter(rows: tuple[Floats, Floats], batch: int) -> None:
    first = rows[0]
    turned = 3.5 * first @ np.linalg.qr(np.random.default_rng(1).normal(size=(12, 12)))[0] + 100
    places = linear_cka(np.stack([first, turned]), np.stack([first, turned]), batch=batch)
    assert places == pytest.approx(np.ones((2, 2)), abs=1e-6)


def test_independent_rows_have_nothing_in_common_however_wide() -> None:
    """Where the usual estimator says 0.84 (Nguyen et al. show so): 100 rows, 500 wide."""
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 400, 500))
    assert abs(linear_cka(first, second, batch=100)[0, 0]) < 0.05


def test_rows_that_do_not_differ_have_no_cka(rows: tuple[Floats, Floats]) -> None:
    same = np.full((90, 3), 0.1, dtype=np.float32) + np.float32(1e-8)
    assert np.isnan(linear_cka(rows[0], same)).all()


def test_what_cannot_be_compared_is_one_line(rows: tuple[Floats, Floats]) -> None:
    with pytest.raises(
        DataError, match=r"^CKA compares the same examples in both models, and here are 90 and 80; give"
    ):
        linear_cka(rows[0], rows[1][:80])
    with pytest.raises(DataError, match=r"^CKA needs at least 4 examples, and here are 3; give more$"):
        sums_of(torch.ones(1, 3, 2))


@pytest.fixture
def encoded() -> Encoded:
    """Thirty examples of three to eight tokens."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 9, size=30)
    offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int64)
    ids = rng.integers(3, 60, size=lengths.sum()).astype(np.int32)
    return Encoded(ids, None, offsets, rng.integers(0, 3, size=30))


@torch.no_grad()
@pytest.mark.parametrize("of", ["mean", "first", "every"])
def test_rows_are_the_hidden_states_in_the_order_of_the_examples(
    tiny: PreTrainedModel, encoded: Encoded, of: str
) -> None:
    group = np.array([7, 2, 11])
    found = rows_of(tiny, encoded, group, of, size=2)  # type: ignore[arg-type]
    wanted = []
    for example in sorted(group, key=lambda one: -encoded.lengths[one]) if of == "every" else sorted(group):
        inputs = collate(encoded, np.array([example]), tiny.device, 1)
        states = torch.stack(tiny(**inputs, output_hidden_states=True).hidden_states)[:, 0]
        wanted.append({"mean": states.mean(1, keepdim=True), "first": states[:, :1], "every": states}[of])
    assert torch.allclose(found[::2], torch.cat(wanted, dim=1), atol=1e-5)


def test_layer_rows_are_those_of_a_group_of_all(
    tiny: PreTrainedModel, encoded: Encoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = rows_of(tiny, encoded, np.arange(30), "mean")[::2].numpy()
    assert layer_rows(tiny, encoded, "mean") == pytest.approx(wanted, abs=1e-6)
    monkeypatch.setattr("layersearch.analysis.states.IN_MEMORY", 0)
    on_disk = layer_rows(tiny, encoded, "mean")
    assert isinstance(on_disk, np.memmap)
    assert on_disk == pytest.approx(wanted, abs=1e-6)


def test_groups_hold_every_example_once_and_about_as_many_rows(encoded: Encoded) -> None:
    lengths = encoded.lengths
    by_text = groups_of(lengths, np.arange(30), 8, "mean", 0)
    by_token = groups_of(lengths, np.arange(30), 8, "every", 0)
    for groups in (by_text, by_token):
        assert sorted(np.concatenate(groups)) == list(range(30))
    assert {len(group) for group in by_text} <= {7, 8}
    assert max(lengths[group].sum() for group in by_token) <= SPREAD * 8 + 8

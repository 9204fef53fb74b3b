"""A study whose candidates get zeros, from the command to the exported folder: columns, words, rates."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from layersearch.search.record import read_study
from layersearch.training.recipe import compressed_bytes
from tests.conftest import Said, call

Words = tuple[str | Path | int, ...]


@dataclass(frozen=True)
class Sparse:
    """A finished study: its question's words, where it lies, what was said."""

    what: Words
    where: Words
    folder: Path
    said: Said


def question(model: Path, data: Path, *more: str | int) -> Words:
    usual = "--epochs 2 --lr 1e-2 --batch-size 8 --max-length 24 --precision fp32 --holdout 0.3"
    return ("--model", model, "--task", "sst2", "--data", data, *usual.split(), *more)


def places(folder: Path, study: str) -> Words:
    where = ("--study", study, "--storage", folder / "study.db", "--files", folder / "files")
    return (*where, "--workers", 0, "--device", "cpu")


@pytest.fixture(scope="module")
def sparse(tiny_model: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Sparse:
    folder = tmp_path_factory.mktemp("sparse")
    words = ["--method", "fine-tune", "--sparsity", "0.4", "--sparsity-method", "movement"]
    what, where = question(tiny_model, tiny_data, *words), places(folder, "sparse")
    said = call("run", *what, *where, "--trials", 3, "--confirm", 2)
    assert said.code == 0, said.err
    return Sparse(what, where, folder, said)


def test_dense_count_and_non_zero_count_are_two_columns(sparse: Sparse) -> None:
    storage = ("--storage", sparse.folder / "study.db")
    rows = list(csv.DictReader(io.StringIO(call("front", *storage, "--all", "--csv").out)))
    record = read_study(str(sparse.folder / "study.db"), None, print)
    assert len(rows) == 3
    for row in rows:
        assert float(row["sparsity"]) == pytest.approx(0.4, abs=1e-3)
        dense, left = int(row["parameters"]), int(row["non_zero"])
        assert left < dense
        assert int(row["compressed_bytes"]) == compressed_bytes(dense, left)
        pattern = record.trial(int(row["trial"])).pattern
        assert dense == record.trial(int(row["trial"])).parameters, pattern
    said = call("front", *storage).out
    assert "non-zero" in said.splitlines()[0]
    assert (
        "40.0% of the weights of the layers' matrices were to become zero, 40.0% to 40.0% did): PyTorch is not" in said
    )


def test_a_plan_has_both_columns_and_training_reaches_them(sparse: Sparse) -> None:
    """To a weight, but for the padding token's row of 16 zeros, which is there without the recipe."""
    plan = call("plan", *sparse.what, "--limit", 0)
    assert plan.code == 0, plan.err
    assert "  non-zero  " in plan.out.splitlines()[0]
    told = {row["pattern"]: row for row in csv.DictReader(io.StringIO(call("plan", *sparse.what, "--csv").out))}
    record = read_study(str(sparse.folder / "study.db"), None, print)
    for row in record.rows:
        dense, left = int(told[row.pattern]["parameters"]), int(told[row.pattern]["non_zero"])
        assert row.parameters == dense
        assert row.non_zero is not None
        assert left - 16 <= row.non_zero <= left
        assert row.sparsity is not None
        weights = (dense - left) / row.sparsity
        assert weights == pytest.approx(round(weights), abs=1e-6)
        assert f"{left:,}" in plan.out


def test_a_plan_leaves_dense_what_others_start_from_and_has_no_column_without_zeros(sparse: Sparse) -> None:
    words = ["distill" if word == "fine-tune" else word for word in sparse.what]
    rows = json.loads(call("plan", *words, "--json").out)
    assert [row["pattern"] for row in rows if row["non_zero"] == row["parameters"]] == ["0-3"]
    assert "\nnon-zero: the unchanged model keeps all, " in call("plan", *words).out
    assert "non-zero:" not in call("plan", *sparse.what).out
    plain = [word for word in sparse.what if not str(word).startswith("--sparsity") and word not in ("0.4", "movement")]
    said = call("plan", *plain)
    assert said.code == 0, said.err
    assert "non-zero" not in said.out.splitlines()[0]


def test_show_tells_the_size_without_zeros_and_that_it_buys_no_time(sparse: Sparse) -> None:
    said = " ".join(call("show", "--storage", sparse.folder / "study.db", "--trial", 0).out.split())
    assert "sparsity 40.0" in said
    assert "of the weights of the layers' matrices are zero; PyTorch is not faster with them" in said
    assert "where a bit a parameter says which are zero and the rest stays fp32" in said
    assert "seeds that diverged" in said
    facts = json.loads(call("show", "--storage", sparse.folder / "study.db", "--trial", 0, "--json").out)
    assert facts["sparsity"] == pytest.approx(0.4, abs=1e-3)
    assert facts["divergence_rate"] in (0.0, 0.5, 1.0)


def test_an_export_is_proven_with_its_share_and_can_be_reproduced(sparse: Sparse, tmp_path: Path) -> None:
    storage, to = ("--storage", sparse.folder / "study.db"), tmp_path / "it"
    number = json.loads(call("front", *storage, "--json").out)[0]["trial"]
    said = call("export", *storage, "--trial", number, "--to", to, "--device", "cpu")
    assert said.code == 0, said.err
    assert "weights of the layers' matrices exactly zero" in said.out + said.err
    assert "| zeros | 40.0% of the" in (to / "README.md").read_text()
    assert "sparsity_method movement" in (to / "README.md").read_text()
    verified = call("verify", to)
    assert verified.code == 0
    assert "40.0" in verified.out
    assert "exactly zero" in verified.out
    again = json.loads(call("reproduce", to, "--device", "cpu", "--json").out)
    assert again["same"]


def test_another_sparsity_is_another_study(sparse: Sparse) -> None:
    words = [word if word != "0.4" else "0.6" for word in sparse.what]
    said = call("run", *words, *sparse.where, "--trials", 3)
    assert said.code == 1
    assert "--sparsity is 0.4 there and 0.6 here" in said.err


def test_a_report_has_both_columns(sparse: Sparse, tmp_path: Path) -> None:
    assert call("report", "--storage", sparse.folder / "study.db", "--to", tmp_path / "it.html").code == 0
    page = (tmp_path / "it.html").read_text()
    assert "non-zero" in page
    assert "PyTorch is not faster with them" in page


@pytest.mark.parametrize("share", ["0", "1", "1.5", "-0.5", "nan"])
def test_a_share_of_nothing_or_all_is_one_line(tiny_model: Path, tiny_data: Path, share: str) -> None:
    said = call("run", *question(tiny_model, tiny_data, "--sparsity", share))
    line = f"error: --sparsity {float(share)} is not possible; allowed: above 0 and below 1, the share of the weights "
    assert said == Said(2, "", f"{line}that end as zero\n")


def test_trainings_that_come_to_nothing_are_counted(tiny_model: Path, tiny_data: Path, tmp_path: Path) -> None:
    """With next to no learning all answers are alike."""
    where = places(tmp_path, "lost")
    what = question(tiny_model, tiny_data, "--method", "fine-tune", "--lr", "1e-9", "--epochs", "0.1")
    said = call("run", *what, *where, "--trials", 2, "--confirm", 3)
    assert said.code == 0, said.err
    record = read_study(str(tmp_path / "study.db"), None, print)
    number = sum(len(found.diverged) for found in record.divergences.values())
    ran = sum(len(found.ran) for found in record.divergences.values())
    assert number > 0
    out = call("front", "--storage", tmp_path / "study.db").out
    assert f"{number} of {ran} trainings of the confirmation diverged (" in out
    rows = json.loads(call("front", "--storage", tmp_path / "study.db", "--json").out)
    assert all("divergence_rate" in row and "non_zero" not in row for row in rows)
    table = call("confirm", "--storage", tmp_path / "study.db", "--seeds", 3, "--workers", 0, "--device", "cpu").out
    assert "diverged" in table.splitlines()[0]
    row = next(row for row in record.rows if row.done and record.divergences[row.pattern].diverged)
    to = tmp_path / "exported"
    said = call("export", "--storage", tmp_path / "study.db", "--trial", row.number, "--to", to, "--device", "cpu")
    assert said.code == 0, said.err
    (warning,) = [line for line in (to / "README.md").read_text().splitlines() if line.startswith("Warning: ")]
    assert f"{record.divergences[row.pattern]} in the confirmation of this pattern (seed" in warning


@pytest.mark.parametrize("method", ["distill", "one-shot"])
def test_sparse_candidates_are_taught_by_a_dense_model(
    tiny_model: Path, tiny_data: Path, tmp_path: Path, method: str
) -> None:
    where = places(tmp_path, "it")
    what = question(tiny_model, tiny_data, "--method", method, "--sparsity", "0.5", "--teach", "logits+hidden")
    said = call("run", *what, *where, "--trials", 3, "--confirm", 0)
    assert said.code == 0, said.err
    record = read_study(str(tmp_path / "study.db"), None, print)
    shares = {row.pattern: row.sparsity for row in record.rows if row.done}
    assert shares.pop("0-3") == pytest.approx(0.0, abs=1e-3)
    assert list(shares.values()) == pytest.approx([0.5] * 2, abs=1e-3)
    assert record.purpose.values["recipe.teach"] == "logits+hidden"

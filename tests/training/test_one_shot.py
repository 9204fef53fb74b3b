"""The two kinds of jobs of a one-shot search: make a super-network and score patterns; fine-tune a candidate of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from layersearch.models import checkpoint
from layersearch.models.supernet import blocks_run
from layersearch.pattern import Pattern, thirds
from layersearch.training.evaluator import Evaluator
from layersearch.training.finetune import predict
from layersearch.training.job import Job, Outcome
from layersearch.training.told import told_in

PATTERNS = ("0-3", "0-2", "0 3", "1", "2a 3f")


@pytest.fixture
def network(evaluator: Evaluator, tmp_path: Path) -> tuple[Job, Outcome]:
    """The job of a super-network and what came of it, the unchanged model fine-tuned before."""
    whole, folder = str(tmp_path / "unchanged"), str(tmp_path / "super")
    assert evaluator(Job(0, "0-3", 0, checkpoint=whole)).score is not None
    job = Job(-1, "0-3", 0, checkpoint=folder, start=whole, patterns=PATTERNS)
    return job, evaluator(job)


def test_a_super_network_scores_its_patterns_and_keeps_itself(
    evaluator: Evaluator, network: tuple[Job, Outcome], tmp_path: Path
) -> None:
    _, outcome = network
    assert outcome.reason is None
    assert set(outcome.shared) == set(PATTERNS)
    model, manifest = checkpoint.load(tmp_path / "super")
    assert str(manifest.pattern) == "0-3"
    answers = np.load(told_in(tmp_path / "super"))
    np.testing.assert_allclose(
        answers, predict(model, "classification", evaluator.data["train"], "fp32"), rtol=1e-4, atol=1e-5
    )
    assert Outcome.from_json(outcome.as_json()).shared == outcome.shared


def test_a_super_network_that_is_there_is_scored_and_not_trained_again(
    evaluator: Evaluator, network: tuple[Job, Outcome]
) -> None:
    job, first = network
    again = evaluator(replace(job, start=None))
    assert again.shared == pytest.approx(first.shared)
    scored = thirds(blocks_run(map(Pattern.parse, PATTERNS))) / 3 * len(evaluator.data["search"])
    whole = 4 * len(evaluator.data["train"]) * evaluator.recipe.epochs
    assert again.work == pytest.approx(scored / (3 * whole))
    assert first.work > again.work + 1
    assert evaluator(replace(job, start="gone")).work == pytest.approx(first.work)  # who was to make it pays for it


def test_a_candidate_starts_from_the_super_network_and_costs_the_same_whatever_its_size(
    evaluator: Evaluator, network: tuple[Job, Outcome], tmp_path: Path
) -> None:
    assert network[1].reason is None
    shared, _ = checkpoint.load(tmp_path / "super")
    evaluator(Job(1, "0 3", 0, start=str(tmp_path / "super"), checkpoint=str(tmp_path / "c"), budget=1e-6))
    model, _ = checkpoint.load(tmp_path / "c")
    kept = shared.get_parameter("bert.encoder.layer.3.output.dense.weight")
    one_step = model.get_parameter("bert.encoder.layer.1.output.dense.weight")
    assert torch.allclose(one_step, kept, atol=2 * evaluator.recipe.learning_rate)
    jobs = [Job(2, text, 0, start=str(tmp_path / "super"), budget=0.3) for text in ("0-2", "1", "2a")]
    assert [evaluator(job).work for job in jobs] == pytest.approx([0.3] * 3, rel=0.1)
    by_layers = evaluator(replace(jobs[1], budget=None))
    assert by_layers.work == pytest.approx(1 / 4, rel=0.1)
    assert by_layers.start == "super"


def test_a_network_fine_tunes_its_unchanged_model_itself_where_that_is_gone(
    evaluator: Evaluator, network: tuple[Job, Outcome], tmp_path: Path
) -> None:
    job, first = network
    alone = evaluator(replace(job, checkpoint=str(tmp_path / "alone"), start=str(tmp_path / "gone"), scores=False))
    assert alone.reason is None
    assert alone.shared == {}
    whole, _ = checkpoint.load(tmp_path / "super")
    other, _ = checkpoint.load(tmp_path / "alone")
    for one, two in zip(whole.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two)
    scored = thirds(blocks_run(map(Pattern.parse, PATTERNS))) / 3 * len(evaluator.data["search"])
    unit = 3 * 4 * len(evaluator.data["train"]) * evaluator.recipe.epochs
    assert alone.work == pytest.approx(first.work + 1 - scored / unit)

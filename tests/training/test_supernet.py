"""Training a super-network: its sub-networks learn, equal seeds give equal weights, scores come from one pass."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from layersearch.models.base import BaseModel
from layersearch.models.surgery import build
from layersearch.pattern import Pattern
from layersearch.tasks.task import Encoded, Task
from layersearch.training.finetune import Teacher, finetune, predict
from layersearch.training.supernet import predict_many, train_super
from tests.training.conftest import RECIPE

LONG = RECIPE.with_(epochs=12.0)
PATTERNS = [Pattern.parse(text) for text in ("0-3", "0-2", "0 3", "1", "2a 3f")]


def trained(base: BaseModel, data: dict[str, Encoded]) -> torch.nn.Module:
    """Fine-tuned, then trained as a super-network: cold it does not learn."""
    model = build(base.model, Pattern.full(4))
    finetune(model, "classification", RECIPE, data["train"])
    train_super(model, "classification", LONG, data["train"], lambda rng: rng.choice(PATTERNS))
    return model


def test_sub_networks_learn_and_a_seed_gives_the_same_weights(
    base: BaseModel, data: dict[str, Encoded], task: Task
) -> None:
    first, second = trained(base, data), trained(base, data)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    logits = predict_many(first, "classification", PATTERNS, data["search"], "fp32")  # type: ignore[arg-type]
    scores = {str(p): task.score(answer, data["search"])["accuracy"] for p, answer in logits.items()}
    assert min(scores.values()) > 0.8, scores


def test_scores_of_many_are_the_scores_of_each(base: BaseModel, data: dict[str, Encoded]) -> None:
    many = predict_many(base.model, "classification", PATTERNS, data["search"], "fp32")
    for pattern in PATTERNS:
        alone = predict(build(base.model, pattern), "classification", data["search"], "fp32")
        np.testing.assert_allclose(many[pattern], alone, rtol=1e-4, atol=1e-5)


def test_a_teacher_is_followed_even_where_the_labels_say_otherwise(base: BaseModel, data: dict[str, Encoded]) -> None:
    train = data["train"]
    wrong = 1 - train.labels.astype(np.int64)
    told = np.eye(2, dtype=np.float32)[wrong] * 4 - 2
    model = build(base.model, Pattern.full(4))
    finetune(model, "classification", LONG, train, teacher=Teacher(told, weight=1.0))
    assert (predict(model, "classification", train, "fp32").argmax(axis=1) == wrong).mean() > 0.9


def test_the_random_state_of_the_draws_is_the_recipes(
    base: BaseModel, data: dict[str, Encoded], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[list[Pattern]] = []
    for tokens in (1024, 1024, 30):  # where a batch is taken in pieces, its pattern is still one
        monkeypatch.setattr("layersearch.training.steps.TOKENS", tokens)
        seen: list[Pattern] = []

        def draw(rng: random.Random, seen: list[Pattern] = seen) -> Pattern:
            seen.append(rng.choice(PATTERNS))
            return seen[-1]

        train_super(build(base.model, Pattern.full(4)), "classification", RECIPE.with_(epochs=1.0), data["train"], draw)
        drawn.append(seen)
    assert drawn[0] == drawn[1] == drawn[2]

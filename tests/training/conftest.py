"""What the training tests share: a loaded base model, encoded data."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from layersearch.models.base import BaseModel, load_base
from layersearch.tasks import load_task
from layersearch.tasks.task import Encoded, Task
from layersearch.training.evaluator import Evaluator
from layersearch.training.recipe import Recipe

RECIPE = Recipe(learning_rate=5e-3, batch_size=8, epochs=4, max_length=24, precision="fp32")


@pytest.fixture(scope="session")
def task(tiny_data: Path) -> Task:
    return load_task("sst2", tiny_data)


@pytest.fixture(scope="session")
def base(tiny_model: Path) -> BaseModel:
    return load_base(tiny_model, num_labels=2, kind="classification")


@pytest.fixture(scope="session")
def data(task: Task, tiny_model: Path) -> dict[str, Encoded]:
    splits = task.splits(0.2, 0)
    tokenizer = AutoTokenizer.from_pretrained(tiny_model, local_files_only=True)
    parts = {"train": splits.train, "search": splits.search, "validation": splits.validation}
    return {name: task.encode(part, tokenizer, RECIPE.max_length) for name, part in parts.items()}


@pytest.fixture
def evaluator(base: BaseModel, task: Task, data: dict[str, Encoded]) -> Evaluator:
    return Evaluator(base=base, task=task, recipe=RECIPE, data=data)

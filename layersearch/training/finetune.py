"""Fine-tune one candidate by a recipe and score it: a model becomes numbers.

Knows: tensors, the recipe, the task's kind and score. Does not know: patterns, studies, Ray, SQL, where weights come
from, how a step is taken.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from layersearch.counts import count
from layersearch.errors import TrainingError
from layersearch.kinds import KINDS, KindName, answers_of, logits_a_unit
from layersearch.tasks.task import Encoded, Task
from layersearch.training.batches import Batch, batch_of, scoring_order
from layersearch.training.job import DIVERGED
from layersearch.training.recipe import Recipe
from layersearch.training.steps import Heartbeat, Training, pad_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from layersearch.training.hidden import Leader

SCORING_BATCH = 64


@dataclass(frozen=True)
class Scores:
    """What one evaluation measured: the task's metrics, the objective's interval, and what it cost.

    `interval` is a 95 % bootstrap interval over the scored examples, `redrawn` as `metrics.Noise` has it; times are in
    seconds of wall clock; `examples` counts examples x epochs that were trained on.
    """

    metrics: dict[str, float]
    interval: tuple[float, float]
    redrawn: tuple[float, ...]
    train_loss: float
    train_seconds: float
    score_seconds: float
    precision: Literal["bf16", "fp32"]
    examples: int


def measure(training: Training, task: Task, held_out: Encoded, share: float, heartbeat: Heartbeat) -> Scores:
    """Train until `share` of the steps is done, and score the model on `held_out`. Raises TrainingError."""
    model, precision = training.model, training.precision
    began = time.perf_counter()
    loss = training.advance(share, heartbeat)
    trained = time.perf_counter()
    answers = predict(model, task.kind, held_out, precision, heartbeat)
    metrics = task.score(answers, held_out)
    if not math.isfinite(metrics[task.metric]):
        raise TrainingError(
            f"{task.metric} is {metrics[task.metric]} on {count(len(held_out), 'example')}; try a lower learning rate"
        )
    noise = task.noise(answers, held_out)
    return Scores(
        metrics=metrics,
        **vars(noise),
        train_loss=loss,
        train_seconds=trained - began,
        score_seconds=time.perf_counter() - trained,
        precision=precision,
        examples=math.ceil(training.done * len(training.train) * training.recipe.epochs),
    )


def finetune(
    model: PreTrainedModel,
    kind: KindName,
    recipe: Recipe,
    train: Encoded,
    heartbeat: Heartbeat = lambda _: None,
    teacher: Teacher | None = None,
) -> float:
    """Fine-tune `model` in place; returns the mean loss of the last `CHECK_EVERY` steps or fewer.

    Raises TrainingError when the loss is not finite.
    """
    return begin(model, kind, recipe, train, teacher).advance(1.0, heartbeat)


def begin(
    model: PreTrainedModel, kind: KindName, recipe: Recipe, train: Encoded, teacher: Teacher | None = None
) -> Training:
    """The fine-tuning of `model` in place, before its first step.

    The loss is that of the `kind`; with a `teacher` its part of the loss is the distance to what the teacher says. The
    order of the examples and the dropout follow `recipe.seed`, so one machine gives one answer.
    """
    row, distance = KINDS[kind], _distance_to(teacher, model, kind)

    def loss_of(batch: Batch, factor: float) -> torch.Tensor:
        with _watched(model, teacher) as states:
            logits = answers_of(model(**batch.inputs), batch.inputs, kind)
        loss = row.loss(logits, batch.labels, batch.lengths)
        if teacher is not None:
            loss = (1 - teacher.weight) * loss + teacher.weight * distance(logits, states, batch)
        loss = factor * loss
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    return Training(model, kind, recipe, train, loss_of, whole=teacher is not None and teacher.leader is not None)


@dataclass(frozen=True)
class Teacher:
    """What is `told` by a larger model on the training data, float32 [units, ...], and its `weight` in the loss.

    A `leader` leads hidden states too, or alone where nothing is told. Both distances are added.
    """

    told: NDArray[np.float32] | None
    weight: float
    leader: Leader | None = None


States = Mapping[int, "torch.Tensor"]


def _watched(model: PreTrainedModel, teacher: Teacher | None) -> AbstractContextManager[States]:
    """The hidden states of the next run of `model` that its teacher leads."""
    if teacher is None or teacher.leader is None:
        return nullcontext({})
    from layersearch.training.hidden import states_behind

    return states_behind(model, teacher.leader.pairs)


def _distance_to(
    teacher: Teacher | None, model: PreTrainedModel, kind: KindName
) -> Callable[[torch.Tensor, States, Batch], torch.Tensor]:
    """How far logits and hidden states on a batch are from what the teacher says."""
    import torch

    told = None if teacher is None or teacher.told is None else torch.from_numpy(teacher.told).to(model.device)
    leader = None if teacher is None else teacher.leader

    def distance(logits: torch.Tensor, states: States, batch: Batch) -> torch.Tensor:
        parts = [] if leader is None else [leader.apart(states, batch.inputs)]
        if told is not None:
            parts.append(KINDS[kind].distance(logits, told[batch.units], batch.labels, batch.lengths))
        return torch.stack(parts).sum()

    return distance


def predict(
    model: PreTrainedModel,
    kind: KindName,
    encoded: Encoded,
    precision: Literal["bf16", "fp32"],
    heartbeat: Heartbeat = lambda _: None,
    *,
    teaching: bool = False,
) -> NDArray[np.float32]:
    """What the kind keeps of the model's answers, to score them or for `teaching`: float32 [units, width].

    In the order of `encoded`. Raises TrainingError when one is not finite.
    """
    import torch

    model.eval()  # type: ignore[no-untyped-call]
    keep = KINDS[kind].told if teaching else KINDS[kind].kept
    answers = np.empty((0, 0), dtype=np.float32)
    with torch.inference_mode(), torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        for indices in scoring_order(encoded.lengths, SCORING_BATCH, logits_a_unit(model.config, kind)):
            batch = batch_of(encoded, indices, kind, model.device, *pad_of(model))
            found = keep(answers_of(model(**batch.inputs), batch.inputs, kind), batch.labels).cpu().numpy()
            if not answers.size:
                answers = np.empty((len(encoded.labels), found.shape[1]), dtype=np.float32)
            answers[batch.units] = found
            heartbeat(1.0)
    bad = int((~np.isfinite(answers)).any(axis=1).sum())
    if bad:
        those = "tokens" if KINDS[kind].per_token else "examples"
        raise TrainingError(
            f"{bad} of {len(answers)} {those} got logits that are not finite: {DIVERGED}; try a lower learning rate"
        )
    return answers

"""Fine-tune one candidate by a recipe and score it: a model becomes numbers.

Knows: tensors, the recipe, the task's kind and score. Does not know: patterns, studies, Ray, SQL, where weights come
from. The loop is our own because `Trainer`, even with bf16 and grouping by length, took more processor time (about
as much wall clock, on a busy machine) and cannot say "no progress" or "not finite" (results/throughput).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from layersearch.errors import TrainingError
from layersearch.tasks.task import Encoded, Task
from layersearch.training.batches import collate, scoring_order, training_order
from layersearch.training.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

SCORING_BATCH = 64
TEMPERATURE = 2.0  # softens a teacher's distribution
CHECK_EVERY = 16  # steps between two looks at the loss: a look makes a GPU wait
Kind = Literal["classification", "regression"]
Heartbeat = Callable[[float], None]  # called with the share of the work that is done, at every step


@dataclass(frozen=True)
class Scores:
    """What one evaluation measured: the task's metrics, the objective's interval, and what it cost.

    `interval` is a 95 % bootstrap interval over the scored examples; times are in seconds of wall clock; `examples`
    counts examples x epochs that were trained on.
    """

    metrics: dict[str, float]
    interval: tuple[float, float]
    train_loss: float
    train_seconds: float
    score_seconds: float
    precision: Literal["bf16", "fp32"]
    examples: int


def has_bf16(device: torch.device) -> bool:
    """Whether `device` multiplies bf16 in hardware; on others bf16 autocast is slower than fp32."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    able = torch.cpu.get_capabilities()
    return any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def resolve_precision(recipe: Recipe, device: torch.device) -> Literal["bf16", "fp32"]:
    """The precision that "auto" stands for on `device`."""
    if recipe.precision != "auto":
        return recipe.precision
    return "bf16" if has_bf16(device) else "fp32"


def evaluate(
    model: PreTrainedModel,
    task: Task,
    recipe: Recipe,
    train: Encoded,
    held_out: Encoded,
    heartbeat: Heartbeat = lambda _: None,
    teacher: Teacher | None = None,
) -> Scores:
    """Fine-tune `model` in place on `train`, led by a `teacher` if there is one, and score it on `held_out`.

    Raises TrainingError as soon as a loss, a logit or a metric is not finite.
    """
    device = model.device
    precision = resolve_precision(recipe, device)
    began = time.perf_counter()
    loss = finetune(model, task.kind, recipe, train, heartbeat, teacher)
    trained = time.perf_counter()
    logits = predict(model, held_out, precision, heartbeat)
    metrics = task.score(logits, held_out.labels)
    if not math.isfinite(metrics[task.metric]):
        raise TrainingError(f"{task.metric} is {metrics[task.metric]} on {len(held_out)} examples")
    interval = task.interval(logits, held_out.labels)
    return Scores(
        metrics=metrics,
        interval=interval,
        train_loss=loss,
        train_seconds=trained - began,
        score_seconds=time.perf_counter() - trained,
        precision=precision,
        examples=math.ceil(len(train) * recipe.epochs),
    )


def finetune(
    model: PreTrainedModel,
    kind: Kind,
    recipe: Recipe,
    train: Encoded,
    heartbeat: Heartbeat = lambda _: None,
    teacher: Teacher | None = None,
) -> float:
    """Fine-tune `model` in place; returns the mean loss of the last `CHECK_EVERY` steps or fewer.

    Cross-entropy for classification, mean squared error for regression; with a `teacher` its part of the loss is the
    distance to the teacher's answers. The order of the examples and the dropout follow `recipe.seed`, so one machine
    gives one answer. Raises TrainingError when the loss is not finite.
    """
    import torch

    told = None if teacher is None else torch.from_numpy(teacher.logits).to(model.device)

    def loss_of(batch: Batch) -> torch.Tensor:
        logits = model(**batch.inputs).logits
        loss = label_loss(logits, batch.labels, kind)
        if teacher is None or told is None:
            loss.backward()  # type: ignore[no-untyped-call]
            return loss.detach()
        loss = (1 - teacher.weight) * loss + teacher.weight * distance(logits, told[batch.indices], kind)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    return optimise(model, recipe, train, loss_of, heartbeat)


@dataclass(frozen=True)
class Teacher:
    """Answers of a larger model on the training examples, float32 [n, num_labels], and their `weight` in the loss."""

    logits: NDArray[np.float32]
    weight: float


@dataclass(frozen=True)
class Batch:
    """Padded examples: model inputs int64 [batch, longest], labels [batch], and their places in the training data."""

    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor
    indices: NDArray[np.int64]


def optimise(
    model: PreTrainedModel,
    recipe: Recipe,
    train: Encoded,
    backward: Callable[[Batch], torch.Tensor],
    heartbeat: Heartbeat = lambda _: None,
) -> float:
    """Run the recipe's steps: `backward` leaves gradients in `model` and returns the batch's loss, detached.

    Returns the mean loss of the last `CHECK_EVERY` steps or fewer; raises TrainingError when it is not finite.
    """
    import torch

    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    steps = max(1, math.ceil(recipe.epochs * math.ceil(len(train) / recipe.batch_size)))
    optimizer, schedule = _optimizer(model, recipe, steps)
    autocast = resolve_precision(recipe, model.device) == "bf16"
    labels = torch.from_numpy(np.ascontiguousarray(train.labels)).to(model.device)
    model.train()
    order: list[NDArray[np.int64]] = []
    losses: list[torch.Tensor] = []
    mean = math.nan
    for step in range(steps):
        order = order or training_order(train.lengths, recipe.batch_size, rng)
        indices = order.pop()
        batch = Batch(collate(train, indices, model.device, pad_of(model)), labels[indices], indices)
        with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=autocast):
            losses.append(backward(batch))
        if recipe.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if len(losses) == CHECK_EVERY or step == steps - 1:
            mean = _finite_mean(losses, step)
            losses.clear()
        heartbeat((step + 1) / steps)
    return mean


def predict(
    model: PreTrainedModel,
    encoded: Encoded,
    precision: Literal["bf16", "fp32"],
    heartbeat: Heartbeat = lambda _: None,
) -> NDArray[np.float32]:
    """Logits float32 [n, num_labels] in the order of `encoded`; raises TrainingError when one is not finite."""
    import torch

    model.eval()  # type: ignore[no-untyped-call]
    logits = np.empty((len(encoded), int(model.config.num_labels or 1)), dtype=np.float32)
    with torch.inference_mode(), torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        for indices in scoring_order(encoded.lengths, SCORING_BATCH):
            answer = model(**collate(encoded, indices, model.device, pad_of(model))).logits
            logits[indices] = answer.float().cpu().numpy()
            heartbeat(1.0)
    bad = int((~np.isfinite(logits)).any(axis=1).sum())
    if bad:
        raise TrainingError(f"{bad} of {len(encoded)} examples got logits that are not finite: the training diverged")
    return logits


def _optimizer(
    model: PreTrainedModel, recipe: Recipe, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW (fused), no decay on biases and norms, and a linear schedule with warm-up."""
    import torch
    from transformers import get_linear_schedule_with_warmup

    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)
    warmup = math.ceil(recipe.warmup * steps)
    return optimizer, get_linear_schedule_with_warmup(optimizer, warmup, steps)  # type: ignore[no-untyped-call]


def label_loss(logits: torch.Tensor, labels: torch.Tensor, kind: Kind) -> torch.Tensor:
    """Cross-entropy for classification, mean squared error for regression, in fp32."""
    import torch.nn.functional as functional

    if kind == "regression":
        return functional.mse_loss(logits.float().squeeze(-1), labels)
    return functional.cross_entropy(logits.float(), labels)


def distance(logits: torch.Tensor, told: torch.Tensor, kind: Kind) -> torch.Tensor:
    """How far `logits` are from those of a teacher: squared error, or for classification the divergence from its
    softened distribution, times the square of the temperature (Hinton et al., arXiv 1503.02531)."""
    import torch.nn.functional as functional

    if kind == "regression":
        return functional.mse_loss(logits.float(), told)
    ours, theirs = (functional.log_softmax(x.float() / TEMPERATURE, dim=-1) for x in (logits, told))
    return functional.kl_div(ours, theirs, log_target=True, reduction="batchmean") * TEMPERATURE**2


def _finite_mean(losses: list[torch.Tensor], step: int) -> float:
    import torch

    mean = float(torch.stack(losses).mean())
    if not math.isfinite(mean):
        raise TrainingError(f"the loss is {mean} at step {step + 1}: the training diverged; try a lower learning rate")
    return mean


def pad_of(model: PreTrainedModel) -> int:
    """The token that fills short examples; 0 where the model names none."""
    pad = model.config.pad_token_id
    return 0 if pad is None else int(pad)

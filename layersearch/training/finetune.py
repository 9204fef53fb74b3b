"""Fine-tune one candidate by a recipe and score it: a model becomes numbers.

Knows: tensors, the recipe, the task's kind and score. Does not know: patterns, studies, Ray, SQL, where weights come
from. The loop is our own because `Trainer`, even with bf16 and grouping by length, took more processor time (about
as much wall clock, on a busy machine) and cannot say "no progress" or "not finite" (results/throughput).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from layersearch.errors import TrainingError
from layersearch.kinds import KINDS, KindName, answers_of, logits_a_unit
from layersearch.models.families import FAMILIES
from layersearch.tasks.task import Encoded, Task
from layersearch.training.batches import Batch, batch_of, scoring_order, training_order
from layersearch.training.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

SCORING_BATCH = 64
CHECK_EVERY = 16  # steps between two looks at the loss: a look makes a GPU wait
Heartbeat = Callable[[float], None]  # called with the share of the work that is done, at every step


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
    return measure(begin(model, task.kind, recipe, train, teacher), task, held_out, 1.0, heartbeat)


def measure(training: Training, task: Task, held_out: Encoded, share: float, heartbeat: Heartbeat) -> Scores:
    """Train until `share` of the steps is done, and score the model on `held_out`. Raises TrainingError."""
    model, precision = training.model, training.precision
    began = time.perf_counter()
    loss = training.advance(share, heartbeat)
    trained = time.perf_counter()
    answers = predict(model, task.kind, held_out, precision, heartbeat)
    metrics = task.score(answers, held_out)
    if not math.isfinite(metrics[task.metric]):
        raise TrainingError(f"{task.metric} is {metrics[task.metric]} on {len(held_out)} examples")
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

    The loss is that of the `kind`; with a `teacher` its part of the loss is the distance to the teacher's answers. The
    order of the examples and the dropout follow `recipe.seed`, so one machine gives one answer.
    """
    import torch

    told, row = None if teacher is None else torch.from_numpy(teacher.told).to(model.device), KINDS[kind]

    def loss_of(batch: Batch) -> torch.Tensor:
        logits = answers_of(model(**batch.inputs), batch.inputs, kind)
        loss = row.loss(logits, batch.labels, batch.lengths)
        if teacher is not None and told is not None:
            apart = row.distance(logits, told[batch.units], batch.labels, batch.lengths)
            loss = (1 - teacher.weight) * loss + teacher.weight * apart
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    return Training(model, kind, recipe, train, loss_of)


@dataclass(frozen=True)
class Teacher:
    """What is `told` by a larger model on the training data, float32 [units, ...], and its `weight` in the loss."""

    told: NDArray[np.float32]
    weight: float


class Training:
    """The steps of a recipe on `model`, in place; it may halt after any of them and go on as if it had not.

    `backward` leaves gradients in `model` and returns the batch's loss, detached. `done` is the share of the steps
    that are done.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        kind: KindName,
        recipe: Recipe,
        train: Encoded,
        backward: Callable[[Batch], torch.Tensor],
    ) -> None:
        import torch

        self.model, self.kind, self.recipe, self.train = model, kind, recipe, train
        self.precision = resolve_precision(recipe, model.device)
        self._steps = max(1, math.ceil(recipe.epochs * math.ceil(len(train) / recipe.batch_size)))
        self._step = 0
        self._backward = backward
        self._optimizer, self._schedule = _optimizer(model, recipe, self._steps)
        self._order = _endless(train, recipe)
        self._losses: list[torch.Tensor] = []
        torch.manual_seed(recipe.seed)
        self._random = _random_state(model.device)

    @property
    def done(self) -> float:
        """The share of the steps that are done."""
        return self._step / self._steps

    def advance(self, share: float, heartbeat: Heartbeat = lambda _: None) -> float:
        """Train until `share` of the steps (one at least) is done; the mean loss of the last `CHECK_EVERY` or fewer.

        Raises TrainingError when it is not finite.
        """
        until = max(1, round(share * self._steps))
        _set_random_state(self._random, self.model.device)
        self.model.train()
        while self._step < until:
            self._take_step()
            if len(self._losses) == CHECK_EVERY:
                _finite_mean(self._losses, self._step)
            heartbeat(self.done)
        self._random = _random_state(self.model.device)
        return _finite_mean(self._losses, self._step)

    def _take_step(self) -> None:
        import torch

        if len(self._losses) == CHECK_EVERY:
            self._losses.clear()
        model, indices = self.model, next(self._order)
        batch = batch_of(self.train, indices, self.kind, model.device, *pad_of(model))
        with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            self._losses.append(self._backward(batch))
        if self.recipe.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), self.recipe.max_grad_norm)
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._step += 1

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on from here: weights, moments, the step, random numbers, the last losses."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step": self._step,
            "random": self._random,
            "losses": self._losses,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Be where the training was whose `state` this is; it must be of the same model, recipe and examples."""
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._step = self._schedule.last_epoch = state["step"]
        self._random = state["random"]
        self._losses = [loss.to(self.model.device) for loss in state["losses"]]
        self._order = islice(_endless(self.train, self.recipe), self._step, None)


def _endless(train: Encoded, recipe: Recipe) -> Iterator[NDArray[np.int64]]:
    """The batches of one epoch after another, as `recipe.seed` orders them."""
    rng = np.random.default_rng(recipe.seed)
    while True:
        yield from reversed(training_order(train.lengths, recipe.batch_size, rng))


def _random_state(device: torch.device) -> list[torch.Tensor]:
    import torch

    state = [torch.random.get_rng_state()]
    return [*state, torch.cuda.get_rng_state(device)] if device.type == "cuda" else state


def _set_random_state(state: list[torch.Tensor], device: torch.device) -> None:
    import torch

    torch.random.set_rng_state(state[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[-1], device)


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
        raise TrainingError(f"{bad} of {len(answers)} {those} got logits that are not finite: the training diverged")
    return answers


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


def _finite_mean(losses: list[torch.Tensor], step: int) -> float:
    """The mean of the `losses` that led up to `step`, counted from one."""
    import torch

    mean = float(torch.stack(losses).mean())
    if not math.isfinite(mean):
        raise TrainingError(f"the loss is {mean} at step {step}: the training diverged; try a lower learning rate")
    return mean


def pad_of(model: PreTrainedModel) -> tuple[int, bool]:
    """The token that fills short examples, 0 where the model names none; whether it goes to the left."""
    pad, family = getattr(model.config, "pad_token_id", None), FAMILIES.get(model.config.model_type)
    return 0 if pad is None else int(pad), family is not None and family.pads_left

"""The steps of a recipe on a model: one after another, halting where it is told, going on as if it never had.

Knows: the optimizer and its schedule, the order of the examples, precision, random numbers. Does not know: what a loss
is made of, scores, patterns, studies, Ray, SQL. The loop is our own because `Trainer`, even with bf16 and grouping by
length, took more processor time (about as much wall clock, on a busy machine) and cannot say "no progress" or "not
finite" (results/throughput).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from layersearch.errors import TrainingError
from layersearch.kinds import KINDS, KindName
from layersearch.models.families import FAMILIES
from layersearch.tasks.task import Encoded
from layersearch.training.batches import Batch, batch_of, pieces_of, training_order
from layersearch.training.job import DIVERGED
from layersearch.training.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from layersearch.training.sparsity import Thinning

TOKENS = 1024  # of a batch that a processor takes at once: twice as many take more memory and no less time
CHECK_EVERY = 16  # steps between two looks at the loss: a look makes a GPU wait
Heartbeat = Callable[[float], None]  # called with the share of the work that is done, at every step


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


class Training:
    """The steps of a recipe on `model`, in place; it may halt after any of them and go on as if it had not.

    `backward` adds a batch's gradients, times a factor, to those in `model` and returns its loss times that factor,
    detached. `done` is the share of the steps that are done.

    A processor takes a long batch in pieces whose gradients are added, for the memory that activations take: the mean
    of their losses is the batch's. A loss that is no mean over examples, as those over tokens, needs it `whole`. Images
    come whole: how many tokens one of them becomes only its model knows.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        kind: KindName,
        recipe: Recipe,
        train: Encoded,
        backward: Callable[[Batch, float], torch.Tensor],
        *,
        whole: bool = False,
    ) -> None:
        import torch

        self.model, self.kind, self.recipe, self.train = model, kind, recipe, train
        self.precision = resolve_precision(recipe, model.device)
        self._steps = max(1, math.ceil(recipe.epochs * math.ceil(len(train) / recipe.batch_size)))
        self._step = 0
        self._backward = backward
        self._whole = whole or not KINDS[kind].by_example or train.pixels is not None or model.device.type != "cpu"
        self._thinning = _thinning(model, recipe, self._steps)
        groups = self._thinning.groups() if self._thinning else []
        self._scores = [score for group in groups for score in group["params"]]
        self._optimizer, self._schedule = _optimizer(model, recipe, self._steps, groups)
        self._order = _endless(train, recipe)
        self._losses: list[torch.Tensor] = []
        torch.manual_seed(recipe.seed)
        self._random = _random_state(model.device)

    @property
    def step(self) -> int:
        """How many steps are done."""
        return self._step

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
        losses = []
        for piece in self._pieces(indices):
            batch = batch_of(self.train, piece, self.kind, model.device, *pad_of(model))
            with torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
                losses.append(self._backward(batch, len(piece) / len(indices)))
        self._losses.append(torch.stack(losses).sum())
        if self._thinning:
            self._thinning.spread()
        if self.recipe.max_grad_norm:
            torch.nn.utils.clip_grad_norm_([*model.parameters(), *self._scores], self.recipe.max_grad_norm)
        if self._thinning:
            self._thinning.lift()
        self._optimizer.step()
        if self._thinning:
            self._thinning.press()
        self._schedule.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._step += 1

    def _pieces(self, indices: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """What is taken at once of a batch."""
        return [indices] if self._whole else pieces_of(self.train, indices, TOKENS)

    def state(self) -> dict[str, Any]:
        """What `restore` needs to go on from here: weights, moments, the step, random numbers, losses, zeros."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step": self._step,
            "random": self._random,
            "losses": self._losses,
            **({"sparsity": self._thinning.state()} if self._thinning else {}),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Be where the training was whose `state` this is; it must be of the same model, recipe and examples."""
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._step = self._schedule.last_epoch = state["step"]
        self._random = state["random"]
        self._losses = [loss.to(self.model.device) for loss in state["losses"]]
        if self._thinning:
            self._thinning.restore(state["sparsity"], self._step)
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


def _thinning(model: PreTrainedModel, recipe: Recipe, steps: int) -> Thinning | None:
    """What makes weights zero, where the recipe wants that."""
    sparsity = recipe.zeros
    if sparsity is None:
        return None
    from layersearch.training.sparsity import Thinning

    return Thinning(model, sparsity, steps)


def _optimizer(
    model: PreTrainedModel, recipe: Recipe, steps: int, scores: list[dict[str, Any]]
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW (fused), no decay on biases and norms, with `scores` beside; and a linear schedule with warm-up."""
    import torch
    from transformers import get_linear_schedule_with_warmup

    from layersearch.models.readout import mix_of

    own = mix_of(model)
    scalars = [] if own is None or recipe.mix_lr is None else [p for p in own.parameters() if p.requires_grad]
    theirs = set(scalars)
    trained = [p for p in model.parameters() if p.requires_grad and p not in theirs]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        *([{"params": scalars, "weight_decay": 0.0, "lr": recipe.mix_lr}] if scalars else []),
        *scores,
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True)
    warmup = math.ceil(recipe.warmup * steps)
    return optimizer, get_linear_schedule_with_warmup(optimizer, warmup, steps)  # type: ignore[no-untyped-call]


def _finite_mean(losses: list[torch.Tensor], step: int) -> float:
    """The mean of the `losses` that led up to `step`, counted from one."""
    import torch

    mean = float(torch.stack(losses).mean())
    if not math.isfinite(mean):
        raise TrainingError(f"the loss is {mean} at step {step}: {DIVERGED}; try a lower learning rate")
    return mean


def pad_of(model: PreTrainedModel) -> tuple[int, bool]:
    """The token that fills short examples, 0 where the model names none; whether it goes to the left."""
    pad, family = getattr(model.config, "pad_token_id", None), FAMILIES.get(model.config.model_type)
    return 0 if pad is None else int(pad), family is not None and family.pads_left

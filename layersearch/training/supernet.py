"""Train a super-network, so that every pattern of a space owns good weights, and score patterns by forward passes.

Knows: the super-network, how patterns are drawn for it, losses. Does not know: which patterns are worth it, studies.
Warm: it goes on from the fine-tuned unchanged model; each step trains the full model on the labels and drawn patterns
on the labels and the full model's own answers (the sandwich rule with in-place distillation: Yu and Huang, arXiv
1903.05134; Klein et al., arXiv 2405.02267). Cold, from the pre-trained model, it collapsed (DESIGN.md section 6).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from layersearch.models.supernet import SuperNetwork
from layersearch.pattern import Pattern
from layersearch.tasks.task import Encoded
from layersearch.training.batches import collate, scoring_order
from layersearch.training.finetune import SCORING_BATCH, Batch, Heartbeat, Training, pad_of
from layersearch.training.losses import Kind, distance, label_loss
from layersearch.training.recipe import OneShotRecipe, Recipe

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Draw = Callable[[random.Random], Pattern]


def by_size(patterns: Sequence[Pattern], num_layers: int) -> Draw:
    """Draw a size first, then a pattern of it, so that the few small and large patterns get their share.

    A size is the number of halves, the patterns' layers counted in whole.
    """
    sizes: dict[int, list[Pattern]] = {}
    for pattern in patterns:
        if pattern != Pattern.full(num_layers):
            halves = sum(2 if block.halves == "both" else 1 for block in pattern.blocks)
            sizes.setdefault((halves + 1) // 2, []).append(pattern)
    return lambda rng: rng.choice(sizes[rng.choice(sorted(sizes))])


def train_super(
    model: PreTrainedModel,
    kind: Kind,
    recipe: Recipe,
    train: Encoded,
    draw: Draw,
    heartbeat: Heartbeat = lambda _: None,
    *,
    taught: float = OneShotRecipe.taught,
) -> float:
    """Train the fine-tuned `model` in place as a super-network whose sub-networks are what `draw` gives.

    Returns the mean loss of the last steps (full model and drawn patterns together); raises TrainingError when it is
    not finite.
    """
    net = SuperNetwork(model)
    chosen = random.Random(recipe.seed)

    def backward(batch: Batch) -> torch.Tensor:
        full = model(**batch.inputs).logits
        loss = label_loss(full, batch.labels, kind)
        loss.backward()  # type: ignore[no-untyped-call]
        told, total = full.detach().float(), loss.detach()
        with net.running(draw(chosen)) as part:
            logits = part(**batch.inputs).logits
        loss = (1 - taught) * label_loss(logits, batch.labels, kind) + taught * distance(logits, told, kind)
        loss.backward()  # type: ignore[no-untyped-call]
        return total + loss.detach()

    return Training(model, recipe, train, backward).advance(1.0, heartbeat)


def predict_many(
    model: PreTrainedModel,
    patterns: Iterable[Pattern],
    encoded: Encoded,
    precision: Literal["bf16", "fp32"],
    heartbeat: Heartbeat = lambda _: None,
) -> dict[Pattern, NDArray[np.float32]]:
    """Logits float32 [n, num_labels] of every pattern over shared weights, in the order of `encoded`."""
    import torch

    model.eval()  # type: ignore[no-untyped-call]
    net = SuperNetwork(model)
    wanted = list(dict.fromkeys(patterns))
    shape = (len(encoded), int(model.config.num_labels or 1))
    logits = {pattern: np.empty(shape, dtype=np.float32) for pattern in wanted}
    order = scoring_order(encoded.lengths, SCORING_BATCH)
    with torch.inference_mode(), torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        for done, indices in enumerate(order, 1):
            inputs = collate(encoded, indices, model.device, *pad_of(model))
            for pattern, answer in net.logits(wanted, inputs):
                logits[pattern][indices] = answer.cpu().numpy()
                heartbeat(done / len(order))
    return logits

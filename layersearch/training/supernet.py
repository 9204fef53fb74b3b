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

from layersearch.kinds import KINDS, KindName, answers_of, logits_a_unit
from layersearch.models.supernet import SuperNetwork
from layersearch.pattern import Pattern
from layersearch.tasks.task import Encoded
from layersearch.training.batches import Batch, batch_of, scoring_order
from layersearch.training.finetune import SCORING_BATCH
from layersearch.training.recipe import OneShotRecipe, Recipe
from layersearch.training.steps import Heartbeat, Training, pad_of

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Draw = Callable[[random.Random], Pattern]

KEPT_BYTES = 1 << 30  # of answers that wait for their score


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
    kind: KindName,
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
    net, row = SuperNetwork(model), KINDS[kind]
    chosen = random.Random(recipe.seed)
    drawn: dict[int, Pattern] = {}  # by step: pieces of a batch are taken with one pattern

    def backward(batch: Batch, factor: float) -> torch.Tensor:
        full = answers_of(model(**batch.inputs), batch.inputs, kind)
        loss = factor * row.loss(full, batch.labels, batch.lengths)
        loss.backward()  # type: ignore[no-untyped-call]
        told, total = row.told(full.detach(), batch.labels), loss.detach()
        if training.step not in drawn:
            drawn.clear()
            drawn[training.step] = draw(chosen)
        with net.running(drawn[training.step]) as part:
            logits = answers_of(part(**batch.inputs), batch.inputs, kind)
        apart = row.distance(logits, told, batch.labels, batch.lengths)
        loss = factor * ((1 - taught) * row.loss(logits, batch.labels, batch.lengths) + taught * apart)
        loss.backward()  # type: ignore[no-untyped-call]
        return total + loss.detach()

    training = Training(model, kind, recipe, train, backward)
    return training.advance(1.0, heartbeat)


def groups_of(patterns: Iterable[Pattern], units: int, width: int) -> list[list[Pattern]]:
    """Patterns to predict at once, so that what is kept of their answers takes no more than `KEPT_BYTES`.

    Answers are float32 [units, width]; neighbours in the order of the blocks, which share most of their layers, stay
    together.
    """
    ordered = list(dict.fromkeys(patterns))
    at_once = max(1, KEPT_BYTES // (4 * units * width))
    if len(ordered) > at_once:
        ordered.sort(key=lambda pattern: [(block.layer, block.halves) for block in pattern.blocks])
    return [ordered[start : start + at_once] for start in range(0, len(ordered), at_once)]


def predict_many(
    model: PreTrainedModel,
    kind: KindName,
    patterns: Iterable[Pattern],
    encoded: Encoded,
    precision: Literal["bf16", "fp32"],
    heartbeat: Heartbeat = lambda _: None,
) -> dict[Pattern, NDArray[np.float32]]:
    """What `predict` gives, of every pattern over shared weights; answers that are not finite are left in."""
    import torch

    model.eval()  # type: ignore[no-untyped-call]
    net = SuperNetwork(model)
    wanted = list(dict.fromkeys(patterns))
    answers: dict[Pattern, NDArray[np.float32]] = {}
    order = scoring_order(encoded.lengths, SCORING_BATCH, logits_a_unit(model.config, kind))
    with torch.inference_mode(), torch.autocast(model.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        for done, indices in enumerate(order, 1):
            batch = batch_of(encoded, indices, kind, model.device, *pad_of(model))
            for pattern, output in net.outputs(wanted, batch.inputs):
                found = KINDS[kind].kept(answers_of(output, batch.inputs, kind), batch.labels).cpu().numpy()
                if pattern not in answers:
                    answers[pattern] = np.empty((len(encoded.labels), found.shape[1]), dtype=np.float32)
                answers[pattern][batch.units] = found
                heartbeat(done / len(order))
    return answers

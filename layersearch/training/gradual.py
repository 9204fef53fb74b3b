"""A candidate that loses its layers one after another while it is fine-tuned.

Knows: the patterns on the way, and how to train between them. Does not know: how a candidate is scored, jobs, studies.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from layersearch.errors import PatternError
from layersearch.kinds import KindName
from layersearch.pattern import Block, Pattern, Readout, thirds
from layersearch.tasks.task import Encoded
from layersearch.training.finetune import finetune
from layersearch.training.recipe import Recipe
from layersearch.training.steps import Heartbeat

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Blocks = list[tuple[Block, ...]]  # of each layer of the base model


def way_to(pattern: Pattern, num_layers: int) -> list[Pattern]:
    """The patterns on the way from one that drops nothing to `pattern`, one layer at a time, from the top down.

    Copies are there from the beginning, and so is a mix of the layers; a layer that keeps one half loses the other.
    Raises PatternError for layers that are not in their order.
    """
    pattern.check(num_layers)
    wanted: Blocks = [tuple(b for b in pattern.blocks if b.layer == layer) for layer in range(num_layers)]
    if tuple(block for blocks in wanted for block in blocks) != pattern.blocks:
        raise PatternError(f"pattern `{pattern}` does not keep the layers in their order, as --drop-every needs it")
    whole = {layer: (Block(layer),) for layer, blocks in enumerate(wanted) if len(blocks) < 2}
    now = [whole.get(layer, blocks) for layer, blocks in enumerate(wanted)]
    way = [_joined(now, pattern.readout)]
    for layer in range(num_layers - 1, -1, -1):
        if now[layer] != wanted[layer]:
            now[layer] = wanted[layer]
            way.append(_joined(now, pattern.readout))
    return way


def lose(
    model: PreTrainedModel,
    way: list[Pattern],
    kind: KindName,
    recipe: Recipe,
    train: Encoded,
    heartbeat: Heartbeat = lambda _: None,
) -> PreTrainedModel:
    """Train a model of the first pattern of `way` for `recipe.drop_every` epochs, go on with the next, and so on.

    The answer is a model of the last one, not trained since it became that. Each part has a schedule and an order of
    the examples of its own, and makes no zeros. Dropping one layer after every n epochs: Sajjad et al., arXiv
    2004.03844 v1, section 5. Raises TrainingError when a loss is not finite.
    """
    from layersearch.models.surgery import build, layers_of
    from layersearch.models.tying import tie_copies

    for number, (before, after) in enumerate(pairwise(way)):
        part = recipe.dense.with_(epochs=recipe.drop_every, seed=(recipe.seed + number + 1) % 2**32)
        finetune(model, kind, part, train, heartbeat)
        model = build(model, _seen_from(before, after), recipe.mixing)
        tie_copies(layers_of(model), after)
    return model


def layers_trained(way: list[Pattern]) -> float:
    """The layers that `lose` trains, summed over its parts."""
    return sum(thirds(pattern.blocks) for pattern in way[:-1]) / 3


def _joined(now: Blocks, readout: Readout) -> Pattern:
    return Pattern(tuple(block for blocks in now for block in blocks), readout)


def _seen_from(before: Pattern, after: Pattern) -> Pattern:
    """`after` as a pattern of a model that has a layer for each block of `before`; copies are layers of their own."""
    layers = {block.layer for block in after.blocks}
    kept = [place for place, block in enumerate(before.blocks) if block.layer in layers]
    seen = []
    for place, block in zip(kept, after.blocks, strict=True):
        halved = replace(block, layer=place, tied=False)
        seen.append(halved if block.halves != before.blocks[place].halves else replace(halved, halves="both"))
    return Pattern(tuple(seen), after.readout)

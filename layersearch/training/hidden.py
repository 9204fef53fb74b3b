"""Hidden states of a larger model that lead those of a candidate, layer by layer.

Knows: which block of a candidate answers to which layer, hooks on layers, how far two states are apart. Does not know:
labels, logits, what a distance weighs in a loss.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from layersearch.models.surgery import family_in, layers_of
from layersearch.pattern import Pattern


@dataclass(frozen=True, eq=False)
class Leader:
    """A larger `model`, in evaluation mode, of which a candidate of `pattern` is a part.

    Of the blocks that come from one of its layers the last one is led to the state behind that layer; a half block too,
    and of copies the last. What is dropped leads nobody.
    """

    model: PreTrainedModel
    pattern: Pattern

    @property
    def pairs(self) -> dict[int, int]:
        """The layer that leads each block, by the block's place."""
        last = {block.layer: place for place, block in enumerate(self.pattern.blocks)}
        return {place: layer for layer, place in last.items()}

    def apart(self, own: Mapping[int, torch.Tensor], inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """How far the states `own`, by block, of a run on `inputs` are from the larger model's: the mean over blocks.

        Of each block the squared distance over all tokens that are no padding, as a share of the square of the larger
        model's states: 0 where they are the same, 1 for a candidate that says 0, whatever the family's scale. The
        larger model runs without a gradient, and only the states that lead are held.
        """
        with torch.no_grad(), states_behind(self.model, self.pairs.values()) as theirs:
            self.model(**inputs)
        mask = inputs.get("attention_mask")
        if mask is not None and family_in(self.model).length_first:
            mask = mask.transpose(0, 1)
        distances = [_distance(own[place], theirs[layer], mask) for place, layer in self.pairs.items()]
        return torch.stack(distances).mean()


def _distance(own: torch.Tensor, theirs: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """The squared distance of two states over that of the second from 0, over the places that `mask` counts."""
    away, square = (own.float() - theirs.float()).square(), theirs.float().square()
    if mask is not None:
        away, square = (values.reshape(*mask.shape, -1) * mask[..., None] for values in (away, square))
    return away.sum() / square.sum()


@contextmanager
def states_behind(model: PreTrainedModel, wanted: Collection[int]) -> Iterator[dict[int, torch.Tensor]]:
    """The hidden states of the next run behind the layers `wanted`, by their numbers; one that runs again counts again.

    [batch, longest, width], or as the family lays them, and as the layer itself gives them, before any other hook.
    """
    found: dict[int, torch.Tensor] = {}
    ran = 0

    def after(_: nn.Module, __: object, answer: Any) -> None:
        nonlocal ran
        if ran in wanted:
            found[ran] = answer[0] if isinstance(answer, tuple) else answer
        ran += 1

    with ExitStack() as hooks:
        for layer in dict.fromkeys(layers_of(model)):
            hooks.callback(layer.register_forward_hook(after, prepend=True).remove)
        yield found

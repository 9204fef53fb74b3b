"""Freezing: parts of a candidate that fine-tuning leaves as they are.

Knows: where a model's layers are, what comes before them, and the words of a recipe. Does not know: training, files.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from layersearch.pattern import Pattern
from layersearch.training.recipe import frozen

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


def freeze(model: PreTrainedModel, pattern: Pattern, what: str) -> None:
    """Let what a recipe's `freeze` names not be trained in `model`, a candidate of `pattern`; in place.

    Layers are those of the base model; the embeddings are all that stands before the layers. Frozen parameters get no
    gradient, so the optimizer keeps no state for them (`freeze_layers` and `freeze_embeddings` of the code of Sajjad et
    al., arXiv 2004.03844). Raises LayersearchError for words that say nothing.
    """
    from layersearch.models.surgery import layers_of

    embeddings, layers = frozen(what)
    blocks = list(zip(layers_of(model), pattern.blocks, strict=True))
    for layer, block in blocks:
        if block.layer in layers:
            layer.requires_grad_(False)
    if embeddings:
        for module in _before(blocks[0][0], model):
            module.requires_grad_(False)


def _before(first: nn.Module, model: PreTrainedModel) -> Iterator[nn.Module]:
    """The modules without the head that are registered before the stack of layer `first`, at every level above it."""
    path = next(name for name, module in model.base_model.named_modules() if module is first)
    node: nn.Module = model.base_model
    for name in path.split(".")[:-1]:
        for child_name, child in node.named_children():
            if child_name == name:
                break
            yield child
        node = node.get_submodule(name)

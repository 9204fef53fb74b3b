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
    al., arXiv 2004.03844). Raises WordsError for words that say nothing.
    """
    from layersearch.models.surgery import layers_of

    embeddings, layers = frozen(what)
    blocks = list(zip(layers_of(model), pattern.blocks, strict=True))
    for layer, block in blocks:
        if block.layer in layers:
            layer.requires_grad_(False)
    if embeddings:
        for parameter in _before(blocks[0][0], model):
            parameter.requires_grad_(False)


def _before(first: nn.Module, model: PreTrainedModel) -> Iterator[nn.Parameter]:
    """The parameters that work before the layers: those that the family's row names, or those registered before them.

    Registered before the stack of layer `first`, at every level above it.
    """
    from layersearch.models.surgery import family_in

    body = model.base_model
    if named := family_in(model).embeddings:
        prefixes = tuple(f"{path}." for path in named)
        yield from (p for name, p in body.named_parameters(remove_duplicate=False) if f"{name}.".startswith(prefixes))
        return
    path = next(name for name, module in body.named_modules() if module is first)
    node: nn.Module = body
    for name in path.split(".")[:-1]:
        for child_name, child in node.named_children():
            if child_name == name:
                break
            yield from child.parameters()
        node = node.get_submodule(name)

"""The dense matrices of a model's layers, in which weights may be made zero, and how many of them are.

Knows: which parameters of a layer are matrices that its tokens are multiplied by. Does not know: who makes zeros, why.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from transformers import PreTrainedModel

from layersearch.models.families import Stack
from layersearch.models.surgery import half_of, layers_of, rows_of
from layersearch.pattern import PartCounts

_ADDED = ("bias", "embed")  # in the names of tables [heads, width] that XLNet adds to its tokens


def matrices_of(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """The matrices in the halves of `model`, by the first of their names, one that several layers share once.

    What stands before the layers or after them, norms, biases and look-up tables are none.
    """
    inside: set[int] = set()
    for layer, row in zip(layers_of(model), rows_of(model), strict=True):
        inside |= {id(parameter) for _, parameter in _in_layer(layer, row)}
    return {name: parameter for name, parameter in model.named_parameters() if id(parameter) in inside}


def count_weights(model: PreTrainedModel) -> PartCounts:
    """How many weights the matrices of each half of `model`, an unchanged one, have; it may be on the meta device.

    `Pattern.parameters` of the answer is how many those of a candidate have. What all layers share counts outside them.
    """
    parts = tuple(zip(layers_of(model), rows_of(model), strict=True))
    attention, ffn = (
        tuple(0 if row.shared else _count(layer, row, half) for layer, row in parts) for half in ("attention", "ffn")
    )
    total = sum(parameter.numel() for parameter in matrices_of(model).values())
    return PartCounts(total - sum(attention) - sum(ffn), attention, ffn)


def _count(layer: nn.Module, row: Stack, half: str) -> int:
    return sum(parameter.numel() for own, parameter in _in_layer(layer, row) if own == half)


def _in_layer(layer: nn.Module, row: Stack) -> Iterator[tuple[str, nn.Parameter]]:
    """The matrices of a layer, each with the half that it belongs to."""
    tables = {id(module.weight) for module in layer.modules() if isinstance(module, nn.Embedding)}
    for name, parameter in layer.named_parameters():
        half = half_of(name, row)
        added = any(part in name.rpartition(".")[2] for part in _ADDED)
        if half is not None and parameter.dim() >= 2 and id(parameter) not in tables and not added:
            yield half, parameter


def zeros_in(model: PreTrainedModel) -> tuple[int, int]:
    """How many of the weights of the matrices are exactly zero, and how many there are."""
    matrices = list(matrices_of(model).values())
    return sum(_zeros(parameter) for parameter in matrices), sum(parameter.numel() for parameter in matrices)


def not_zero(model: PreTrainedModel) -> int:
    """Parameters of the whole model that are not zero, those under several names once."""
    return sum(parameter.numel() - _zeros(parameter) for parameter in model.parameters())


def _zeros(parameter: nn.Parameter) -> int:
    return int((parameter == 0).sum())

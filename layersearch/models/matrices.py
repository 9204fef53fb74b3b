"""The dense matrices of a model's layers, in which weights may be made zero, and how many of them are.

Knows: which parameters of a layer are matrices that its tokens are multiplied by. Does not know: who makes zeros, why.
"""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from layersearch.models.surgery import half_of, layers_of, rows_of

_ADDED = ("bias", "embed")  # in the names of tables [heads, width] that XLNet adds to its tokens


def matrices_of(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """The matrices in the halves of `model`, by the first of their names, one that several layers share once.

    What stands before the layers or after them, norms, biases and look-up tables are none.
    """
    inside: set[int] = set()
    for layer, row in zip(layers_of(model), rows_of(model), strict=True):
        tables = {id(module.weight) for module in layer.modules() if isinstance(module, nn.Embedding)}
        inside |= {
            id(parameter)
            for name, parameter in layer.named_parameters()
            if half_of(name, row) is not None
            and parameter.dim() >= 2
            and id(parameter) not in tables
            and not any(part in name.rpartition(".")[2] for part in _ADDED)
        }
    return {name: parameter for name, parameter in model.named_parameters() if id(parameter) in inside}


def zeros_in(model: PreTrainedModel) -> tuple[int, int]:
    """How many of the weights of the matrices are exactly zero, and how many there are."""
    matrices = list(matrices_of(model).values())
    return sum(_zeros(parameter) for parameter in matrices), sum(parameter.numel() for parameter in matrices)


def not_zero(model: PreTrainedModel) -> int:
    """Parameters of the whole model that are not zero, those under several names once."""
    return sum(parameter.numel() - _zeros(parameter) for parameter in model.parameters())


def _zeros(parameter: nn.Parameter) -> int:
    return int((parameter == 0).sum())

"""The one table of model families: where each keeps its layers, their halves, and its depth.

Knows: names of sub-modules and configuration keys, and what stands in for a dropped half, as plain data. Does not know:
torch, transformers, or how a candidate is built from a row. A new family is one row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from layersearch.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

StandIn = Literal["input", "input, None", "zeros", "zeros, None"]
"""What a module that stands in for a dropped one returns: its first input, or zeros like it where the layer itself adds
the residual; alone, or as attention modules do, with None for the attention weights."""

Half = tuple[tuple[str, StandIn], ...]
"""The sub-modules of a layer that make up one half, each with its stand-in; together they must be the identity."""


@dataclass(frozen=True)
class Family:
    """How one architecture is taken apart.

    `model_type` is the configuration's; `stack` the path of the list of layers inside the model without its head
    (`model.base_model`); `depth_key` the configuration key that holds the number of layers; `attention` and `ffn` the
    two halves of a layer. The halves together hold all parameters of a layer. `positions_off` is how many of its
    position embeddings no token can have.
    """

    model_type: str
    stack: str
    depth_key: str
    attention: Half
    ffn: Half
    positions_off: int = 0


_BERT_ATTENTION: Half = (("attention", "input, None"),)
_BERT_FFN: Half = (("intermediate", "input"), ("output", "input"))

_ROWS = (
    Family("bert", "encoder.layer", "num_hidden_layers", _BERT_ATTENTION, _BERT_FFN),
    Family("roberta", "encoder.layer", "num_hidden_layers", _BERT_ATTENTION, _BERT_FFN, positions_off=2),
    Family("xlm-roberta", "encoder.layer", "num_hidden_layers", _BERT_ATTENTION, _BERT_FFN, positions_off=2),
    Family("camembert", "encoder.layer", "num_hidden_layers", _BERT_ATTENTION, _BERT_FFN, positions_off=2),
    Family("electra", "encoder.layer", "num_hidden_layers", _BERT_ATTENTION, _BERT_FFN),
    Family(
        "distilbert",
        "transformer.layer",
        "n_layers",
        attention=(("attention", "zeros, None"), ("sa_layer_norm", "input")),
        ffn=(("ffn", "zeros"), ("output_layer_norm", "input")),
    ),
)

FAMILIES: Mapping[str, Family] = MappingProxyType({row.model_type: row for row in _ROWS})


def family_of(config: PreTrainedConfig) -> Family:
    """The row of the model's family. Raises ModelError where there is none."""
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise ModelError(
            f"the model family {config.model_type!r} has no row in the families table; known: {', '.join(FAMILIES)}; "
            "choose a model of these families or add a row to layersearch/models/families.py"
        )
    return family

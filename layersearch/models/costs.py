"""What a candidate costs, before it is built.

Knows: how many parameters each part of a model has. Does not know: latency, memory, training or the search.
"""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from layersearch.kinds import KindName
from layersearch.models.families import family_of
from layersearch.models.surgery import auto_class, half_of, layers_of, skeleton
from layersearch.pattern import PartCounts


def count_parts(source: PreTrainedModel | PreTrainedConfig, kind: KindName = "classification") -> PartCounts:
    """Parameters outside the layers and in each half of each layer; tied weights count once.

    A configuration is counted as the model with the head of `kind` (`num_labels` outputs) that it describes, without
    memory for its weights. `Pattern.parameters` of the answer is exact for every candidate. Raises
    ModelError for a family that is not in the table.
    """
    family_of(source if isinstance(source, PreTrainedConfig) else source.config)
    if isinstance(source, PreTrainedConfig):
        source = skeleton(auto_class(kind), source)
    layers = layers_of(source)
    attention, ffn = (tuple(_count(layer, half, source) for layer in layers) for half in ("attention", "ffn"))
    total = sum(parameter.numel() for parameter in source.parameters())
    return PartCounts(fixed=total - sum(attention) - sum(ffn), attention=attention, ffn=ffn)


def _count(layer: nn.Module, half: str, model: PreTrainedModel) -> int:
    family = family_of(model.config)
    return sum(tensor.numel() for name, tensor in layer.named_parameters() if half_of(name, family) == half)

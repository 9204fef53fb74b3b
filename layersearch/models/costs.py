"""What a candidate costs, before it is built.

Knows: how many parameters each part of a model has. Does not know: latency, memory, training or the search.
"""

from __future__ import annotations

from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

from layersearch.models.families import Stack
from layersearch.models.surgery import half_of, layers_of, rows_of, skeleton, stacks_of
from layersearch.pattern import PartCounts


def count_parts(source: PreTrainedModel | PreTrainedConfig) -> PartCounts:
    """Parameters outside the layers and in each half of each layer; tied weights count once.

    A configuration is counted as the model with the sequence classification head (`num_labels` outputs) that it
    describes, without memory for its weights. `Pattern.parameters` of the answer is exact for every candidate: a layer
    that is applied again and again counts outside the layers, a layer without halves as its FFN half. Raises ModelError
    for a model that cannot be taken apart.
    """
    if isinstance(source, PreTrainedConfig):
        source = skeleton(AutoModelForSequenceClassification, source)
    layers = tuple(zip(layers_of(source), rows_of(source), strict=True))
    attention, ffn = (tuple(_count(layer, half, row) for layer, row in layers) for half in ("attention", "ffn"))
    total = sum(parameter.numel() for parameter in source.parameters())
    depths = tuple(len(stack) for stack, _ in stacks_of(source))
    return PartCounts(total - sum(attention) - sum(ffn), attention, ffn, depths if len(depths) > 1 else ())


def _count(layer: nn.Module, half: str, row: Stack) -> int:
    if row.shared is not None:
        return 0
    return sum(tensor.numel() for name, tensor in layer.named_parameters() if half_of(name, row) == half)

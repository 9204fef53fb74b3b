"""What a candidate costs, before it is built.

Knows: how many parameters each part of a model has, and how many multiply-accumulates (MACs) it takes. Does not know:
latency, training or the search.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from layersearch.errors import ModelError
from layersearch.kinds import KINDS, KindName
from layersearch.mixing import USUAL, Mixing
from layersearch.models.families import FAMILIES, Stack
from layersearch.models.surgery import auto_class, half_of, layers_of, rows_of, skeleton, stacks_of
from layersearch.pattern import PartCounts


def count_all(
    source: PreTrainedModel | PreTrainedConfig,
    length: int,
    kind: KindName = "classification",
    mixing: Mixing = USUAL,
) -> dict[str, PartCounts]:
    """Every cost that is counted, by the names of `search/objectives.py`: MACs for one sequence of `length` tokens.

    The model has the head of `kind`; a mix of its layers has the parameters that `mixing` says, and its few MACs are
    left out. Of a configuration nothing is built but shapes (meta device). Raises ModelError like `count_parts`.
    """
    model = skeleton(auto_class(kind), source) if isinstance(source, PreTrainedConfig) else source
    parameters = count_parts(model, kind, mixing)
    embeddings = {id(parameter) for parameter in _embedded(model)}
    kept = sum(p.numel() for p in model.parameters() if id(p) not in embeddings)
    outside = kept - sum(parameters.attention) - sum(parameters.ffn)
    non_embedding = replace(parameters, fixed=outside)
    return {"parameters": parameters, "non-embedding": non_embedding, "macs": count_macs(model, length, kind)}


def count_parts(
    source: PreTrainedModel | PreTrainedConfig, kind: KindName = "classification", mixing: Mixing = USUAL
) -> PartCounts:
    """Parameters outside the layers and in each half of each layer; tied weights count once.

    A configuration is counted as the model with the head of `kind` (`num_labels` outputs) that it describes, without
    memory for its weights. `Pattern.parameters` of the answer is exact for every candidate: a layer that is applied
    again and again counts outside the layers, a layer without halves as its FFN half. Raises ModelError for a model
    that cannot be taken apart.
    """
    if isinstance(source, PreTrainedConfig):
        source = skeleton(auto_class(kind), source)
    layers = tuple(zip(layers_of(source), rows_of(source), strict=True))
    attention, ffn = (tuple(_count(layer, half, row) for layer, row in layers) for half in ("attention", "ffn"))
    total = sum(parameter.numel() for parameter in source.parameters())
    depths = tuple(len(stack) for stack, _ in stacks_of(source))
    fixed = total - sum(attention) - sum(ffn)
    return PartCounts(fixed, attention, ffn, depths if len(depths) > 1 else (), mixing.parameters)


def count_macs(model: PreTrainedModel, length: int, kind: KindName = "classification") -> PartCounts:
    """MACs of one sequence of `length` tokens, by part; half of what `torch.utils.flop_counter` calls flops.

    Each weight of a matrix is used once a token, those of the pooler and of a head that answers once a sequence, once;
    attention adds two products of `length` x `length` for each head, masked or not. Norms, activations and look-ups
    are left out, as usual, and so are the products with relative positions of DeBERTa and XLNet. An image is as many
    tokens as it has patches.
    """
    tokens = _tokens(model.config, length)
    rows = tuple(zip(layers_of(model), rows_of(model), strict=True))
    scores = 2 * tokens**2 * _width(model.config)
    attention = tuple(tokens * _matrices(layer, row, "attention") + scores * _products(row) for layer, row in rows)
    ffn = tuple(tokens * _matrices(layer, row, "ffn") for layer, row in rows)
    inside = {id(parameter) for layer, _ in rows for parameter in layer.parameters()}
    inside |= {id(parameter) for parameter in _embedded(model)}
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    fixed = 0 if head is None else tokens * head.weight.numel()
    for name, parameter in model.named_parameters():
        is_head = head is not None and parameter is head.weight
        if parameter.dim() < 2 or id(parameter) in inside or is_head or _is_vector(parameter):
            continue
        inner = name.startswith((f"{model.base_model_prefix}.", "score."))  # a decoder's `score` runs on every token
        once = (not inner and not KINDS[kind].per_token) or ".pooler." in name
        fixed += parameter.numel() * (1 if once else tokens)
    return PartCounts(fixed, attention, ffn)


def _tokens(config: PreTrainedConfig, length: int) -> int:
    if getattr(config, "image_size", None) and getattr(config, "patch_size", None):
        return int((config.image_size // config.patch_size) ** 2 + 1)
    return length


def _width(config: PreTrainedConfig) -> int:
    """The width of all heads together."""
    heads = getattr(config, "num_attention_heads", None)
    if heads is None:
        raise ModelError(
            f"the configuration of this {config.model_type} model names no num_attention_heads, so its work cannot be "
            f"counted; choose a model of the families {', '.join(FAMILIES)}"
        )
    size = getattr(config, "head_dim", None) or getattr(config, "d_kv", None) or config.hidden_size // heads
    return int(heads) * int(size)


def _embedded(model: PreTrainedModel) -> Iterator[torch.Tensor]:
    """The tables that are looked up in, outside the layers."""
    inside = {id(module) for layer in layers_of(model) for module in layer.modules()}
    for module in model.modules():
        if isinstance(module, nn.Embedding) and id(module) not in inside:
            yield module.weight


def _products(row: Stack) -> int:
    """How often a layer attends: a decoder's also to the encoder, which answers as many tokens."""
    return max(1, sum(answer.endswith("None") for _, answer in row.attention))


def _matrices(layer: nn.Module, row: Stack, half: str) -> int:
    """Weights of the matrices in one half of a layer; tables that are looked up in are none."""
    tables = {id(module.weight) for module in layer.modules() if isinstance(module, nn.Embedding)}
    return sum(
        parameter.numel()
        for name, parameter in layer.named_parameters()
        if half_of(name, row) == half and parameter.dim() >= 2 and id(parameter) not in tables
    )


def _is_vector(parameter: nn.Parameter) -> bool:
    """Whether it is added to every sequence, as positions of an image are, and multiplies nothing."""
    return parameter.dim() > 2 and parameter.shape[0] == 1


def _count(layer: nn.Module, half: str, row: Stack) -> int:
    if row.shared is not None:
        return 0
    return sum(tensor.numel() for name, tensor in layer.named_parameters() if half_of(name, row) == half)

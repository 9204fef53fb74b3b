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

StandIn = Literal["input", "input, None", "zeros", "zeros, None", "zeros, bias, None"]
"""What a module that stands in for a dropped one returns: its first input, or zeros like it where the layer itself adds
the residual; alone, or as attention modules do, with the position bias it was given and None for the weights."""

Half = tuple[tuple[str, StandIn], ...]
"""The sub-modules of a layer that make up one half, each with its stand-in; together they must be the identity."""


@dataclass(frozen=True)
class Lead:
    """A sub-module that one layer of a stack holds for all: `name` inside `part`, whose attribute `flag` says so.

    It belongs to neither half, and goes to the first layer that keeps its attention half.
    """

    part: str
    name: str
    flag: str


@dataclass(frozen=True)
class Stack:
    """One list of layers: its path inside the model without its head, the key of its depth, the halves of a layer."""

    path: str
    depth_key: str
    attention: Half
    ffn: Half
    lead: Lead | None = None


@dataclass(frozen=True)
class Family:
    """How one architecture is taken apart.

    `model_type` is the configuration's; `stack` the path of the list of layers inside the model without its head
    (`model.base_model`); `depth_key` the configuration key that holds the number of layers; `attention` and `ffn` the
    two halves of a layer. The halves together hold all parameters of a layer, but for what `lead` names. `decoder` is
    the second stack of a model with two; a pattern numbers the layers of the first, then its own. `positions_off` is
    how many of its position embeddings no token can have. `refused` names configuration switches that tie what a layer
    computes to its place.
    """

    model_type: str
    stack: str
    depth_key: str
    attention: Half
    ffn: Half
    positions_off: int = 0
    lead: Lead | None = None
    decoder: Stack | None = None
    refused: tuple[str, ...] = ()

    @property
    def stacks(self) -> tuple[Stack, ...]:
        """One stack, or the encoder's and the decoder's."""
        first = Stack(self.stack, self.depth_key, self.attention, self.ffn, self.lead)
        return (first,) if self.decoder is None else (first, self.decoder)


_BERT_ATTENTION: Half = (("attention", "input, None"),)
_BERT_FFN: Half = (("intermediate", "input"), ("output", "input"))

_LLAMA_ATTENTION: Half = (("input_layernorm", "input"), ("self_attn", "zeros, None"))
_LLAMA_FFN: Half = (("post_attention_layernorm", "input"), ("mlp", "zeros"))

# Norms before or after: with identities in their places, a layer adds zeros to its input either way.
_BART_ATTENTION: Half = (("self_attn_layer_norm", "input"), ("self_attn", "zeros, None"))
_BART_CROSS: Half = (("encoder_attn_layer_norm", "input"), ("encoder_attn", "zeros, None"))
_BART_FFN: Half = (("final_layer_norm", "input"), ("fc1", "input"), ("fc2", "zeros"))

_T5_ATTENTION: Half = (("layer.0.layer_norm", "input"), ("layer.0.SelfAttention", "zeros, bias, None"))
_T5_CROSS: Half = (("layer.1.layer_norm", "input"), ("layer.1.EncDecAttention", "zeros, bias, None"))
_T5_LEAD = Lead("layer.0.SelfAttention", "relative_attention_bias", "has_relative_attention_bias")


def _t5_ffn(place: int) -> Half:
    return ((f"layer.{place}.layer_norm", "input"), (f"layer.{place}.DenseReluDense", "zeros"))


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
    Family(
        "gpt2",
        "h",
        "n_layer",
        attention=(("ln_1", "input"), ("attn", "zeros, None")),
        ffn=(("ln_2", "input"), ("mlp", "zeros")),
        refused=("scale_attn_by_inverse_layer_idx",),
    ),
    Family("opt", "decoder.layers", "num_hidden_layers", _BART_ATTENTION, _BART_FFN),
    Family("llama", "layers", "num_hidden_layers", _LLAMA_ATTENTION, _LLAMA_FFN),
    Family("mistral", "layers", "num_hidden_layers", _LLAMA_ATTENTION, _LLAMA_FFN),
    Family("qwen2", "layers", "num_hidden_layers", _LLAMA_ATTENTION, _LLAMA_FFN),
    Family("qwen3", "layers", "num_hidden_layers", _LLAMA_ATTENTION, _LLAMA_FFN),
    Family("gemma", "layers", "num_hidden_layers", _LLAMA_ATTENTION, _LLAMA_FFN),
    Family("phi3", "layers", "num_hidden_layers", _LLAMA_ATTENTION, _LLAMA_FFN),
    Family(
        "bart",
        "encoder.layers",
        "encoder_layers",
        _BART_ATTENTION,
        _BART_FFN,
        decoder=Stack("decoder.layers", "decoder_layers", _BART_ATTENTION + _BART_CROSS, _BART_FFN),
    ),
    Family(
        "t5",
        "encoder.block",
        "num_layers",
        _T5_ATTENTION,
        _t5_ffn(1),
        lead=_T5_LEAD,
        decoder=Stack("decoder.block", "num_decoder_layers", _T5_ATTENTION + _T5_CROSS, _t5_ffn(2), _T5_LEAD),
    ),
    Family(
        "vit",
        "layers",
        "num_hidden_layers",
        attention=(("layernorm_before", "input"), ("attention", "zeros, None")),
        ffn=(("layernorm_after", "input"), ("mlp", "zeros")),
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

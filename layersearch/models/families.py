"""The one table of model families: where each keeps its layers, their halves, and its depth.

Knows: names of sub-modules and configuration keys, and what stands in for a dropped half, as plain data. Does not know:
torch, transformers, or how a candidate is built from a row. A new family is one row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from layersearch.errors import PatternError
from layersearch.pattern import Pattern

StandIn = Literal["input", "input, None", "two inputs", "zeros", "zeros, None", "zeros, bias, None"]
"""What a module that stands in for a dropped one returns: its first input (XLNet's attention: its first two), or zeros
like it where the layer itself adds the residual; alone, or as attention modules do, with the position bias it was given
and None for the weights."""

Form = Literal["native", "with code", "onnx"]
"""What an exported folder needs to be opened: plain transformers, the modeling file that lies in it, ONNX Runtime."""

Half = tuple[tuple[str, StandIn], ...]
"""The sub-modules of a layer that make up one half, each with its stand-in; together they must be the identity."""

PER_LAYER = ("layer_types", "mlp_layer_types", "layers_block_type", "no_rope_layers", "sliding_windows")
"""Configuration keys whose lists have one entry a layer, in families that have them."""


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
    """One list of layers: its path inside the model without its head, the key of its depth, the halves of a layer.

    Without halves only whole layers can be dropped. `first_lacks` and `shared` are explained at `Family`.
    """

    path: str
    depth_key: str
    attention: Half = ()
    ffn: Half = ()
    lead: Lead | None = None
    first_lacks: tuple[str, str] | None = None
    shared: str | None = None


@dataclass(frozen=True)
class Family:
    """How one architecture is taken apart.

    `model_type` is the configuration's; `stack` the path of the list of layers inside the model without its head
    (`model.base_model`); `depth_key` the configuration key that holds the number of layers; `attention` and `ffn` the
    two halves of a layer. The halves together hold all parameters of a layer, but for what `lead` names. `decoder` is
    the second stack of a model with two; a pattern numbers the layers of the first, then its own. Its cross-attention
    goes with its attention half. `positions_off` is how many of its position embeddings no token can have. `refused`
    names configuration switches that tie what a layer computes to its place. `first_lacks` is a norm that the lowest
    layer alone does without, and another of the same make: plain transformers builds the layer in that place without
    it, whichever layer it was. `shared` is the key of how many layers there are where one is applied again and again,
    depth times. `pads_left` says that texts end together, `length_first` that hidden states are [length, batch, width].
    `embeddings` are the modules and parameters outside the layers that work before the first one, by their paths; not
    named where they are those that are registered before the list of layers.
    """

    model_type: str
    stack: str
    depth_key: str
    attention: Half = ()
    ffn: Half = ()
    positions_off: int = 0
    lead: Lead | None = None
    decoder: Stack | None = None
    refused: tuple[str, ...] = ()
    first_lacks: tuple[str, str] | None = None
    shared: str | None = None
    pads_left: bool = False
    length_first: bool = False
    embeddings: tuple[str, ...] = ()

    @property
    def stacks(self) -> tuple[Stack, ...]:
        """One stack, or the encoder's and the decoder's."""
        first = Stack(self.stack, self.depth_key, self.attention, self.ffn, self.lead, self.first_lacks, self.shared)
        return (first,) if self.decoder is None else (first, self.decoder)


_BERT_ATTENTION: Half = (("attention", "input, None"),)
_BERT_FFN: Half = (("intermediate", "input"), ("output", "input"))

_LLAMA_ATTENTION: Half = (("input_layernorm", "input"), ("self_attn", "zeros, None"))
_LLAMA_FFN: Half = (("post_attention_layernorm", "input"), ("mlp", "zeros"))

# Norms before or after: with identities in their places, a layer adds zeros to its input either way.
_BART_ATTENTION: Half = (("self_attn_layer_norm", "input"), ("self_attn", "zeros, None"))
_BART_CROSS: Half = (("encoder_attn_layer_norm", "input"), ("encoder_attn", "zeros, None"))
_BART_FFN: Half = (("final_layer_norm", "input"), ("fc1", "input"), ("fc2", "zeros"))
_BART_EMBEDDINGS = tuple(
    f"{stack}.{part}"
    for stack in ("encoder", "decoder")
    for part in ("embed_tokens", "embed_positions", "layernorm_embedding")
)

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
    Family("albert", "encoder.albert_layer_groups", "num_hidden_layers", shared="num_hidden_groups"),
    Family(
        "deberta-v2",
        "encoder.layer",
        "num_hidden_layers",
        _BERT_ATTENTION,
        _BERT_FFN,
        embeddings=("embeddings", "encoder.rel_embeddings", "encoder.LayerNorm"),
    ),
    Family(
        "mpnet",
        "encoder.layer",
        "num_hidden_layers",
        _BERT_ATTENTION,
        _BERT_FFN,
        positions_off=2,
        embeddings=("embeddings", "encoder.relative_attention_bias"),
    ),
    Family(
        "xlnet",
        "layer",
        "n_layer",
        attention=(("rel_attn", "two inputs"),),
        ffn=(("ff", "input"),),
        pads_left=True,
        length_first=True,
        embeddings=("word_embedding", "mask_emb"),
    ),
    Family(
        "modernbert",
        "layers",
        "num_hidden_layers",
        attention=(("attn_norm", "input"), ("attn", "zeros, None")),
        ffn=(("mlp_norm", "input"), ("mlp", "zeros")),
        first_lacks=("attn_norm", "mlp_norm"),
    ),
    Family(
        "gpt2",
        "h",
        "n_layer",
        attention=(("ln_1", "input"), ("attn", "zeros, None")),
        ffn=(("ln_2", "input"), ("mlp", "zeros")),
        refused=("scale_attn_by_inverse_layer_idx",),
    ),
    Family(
        "opt",
        "decoder.layers",
        "num_hidden_layers",
        _BART_ATTENTION,
        _BART_FFN,
        embeddings=("decoder.embed_tokens", "decoder.embed_positions", "decoder.project_in"),
    ),
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
        embeddings=("shared", *_BART_EMBEDDINGS),
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


def positions_of(config: Any) -> int:
    """The tokens that a model of transformers' configuration `config` has places for; 0 where any number will do."""
    positions = getattr(config, "max_position_embeddings", None) or -1  # T5 has none, XLNet -1: they are relative
    family = FAMILIES.get(config.model_type)
    return max(0, int(positions) - (family.positions_off if family is not None else 0))


def skipped_layers(config: Any) -> str | None:
    """What a configuration says of layers that training skips at random, such as `encoder_layerdrop = 0.1`, if any."""
    return next(
        (f"{key} = {value}" for key, value in vars(config).items() if key.endswith("layerdrop") and value), None
    )


def has_halves(model_type: str) -> bool:
    """Whether half layers can be dropped; where not, whole ones can."""
    return model_type in FAMILIES and bool(FAMILIES[model_type].attention)


def has_one_layer(model_type: str) -> bool:
    """Whether all layers are one, applied again and again."""
    return model_type in FAMILIES and FAMILIES[model_type].shared is not None


def no_halves(model_type: str) -> str:
    """Why a family's layers cannot be halved, and what to do, for an error."""
    why = "are one layer, applied again and again" if has_one_layer(model_type) else "have no row in the families table"
    return (
        f"the layers of {model_type} models {why}, so only whole ones can be dropped or repeated: give whole layers, "
        "or search the space `layers`, which has no others"
    )


def check_layers(pattern: Pattern, model_type: str) -> None:
    """Raise PatternError for halves and tied copies of layers that do not come in halves, or are one already."""
    if not pattern.is_whole and not has_halves(model_type):
        raise PatternError(f"pattern `{pattern}` has half layers; {no_halves(model_type)}")
    if pattern.owners() and has_one_layer(model_type):
        raise PatternError(
            f"pattern `{pattern}` has tied copies, and all layers of {model_type} share one set of weights; write "
            "repeated layers plainly, as in `0 0`"
        )


def form_of(pattern: Pattern, model_type: str) -> Form:
    """The form in which a candidate of `pattern` is exported, unless another one is asked for."""
    family = FAMILIES.get(model_type)
    lowest = [place for place, block in enumerate(pattern.blocks) if block.layer == 0]
    plain = pattern.is_whole and (family is None or family.first_lacks is None or lowest == [0]) and not pattern.mixes
    return "native" if plain else "with code"

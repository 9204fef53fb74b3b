"""One entry a family (or variant of one) for the conformance tests: a tiny configuration, and its halves by hand.

Knows: the keys of configurations, the classes to test, the halves by the papers' formulas and not by the table. Does
not know: the families table, what is tested.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel

from .conftest import LAYERS, from_config, randomised

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Call:
    """What a model hands to a layer beside the hidden states."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


ByHand = Callable[[Any, torch.Tensor, Call], torch.Tensor]
"""One half of a layer: (layer, hidden states, what else the layer was handed) -> hidden states."""


def tokens(pads_left: bool = False) -> Batch:
    """Three examples of different lengths, padded to 7 tokens; the padding token is 1, as RoBERTa wants it.

    On the left as XLNet wants it, with its token types.
    """
    ids = torch.randint(3, 60, (3, 7), generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1] * 7, [1] * 5 + [0] * 2, [1] * 3 + [0] * 4])
    if not pads_left:
        return {"input_ids": ids.where(mask.bool(), 1), "attention_mask": mask}
    mask = mask.flip(1)
    types = torch.tensor([0, 0, 0, 0, 1, 1, 2]).expand(3, 7)
    return {"input_ids": ids.where(mask.bool(), 1), "attention_mask": mask, "token_type_ids": types}


@dataclass(frozen=True)
class Tiny:
    """A family to test: `keys` of its configuration beside the usual ones, and what it can do.

    `heads` are the `AutoModel...` classes that are tested, those with logits first. `attention` and `ffn` are its
    halves by hand; where they are None, halves are compared only with each other. `whole` and `halved` are patterns;
    `halves` says that it has halves, `shared` that all layers are one.
    """

    model_type: str
    keys: Mapping[str, Any] = field(default_factory=dict)
    attention: ByHand | None = None
    ffn: ByHand | None = None
    heads: tuple[Any, ...] = (AutoModelForSequenceClassification, AutoModel)
    inputs: Callable[[], Batch] = tokens
    halves: bool = True
    shared: bool = False
    whole: tuple[str, ...] = ("0-3", "0 3", "0-1 1 2-3", "0 2 1")
    halved: tuple[str, ...] = ("0 1a 2f 3", "0a 1f", "2f 2a", "0a 1a 2a 3a", "0f 2f 3 3")

    def config(self) -> PreTrainedConfig:
        """A configuration of four layers."""
        usual = {
            "vocab_size": 60,
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 2,
            "max_position_embeddings": 40,
            "num_labels": 3,
            "pad_token_id": 1,
        }
        config: PreTrainedConfig = AutoConfig.for_model(
            self.model_type, **{key: value for key, value in (usual | dict(self.keys)).items() if value is not None}
        )
        return config

    def model(self, head: Any = None) -> PreTrainedModel:
        """A model of it with random weights, of `head` or the first of `heads`, with the attention of a base model."""
        return randomised(from_config(head or self.heads[0], self.config(), None))


def attention_with_norm(layer: Any, hidden: torch.Tensor, call: Call) -> torch.Tensor:
    """BERT's attention: the residual and its norm are inside."""
    out: torch.Tensor = layer.attention(hidden, *call.args, **call.kwargs)[0]
    return out


def bert_ffn(layer: Any, hidden: torch.Tensor, _: Call) -> torch.Tensor:
    out: torch.Tensor = layer.output(layer.intermediate(hidden), hidden)
    return out


def distilbert_attention(layer: Any, hidden: torch.Tensor, call: Call) -> torch.Tensor:
    out: torch.Tensor = layer.sa_layer_norm(layer.attention(hidden, *call.args, **call.kwargs)[0] + hidden)
    return out


def distilbert_ffn(layer: Any, hidden: torch.Tensor, _: Call) -> torch.Tensor:
    out: torch.Tensor = layer.output_layer_norm(layer.ffn(hidden) + hidden)
    return out


def albert_attention(layer: Any, hidden: torch.Tensor, call: Call) -> torch.Tensor:
    out: torch.Tensor = layer.albert_layers[0].attention(hidden, *call.args, **call.kwargs)[0]
    return out


def albert_ffn(layer: Any, hidden: torch.Tensor, _: Call) -> torch.Tensor:
    inner = layer.albert_layers[0]
    out: torch.Tensor = inner.full_layer_layer_norm(inner.ffn_output(inner.activation(inner.ffn(hidden))) + hidden)
    return out


def xlnet_attention(layer: Any, hidden: torch.Tensor, call: Call) -> torch.Tensor:
    out: torch.Tensor = layer.rel_attn(hidden, *call.args, **call.kwargs)[0]
    return out


def xlnet_ffn(layer: Any, hidden: torch.Tensor, _: Call) -> torch.Tensor:
    inner = layer.ff
    out: torch.Tensor = inner.layer_norm(hidden + inner.layer_2(inner.activation_function(inner.layer_1(hidden))))
    return out


def modernbert_attention(layer: Any, hidden: torch.Tensor, call: Call) -> torch.Tensor:
    out: torch.Tensor = hidden + layer.attn(layer.attn_norm(hidden), *call.args, **call.kwargs)[0]
    return out


def modernbert_ffn(layer: Any, hidden: torch.Tensor, _: Call) -> torch.Tensor:
    out: torch.Tensor = hidden + layer.mlp(layer.mlp_norm(hidden))
    return out


_RELATIVE = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 4, "pad_token_id": 1}
_DEBERTA_V3 = {
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "position_biased_input": False,
    "type_vocab_size": 0,
}

_ENTRIES = {
    "bert": Tiny("bert", {}, attention_with_norm, bert_ffn),
    "roberta": Tiny("roberta", {}, attention_with_norm, bert_ffn),
    "xlm-roberta": Tiny("xlm-roberta", {}, attention_with_norm, bert_ffn),
    "camembert": Tiny("camembert", {}, attention_with_norm, bert_ffn),
    "electra": Tiny("electra", {"embedding_size": 8}, attention_with_norm, bert_ffn),
    "distilbert": Tiny("distilbert", {"hidden_dim": 24}, distilbert_attention, distilbert_ffn),
    "albert": Tiny("albert", {"embedding_size": 8}, albert_attention, albert_ffn, halves=False, shared=True),
    "deberta-v3": Tiny("deberta-v2", _RELATIVE | _DEBERTA_V3, attention_with_norm, bert_ffn),
    "deberta-v2 with a convolution": Tiny("deberta-v2", _RELATIVE | {"conv_kernel_size": 3, "conv_act": "gelu"}),
    "mpnet": Tiny("mpnet", {}, attention_with_norm, bert_ffn),
    "xlnet": Tiny(
        "xlnet",
        {"d_inner": 24, "d_head": 8, "max_position_embeddings": None},
        xlnet_attention,
        xlnet_ffn,
        inputs=partial(tokens, pads_left=True),
    ),
    "modernbert": Tiny(
        "modernbert", {"global_attn_every_n_layers": 2, "local_attention": 4}, modernbert_attention, modernbert_ffn
    ),
    "ernie, which has no row": Tiny("ernie", halves=False),
    "gemma2, which has no row": Tiny(
        "gemma2", {"head_dim": 8, "num_key_value_heads": 2, "sliding_window": 3}, halves=False
    ),
}

TINY: Mapping[str, Tiny] = MappingProxyType(_ENTRIES)

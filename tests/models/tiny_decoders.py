"""Entries for the conformance tests: decoders, models with an encoder and a decoder, and ViT.

Knows: as `tiny.py`. The halves by hand are for a layer with its norms before (GPT-2, Llama, ViT) or after (OPT, once).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
)

from .tiny import Batch, Call, Tiny, tokens


def tokens_with_end() -> Batch:
    """As `tokens`, each text with one end token, 2, and what a decoder reads: a model without a head asks for it."""
    inputs = tokens()
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    ids[torch.arange(3), mask.sum(1) - 1] = 2
    return {**inputs, "decoder_input_ids": torch.cat([torch.ones(3, 1, dtype=torch.int64), ids[:, :-1]], dim=1)}


def images() -> Batch:
    """Two images of 8 x 8."""
    return {"pixel_values": torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))}


def gpt2_attention(layer: Any, hidden: torch.Tensor, call: Call) -> torch.Tensor:
    out: torch.Tensor = hidden + layer.attn(layer.ln_1(hidden), attention_mask=call.args[1])[0]
    return out


def gpt2_ffn(layer: Any, hidden: torch.Tensor, _: Call) -> torch.Tensor:
    out: torch.Tensor = hidden + layer.mlp(layer.ln_2(hidden))
    return out


def llama_attention(layer: Any, hidden: torch.Tensor, call: Call) -> torch.Tensor:
    out: torch.Tensor = hidden + layer.self_attn(layer.input_layernorm(hidden), **call.kwargs)[0]
    return out


def llama_ffn(layer: Any, hidden: torch.Tensor, _: Call) -> torch.Tensor:
    out: torch.Tensor = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
    return out


def opt_attention(layer: Any, hidden: torch.Tensor, call: Call) -> torch.Tensor:
    out: torch.Tensor = hidden + layer.self_attn(layer.self_attn_layer_norm(hidden), **call.kwargs)[0]
    return out


def opt_ffn(layer: Any, hidden: torch.Tensor, _: Call) -> torch.Tensor:
    out: torch.Tensor = hidden + layer.fc2(torch.relu(layer.fc1(layer.final_layer_norm(hidden))))
    return out


def opt_attention_then_norm(layer: Any, hidden: torch.Tensor, call: Call) -> torch.Tensor:
    out: torch.Tensor = layer.self_attn_layer_norm(hidden + layer.self_attn(hidden, **call.kwargs)[0])
    return out


def opt_ffn_then_norm(layer: Any, hidden: torch.Tensor, _: Call) -> torch.Tensor:
    out: torch.Tensor = layer.final_layer_norm(hidden + layer.fc2(torch.relu(layer.fc1(hidden))))
    return out


def vit_attention(layer: Any, hidden: torch.Tensor, call: Call) -> torch.Tensor:
    out: torch.Tensor = hidden + layer.attention(layer.layernorm_before(hidden), *call.args)[0]
    return out


def vit_ffn(layer: Any, hidden: torch.Tensor, _: Call) -> torch.Tensor:
    out: torch.Tensor = hidden + layer.mlp(layer.layernorm_after(hidden))
    return out


_LM = (AutoModelForSequenceClassification, AutoModelForCausalLM)
_SEQ2SEQ = (AutoModelForSequenceClassification, AutoModel, AutoModelForSeq2SeqLM)

# Without a cache, so that a layer that is called by hand once more does not find its own keys there.
_DECODER = {"use_cache": False, "bos_token_id": 0, "eos_token_id": 2}
_GROUPED = _DECODER | {"num_key_value_heads": 1}
_WINDOWS = _GROUPED | {"head_dim": 8, "use_sliding_window": True, "sliding_window": 4}
_MIXED = _WINDOWS | {"layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]}
_BART: dict[str, Any] = _DECODER | {"encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "encoder_attention_heads": 2}
_BART |= {"decoder_attention_heads": 2, "encoder_layers": 2, "decoder_layers": 2, "decoder_start_token_id": 1}
_BART |= {"num_hidden_layers": None}
_T5: dict[str, Any] = _DECODER | {
    "d_kv": 8,
    "d_ff": 24,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "relative_attention_num_buckets": 8,
}
_T5 |= {"decoder_start_token_id": 1, "num_hidden_layers": None, "max_position_embeddings": None}
_VIT = {"image_size": 8, "patch_size": 4}


def _llama(model_type: str, keys: Mapping[str, Any]) -> Tiny:
    return Tiny(model_type, keys, llama_attention, llama_ffn, heads=_LM)


def _seq2seq(model_type: str, keys: Mapping[str, Any]) -> Tiny:
    """Two layers in each stack."""
    return Tiny(
        model_type,
        keys,
        heads=_SEQ2SEQ,
        inputs=tokens_with_end,
        whole=("0-3", "0 3", "0-1 1 2-3", "1 0 3 2"),
        halved=("0 1a 2f 3", "0a 2f 2a", "0a 1a 2a 3a", "0f 1f 2f 3f", "0f 2f 3 3"),
    )


_ENTRIES = {
    "gpt2": Tiny("gpt2", _DECODER, gpt2_attention, gpt2_ffn, heads=_LM),
    "opt": Tiny("opt", _DECODER | {"ffn_dim": 24, "word_embed_proj_dim": 8}, opt_attention, opt_ffn, heads=_LM),
    "opt with norms after": Tiny(
        "opt",
        _DECODER | {"ffn_dim": 24, "do_layer_norm_before": False},
        opt_attention_then_norm,
        opt_ffn_then_norm,
        heads=_LM,
    ),
    "llama": _llama("llama", _GROUPED),
    "mistral": _llama("mistral", _WINDOWS),
    "qwen2": _llama("qwen2", _MIXED),
    "qwen3": _llama("qwen3", _MIXED),
    "gemma": _llama("gemma", _GROUPED | {"head_dim": 8}),
    "phi3": _llama("phi3", _WINDOWS),
    "bart": _seq2seq("bart", _BART),
    "t5": _seq2seq("t5", _T5),
    "t5 1.1": _seq2seq("t5", _T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "vit": Tiny("vit", _VIT, vit_attention, vit_ffn, heads=(AutoModelForImageClassification, AutoModel), inputs=images),
}

DECODERS: Mapping[str, Tiny] = MappingProxyType(_ENTRIES)

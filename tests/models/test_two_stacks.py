"""Models with an encoder and a decoder: one pattern numbers both, and what T5's first layers hold stays where it is."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForTokenClassification

from layersearch.errors import ModelError, PatternError
from layersearch.models.base import BaseModel, from_arrays
from layersearch.models.card import ModelCard, write_card
from layersearch.models.checkpoint import Manifest
from layersearch.models.costs import count_parts
from layersearch.models.surgery import build, layers_of, stacks_of
from layersearch.pattern import Pattern

from .conftest import from_config, randomised
from .tiny import Batch
from .tiny_decoders import DECODERS, tokens_with_end

BIAS = "layer.0.SelfAttention.relative_attention_bias.weight"
Calls = dict[int, tuple[tuple[Any, ...], Mapping[str, Any]]]


def three_and_two(name: str) -> Any:
    """A model of three layers in the encoder and two in the decoder."""
    config = DECODERS[name].config()
    config.encoder_layers, config.decoder_layers = (3, 2) if name == "bart" else (None, None)
    config.num_layers, config.num_decoder_layers = (None, None) if name == "bart" else (3, 2)
    return randomised(from_config(AutoModel, config))


def bart_layer(layer: Any, hidden: torch.Tensor, halves: str, args: tuple[Any, ...], kwargs: Any) -> torch.Tensor:
    if halves != "ffn":
        hidden = layer.self_attn_layer_norm(hidden + layer.self_attn(hidden, attention_mask=args[0])[0])
        if hasattr(layer, "encoder_attn"):
            mask = kwargs["encoder_attention_mask"]
            read = layer.encoder_attn(hidden, key_value_states=args[1], attention_mask=mask)[0]
            hidden = layer.encoder_attn_layer_norm(hidden + read)
    if halves != "attention":
        hidden = layer.final_layer_norm(hidden + layer.fc2(nn.functional.gelu(layer.fc1(hidden))))
    return hidden


def t5_layer(layer: Any, hidden: torch.Tensor, halves: str, args: tuple[Any, ...], _: Any) -> torch.Tensor:
    if halves != "ffn":
        hidden = layer.layer[0](hidden, attention_mask=args[0], position_bias=args[1])[0]
        if len(layer.layer) == 3:
            read = layer.layer[1](hidden, key_value_states=args[2], attention_mask=args[3], position_bias=args[4])
            hidden = read[0]
    if halves != "attention":
        hidden = layer.layer[-1](hidden)
    return hidden


def calls_of(model: Any, inputs: Batch) -> tuple[Calls, dict[int, torch.Tensor]]:
    """What every layer was handed beside its hidden states, and the hidden states."""
    calls: Calls = {}
    hidden: dict[int, torch.Tensor] = {}
    hooks = []
    for number, layer in enumerate(layers_of(model)):

        def note(_: nn.Module, args: tuple[Any, ...], kwargs: Any, number: int = number) -> None:
            calls[number], hidden[number] = (args[1:], kwargs), args[0]

        hooks.append(layer.register_forward_pre_hook(note, with_kwargs=True))
    model(**inputs)
    for hook in hooks:
        hook.remove()
    return calls, hidden


@pytest.mark.parametrize("name", ["bart", "t5", "t5 1.1"])
@pytest.mark.parametrize("text", ["0-4", "2-3", "1 0 1 4", "0f 1a 2 3f 4a", "0f 2f 3f 4", "1a 2 3a 3f"])
@torch.no_grad()
def test_a_candidate_is_what_its_layers_do_by_hand(name: str, text: str) -> None:
    base, inputs, pattern = three_and_two(name), tokens_with_end(), Pattern.parse(text)
    calls, entering = calls_of(base, inputs)
    run, place = (bart_layer, 1) if name == "bart" else (t5_layer, 2)
    encoder, decoder = pattern.split((3, 2))
    hidden = entering[0]
    for block in encoder:
        hidden = run(layers_of(base)[block.layer], hidden, block.halves, *calls[block.layer])
    encoded = hidden if name == "bart" else base.encoder.final_layer_norm(hidden)
    hidden = entering[3]
    for block in decoder:
        args, kwargs = calls[block.layer]
        args = (*args[:place], encoded, *args[place + 1 :])
        hidden = run(layers_of(base)[block.layer], hidden, block.halves, args, kwargs)
    expected = hidden if name == "bart" else base.decoder.final_layer_norm(hidden)
    found = build(base, pattern)(**inputs).last_hidden_state
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "holders"),
    [("0-4", [0, 3]), ("2 1 4", [0, 2]), ("0f 1f 2 3f 4", [2, 4]), ("0f 2 3f 4f", [1, 2]), ("2 2 4a", [0, 2])],
)
def test_the_bias_of_a_stack_is_with_its_first_attention(text: str, holders: list[int]) -> None:
    """Or, where the stack has none, idle in its first layer: it is a part of the model and not of a layer."""
    base, pattern = three_and_two("t5"), Pattern.parse(text)
    candidate = build(base, pattern)
    layers = layers_of(candidate)
    found = [number for number, layer in enumerate(layers) if BIAS in dict(layer.named_parameters())]
    assert found == holders
    for holder, source in zip(holders, (0, 3), strict=True):
        assert torch.equal(layers[holder].get_parameter(BIAS), layers_of(base)[source].get_parameter(BIAS))
        assert layers[holder].get_parameter(BIAS) is not layers_of(base)[source].get_parameter(BIAS)
    assert sum(parameter.numel() for parameter in candidate.parameters()) == pattern.parameters(count_parts(base))


@torch.no_grad()
def test_a_candidate_of_a_candidate_has_the_bias_wherever_it_was() -> None:
    """As layers that go one after another need it: its first layer with an attention half is not its first."""
    base = three_and_two("t5")
    between = build(base, Pattern.parse("0f 1-2 3f 4"))
    found, expected = build(between, Pattern.parse("0 2 3-4")), build(base, Pattern.parse("0f 2 3f 4"))
    inputs = tokens_with_end()
    assert torch.equal(found(**inputs).last_hidden_state, expected(**inputs).last_hidden_state)
    build(build(base, Pattern.parse("0f 3f")), Pattern.parse("0-1"))  # whose bias is idle


@pytest.mark.parametrize(
    ("name", "keys"), [("bart", "encoder_layers decoder_layers"), ("t5", "num_layers num_decoder_layers")]
)
def test_each_depth_has_its_key(name: str, keys: str) -> None:
    candidate: Any = build(three_and_two(name), Pattern.parse("1 3 3 4"))
    assert [getattr(candidate.config, key) for key in keys.split()] == [1, 3]
    assert [len(layers) for layers, _ in stacks_of(candidate)] == [1, 3]
    assert (candidate.encoder.config.num_hidden_layers, candidate.decoder.config.num_hidden_layers) == (
        (1, 3) if name == "t5" else (1, 1)  # BART has one configuration, whose general name is the encoder's
    )


@pytest.mark.parametrize("text", ["0-2", "3-4", "3 0", "0 3 1 4"])
def test_a_pattern_keeps_both_stacks_in_order(text: str) -> None:
    with pytest.raises(PatternError) as caught:
        build(three_and_two("bart"), Pattern.parse(text))
    assert str(caught.value) == (
        f"pattern `{text}` does not fit a model with an encoder (layers 0-2) and a decoder (layers 3-4): keep at least "
        "one layer of each, all of the encoder's before the decoder's"
    )


def test_the_counts_say_where_the_decoder_begins() -> None:
    assert count_parts(three_and_two("t5").config).depths == (3, 2)
    assert count_parts(DECODERS["llama"].config()).depths == ()


@torch.no_grad()
def test_a_class_with_one_of_the_stacks_has_its_layers_alone() -> None:
    tagger = randomised(from_config(AutoModelForTokenClassification, DECODERS["t5"].config()))
    assert len(layers_of(tagger)) == 2
    candidate = build(tagger, Pattern.parse("1"))
    assert candidate.config.num_layers == 1
    inputs = {key: value for key, value in tokens_with_end().items() if not key.startswith("decoder")}
    assert candidate(**inputs).logits.shape == (3, 7, 3)


def test_a_switch_that_ties_a_layer_to_its_place_is_refused() -> None:
    config = AutoConfig.for_model("gpt2", n_layer=2, n_embd=8, n_head=2, scale_attn_by_inverse_layer_idx=True)
    with pytest.raises(ModelError) as caught:
        build(from_config(AutoModel, config), Pattern.parse("0"))
    assert str(caught.value) == (
        "config.json says scale_attn_by_inverse_layer_idx = true, so a gpt2 layer is another one in another place; "
        "choose a model without it"
    )


@pytest.mark.parametrize("name", ["bart", "t5", "gpt2"])
@torch.no_grad()
def test_tied_weights_travel_to_another_process_once(name: str) -> None:
    model, inputs = DECODERS[name].model(), DECODERS[name].inputs()
    shared = pickle.loads(pickle.dumps(BaseModel(model, ()).arrays()))
    assert sum(array.size for array in shared.arrays.values()) == sum(p.numel() for p in model.parameters())
    again = from_arrays(shared).model
    assert sum(p.numel() for p in again.parameters()) == sum(p.numel() for p in model.parameters())
    assert torch.equal(again(**inputs).logits, model(**inputs).logits)


def test_the_card_says_where_the_decoder_begins() -> None:
    candidate = build(three_and_two("bart"), Pattern.parse("0 2-4"))
    manifest = Manifest(Pattern.parse("0 2-4"), 5, 1, "", 0, candidate.config.to_dict(), {})
    card = ModelCard("b", None, "t", (), "m", (), 2, {}, 0, {}, None, "c")
    assert "| source layers, counted from 0 | 0, 2, 3, 4 (the encoder has 2 of them, the decoder 2) |" in write_card(
        card, manifest
    )

"""Surgery, over every family: what is kept is equal, what is dropped is the identity, and nothing is shared."""

import contextlib
import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, PreTrainedModel

from layersearch.errors import ModelError, PatternError
from layersearch.models.costs import count_parts
from layersearch.models.surgery import build, half_of, layers_of, rows_of
from layersearch.pattern import Block, Pattern

from .conftest import LAYERS, SOME, from_config, randomised, tiny_config

Batch = dict[str, torch.Tensor]

PATTERNS = ["0-3", "0-1 3", "2", "3 0", "0-1 1 2-3", "0 0 0", "0 1a 2f 3", "0a 1a 2a 3a", "0f 1f", "1 1a 1f 1"]

blocks = st.builds(Block, st.integers(0, LAYERS - 1), st.sampled_from(["both", "attention", "ffn"]))
patterns = st.lists(blocks, min_size=1, max_size=6).map(lambda found: Pattern(tuple(found)))


def bert_attention(layer: Any, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    out: torch.Tensor = layer.attention(hidden, mask)[0]
    return out


def bert_ffn(layer: Any, hidden: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = layer.output(layer.intermediate(hidden), hidden)
    return out


def distilbert_attention(layer: Any, hidden: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    out: torch.Tensor = layer.sa_layer_norm(layer.attention(hidden, mask)[0] + hidden)
    return out


def distilbert_ffn(layer: Any, hidden: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = layer.output_layer_norm(layer.ffn(hidden) + hidden)
    return out


# The halves by hand, from the papers' formulas and not from the table: a family without a line here fails.
BY_HAND: dict[str, tuple[Callable[..., torch.Tensor], Callable[..., torch.Tensor]]] = {
    "bert": (bert_attention, bert_ffn),
    "roberta": (bert_attention, bert_ffn),
    "electra": (bert_attention, bert_ffn),
    "distilbert": (distilbert_attention, distilbert_ffn),
}


class Stop(Exception):  # noqa: N818
    """Ends a forward pass as soon as a layer's input is known, so that no later layer draws a dropout mask."""


def entering(layer: nn.Module, model: PreTrainedModel, batch: Batch) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The hidden states and the attention mask that enter a layer."""
    seen: list[Any] = []

    def note(_: nn.Module, args: Any) -> None:
        seen.extend(args)
        raise Stop

    with layer.register_forward_pre_hook(note), contextlib.suppress(Stop):
        model(**batch)
    return seen[0], seen[1]


def hidden_by_hand(base: PreTrainedModel, pattern: Pattern, batch: Batch) -> torch.Tensor:
    """Run the base model's own layers in the order of the pattern, skipping the halves that it drops."""
    layers = layers_of(base)
    hidden, mask = entering(layers[0], base, batch)
    attention, ffn = BY_HAND[base.config.model_type]
    for block in pattern.blocks:
        hidden = attention(layers[block.layer], hidden, mask) if block.halves != "ffn" else hidden
        hidden = ffn(layers[block.layer], hidden) if block.halves != "attention" else hidden
    return hidden


def last_hidden(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    hidden: torch.Tensor = model.base_model(**batch).last_hidden_state
    return hidden


def memory_of(model: nn.Module) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}


@torch.no_grad()
def test_the_unchanged_pattern_changes_no_logit(tiny: PreTrainedModel, batch: Batch) -> None:
    candidate = build(tiny, Pattern.full(LAYERS))
    assert type(candidate) is type(tiny)
    assert torch.equal(candidate(**batch).logits, tiny(**batch).logits)
    assert str(candidate) == str(tiny)


@pytest.mark.parametrize("text", PATTERNS)
@torch.no_grad()
def test_the_candidate_is_what_the_layers_do_by_hand(tiny: PreTrainedModel, batch: Batch, text: str) -> None:
    pattern = Pattern.parse(text)
    expected = hidden_by_hand(tiny, pattern, batch)
    torch.testing.assert_close(last_hidden(build(tiny, pattern), batch), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("how", ["eager", "autocast", "training"])
@pytest.mark.parametrize("model_type", SOME)
@torch.no_grad()
def test_halves_hold_in_every_mode(
    make_tiny: Callable[..., PreTrainedModel], model_type: str, batch: Batch, how: str
) -> None:
    base = make_tiny(model_type, "eager" if how == "eager" else "sdpa").train(how == "training")
    pattern = Pattern.parse("0 1a 2f 3")
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        torch.manual_seed(0)
        expected = hidden_by_hand(base, pattern, batch)
        candidate = build(base, pattern)
        torch.manual_seed(0)
        found = last_hidden(candidate, batch)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert {module.training for module in candidate.modules()} == {how == "training"}


@torch.no_grad()
def test_a_dropped_half_passes_its_input_on_bit_by_bit(tiny: PreTrainedModel, batch: Batch) -> None:
    """Layer `1a` is its attention half alone, `2f` its FFN half alone."""
    candidate = build(tiny, Pattern.parse("0 1a 2f 3"))
    row, layers = rows_of(tiny)[0], layers_of(candidate)
    assert all(half_of(name, row) == "attention" for name, _ in layers[1].named_parameters())
    assert all(half_of(name, row) == "ffn" for name, _ in layers[2].named_parameters())
    attention, ffn = BY_HAND[tiny.config.model_type]
    before, mask = entering(layers[1], candidate, batch)
    between, _ = entering(layers[2], candidate, batch)
    after, _ = entering(layers[3], candidate, batch)
    assert torch.equal(between, attention(layers_of(tiny)[1], before, mask))
    assert torch.equal(after, ffn(layers_of(tiny)[2], between))


@pytest.mark.parametrize("text", PATTERNS)
def test_kept_weights_are_equal_and_nothing_is_shared(tiny: PreTrainedModel, text: str) -> None:
    before = copy.deepcopy(tiny.state_dict())
    pattern = Pattern.parse(text)
    candidate = build(tiny, pattern)
    stack = f"{tiny.base_model_prefix}.{rows_of(tiny)[0].path}."
    for name, tensor in candidate.state_dict().items():
        source = name
        if name.startswith(stack):
            index, _, rest = name.removeprefix(stack).partition(".")
            source = f"{stack}{pattern.blocks[int(index)].layer}.{rest}"
        assert torch.equal(tensor, before[source]), name
    assert not memory_of(candidate) & memory_of(tiny)
    parts = [memory_of(layer) for layer in layers_of(candidate)]
    assert sum(map(len, parts)) == len(set().union(*parts))
    with torch.no_grad():
        for parameter in candidate.parameters():
            parameter.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in tiny.state_dict().items())


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pattern=patterns)
def test_parameters_are_exactly_what_the_count_said(tiny: PreTrainedModel, pattern: Pattern) -> None:
    candidate = build(tiny, pattern)
    assert sum(p.numel() for p in candidate.parameters()) == pattern.parameters(count_parts(tiny))
    assert len(layers_of(candidate)) == pattern.depth


@pytest.mark.parametrize("text", PATTERNS)
@torch.no_grad()
def test_depth_and_layer_numbers_are_right(tiny: PreTrainedModel, batch: Batch, text: str) -> None:
    tiny(**batch, output_hidden_states=True)  # leaves transformers' hooks on the layers that are copied next
    candidate = build(tiny, Pattern.parse(text))
    depth = Pattern.parse(text).depth
    assert candidate.config.num_hidden_layers == depth
    assert tiny.config.num_hidden_layers == LAYERS
    assert {id(m.config) for m in candidate.modules() if hasattr(m, "config")} == {id(candidate.config)}
    for index, layer in enumerate(layers_of(candidate)):
        assert {m.layer_idx for m in layer.modules() if hasattr(m, "layer_idx")} <= {index}
    assert all(getattr(m, "n_layers", depth) == depth for m in candidate.modules())
    assert len(candidate(**batch, output_hidden_states=True).hidden_states) == depth + 1


def test_every_kept_parameter_learns(tiny: PreTrainedModel, batch: Batch) -> None:
    candidate = build(tiny, Pattern.parse("0 1a 2f 3 3")).train()
    candidate(**batch, labels=torch.tensor([0, 1, 2])).loss.backward()
    grads = {name: parameter.grad for name, parameter in candidate.named_parameters()}
    assert [name for name, grad in grads.items() if grad is None] == []
    # Softmax does not see what all keys have in common, so their bias has no gradient but rounding.
    still = [name for name, grad in grads.items() if grad is not None and not grad.any() and "key.bias" not in name]
    assert [name for name in still if not name.endswith("k_lin.bias")] == []
    assert all(parameter.grad is None for parameter in tiny.parameters())


@pytest.mark.parametrize("text", ["0-1 3", "0 0 1-3"])
@torch.no_grad()
def test_plain_transformers_reloads_whole_layers(
    tiny: PreTrainedModel, batch: Batch, text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    candidate, folder = build(tiny, Pattern.parse(text)), tmp_path_factory.mktemp("plain")
    candidate.save_pretrained(folder)
    again, info = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values())
    assert torch.equal(again(**batch).logits, candidate(**batch).logits)


@pytest.mark.parametrize("model_type", SOME)
@torch.no_grad()
def test_a_model_without_head_works_too(model_type: str, batch: Batch) -> None:
    bare = randomised(from_config(AutoModel, tiny_config(model_type)))
    pattern = Pattern.parse("0 1a 3")
    candidate = build(bare, pattern)
    torch.testing.assert_close(
        last_hidden(candidate, batch), hidden_by_hand(bare, pattern, batch), rtol=1e-5, atol=1e-6
    )
    assert sum(p.numel() for p in candidate.parameters()) == pattern.parameters(count_parts(bare))


def test_a_layer_too_many_is_refused(tiny: PreTrainedModel) -> None:
    with pytest.raises(PatternError, match="pattern `0-4` names layer 4, but the model has layers 0-3"):
        build(tiny, Pattern.parse("0-4"))


def test_a_family_without_a_row_is_named() -> None:
    sizes = {"encoder_layers": 2, "decoder_layers": 2, "d_model": 8, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = AutoConfig.for_model("mbart", vocab_size=20, **sizes, **heads)
    with pytest.raises(ModelError) as caught:
        build(from_config(AutoModel, config), Pattern.parse("0"))
    assert str(caught.value).startswith(
        "the model family 'mbart' has no row in the families table, and 2 lists of its modules have num_hidden_layers "
        "= 2 entries where one must: encoder.layers, decoder.layers; choose a model of the families bert, roberta, "
    )


def test_a_decoder_with_cross_attention_is_refused() -> None:
    config = tiny_config("bert")
    config.is_decoder = config.add_cross_attention = True
    with pytest.raises(
        ModelError, match=r"layers of this bert model hold `crossattention\..*`, which is in neither half"
    ):
        build(from_config(AutoModel, config), Pattern.parse("0"))


def test_a_stack_of_another_depth_than_configured_is_refused(tiny: PreTrainedModel) -> None:
    tiny.config.num_hidden_layers = LAYERS + 1
    with pytest.raises(ModelError, match=r"does not keep .* = 5 layers in `.*layer`, as the row"):
        build(tiny, Pattern.parse("0"))

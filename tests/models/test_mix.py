"""A learned mix of the layers, family by family: what it is by hand, where it starts, and both ways to the disk."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

from layersearch.errors import ModelError, WordsError
from layersearch.mixing import Mixing
from layersearch.models import checkpoint
from layersearch.models.costs import count_parts
from layersearch.models.export import check_exportable
from layersearch.models.mix import MIX, ScalarMix
from layersearch.models.readout import LAST, SharedMix, learnt, mix_of
from layersearch.models.supernet import SuperNetwork
from layersearch.models.surgery import build, hold_mix, stacks_of
from layersearch.pattern import Pattern
from layersearch.training.freezing import freeze
from layersearch.training.gradual import _seen_from

from .conftest import LAYERS
from .test_conformance import TINY, answer, every_family, every_head, patterns_of
from .tiny import Tiny

HOWS = [
    Mixing(softmax, gamma, norm, embeddings) for softmax, gamma, norm, embeddings in product([True, False], repeat=4)
]
POOLING = [name for name, tiny in TINY.items() if tiny.model_type in ("bert", "deberta-v2", "ernie")]


def mixed(pattern: Pattern) -> Pattern:
    return Pattern(pattern.blocks, "mix")


def mixed_patterns(tiny: Tiny) -> list[Pattern]:
    return [mixed(pattern) for pattern in patterns_of(tiny)]


def of(model: PreTrainedModel) -> ScalarMix:
    found = mix_of(model)
    assert isinstance(found, ScalarMix)
    return found


def drawn(model: PreTrainedModel) -> PreTrainedModel:
    """With other scalars than those it begins with."""
    generator = torch.Generator().manual_seed(3)
    mix = mix_of(model)
    assert mix is not None
    with torch.no_grad():
        for parameter in mix.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    return model


@contextmanager
def last_replaced(model: PreTrainedModel, by: Any) -> Iterator[None]:
    """While `model` runs, its last layer answers with what `by` makes of all states that layers are handed."""
    layers, _ = stacks_of(model)[-1]
    states: list[torch.Tensor] = []

    def before(_: nn.Module, args: tuple[Any, ...]) -> None:
        states.append(args[0])

    def after(_: nn.Module, __: object, output: Any) -> Any:
        if len(states) < len(layers):
            return output
        last = output[0] if isinstance(output, tuple) else output
        found = by([*states, last])
        return (found, *output[1:]) if isinstance(output, tuple) else found

    hooks = [layer.register_forward_pre_hook(before) for layer in dict.fromkeys(layers)]
    hooks += [layer.register_forward_hook(after) for layer in dict.fromkeys(layers)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@every_head
@torch.no_grad()
def test_all_weight_on_the_last_layer_is_the_model_that_reads_its_last_layer(name: str, head: Any) -> None:
    tiny = TINY[name]
    base, inputs = tiny.model(head), tiny.inputs()
    for pattern in patterns_of(tiny):
        expected = answer(build(base, pattern), inputs)
        for mixing in (Mixing(), Mixing(softmax=False, gamma=False, embeddings=True)):
            candidate = build(base, mixed(pattern), mixing)
            scalars = of(candidate).scalars
            scalars.zero_()
            scalars[-1] = 100.0 if mixing.softmax else 1.0
            torch.testing.assert_close(answer(candidate, inputs), expected, rtol=0, atol=1e-6)
            even = answer(build(base, mixed(pattern), mixing), inputs)
            assert not torch.allclose(even, expected, atol=1e-3) or len(scalars) == 1


@every_family
@torch.no_grad()
def test_a_mix_is_what_its_formula_says(name: str) -> None:
    """gamma * sum_k w_k h_k, whatever is switched off; what follows the last layer follows the mix."""
    tiny = TINY[name]
    base, inputs, pattern = tiny.model(), tiny.inputs(), Pattern.parse("0-1 1 3" if not tiny.shared else "0-2")
    plain = build(base, pattern)
    for mixing in HOWS:
        candidate = drawn(build(base, mixed(pattern), mixing))
        mix = of(candidate)
        assert (mix.gamma is None) == (not mixing.gamma)

        def by_hand(states: list[torch.Tensor], mix: ScalarMix = mix, mixing: Mixing = mixing) -> torch.Tensor:
            states = states if mixing.embeddings else states[1:]
            width = states[0].shape[-1]
            states = [nn.LayerNorm(width, elementwise_affine=False)(s) for s in states] if mixing.norm else states
            weights = torch.softmax(mix.scalars, 0) if mixing.softmax else mix.scalars
            total = torch.einsum("k,k...->...", weights, torch.stack(states))
            return total * mix.gamma if mix.gamma is not None else total

        with last_replaced(plain, by_hand):
            expected = answer(plain, inputs)
        torch.testing.assert_close(answer(candidate, inputs), expected, rtol=1e-4, atol=1e-5)


@every_family
def test_a_mix_is_counted_and_every_layer_learns_by_it(name: str) -> None:
    tiny = TINY[name]
    base, inputs = tiny.model(), tiny.inputs()
    for pattern in mixed_patterns(tiny):
        for mixing in (Mixing(), Mixing(gamma=False), Mixing(embeddings=True)):
            candidate = build(base, pattern, mixing)
            found = sum(parameter.numel() for parameter in candidate.parameters())
            counts = count_parts(base, mixing=mixing)
            assert found == pattern.parameters(counts)
            states = of(candidate).layers
            plain = Pattern(pattern.blocks).parameters(counts)
            assert found - plain == states + mixing.gamma + mixing.embeddings
    answer(candidate.train(), inputs).square().sum().backward()  # type: ignore[no-untyped-call]
    gradient = of(candidate).scalars.grad
    assert gradient is not None
    assert (gradient != 0).all()


@every_family
@torch.no_grad()
def test_an_even_mix_by_default_and_the_last_layer_first_over_a_fine_tuned_model(name: str) -> None:
    base, pattern = TINY[name].model(), Pattern.parse("0-3 mix")
    for mixing in HOWS:
        even, last = (of(build(base, pattern, mixing, start)) for start in ("even", "last"))
        states = even.layers + mixing.embeddings
        torch.testing.assert_close(even.shares(), torch.full((states,), 1 / states))
        assert last.shares()[-1].item() == pytest.approx(LAST if mixing.softmax else 1.0)
        assert last.shares().sum().item() == pytest.approx(1.0)
        assert mixing.gamma == (last.gamma is not None and last.gamma.item() == 1.0)


@every_head
@torch.no_grad()
def test_a_mix_comes_back_from_a_checkpoint(name: str, head: Any, tmp_path: Path) -> None:
    tiny = TINY[name]
    base, inputs = tiny.model(head), tiny.inputs()
    mixing = Mixing(gamma=False, embeddings=True)
    for pattern in mixed_patterns(tiny)[-1:]:
        candidate = drawn(build(base, pattern, mixing))
        checkpoint.save(candidate, pattern, tmp_path / "it", source_layers=LAYERS, extras={})
        again, manifest = checkpoint.load(tmp_path / "it", head)
        assert manifest.pattern == pattern
        assert torch.equal(answer(again, inputs), answer(candidate, inputs))
        assert str(again.config) == str(candidate.config)
        assert torch.equal(answer(copy.deepcopy(again), inputs), answer(candidate, inputs))
        assert learnt(again, pattern) == learnt(candidate, pattern)


@pytest.mark.parametrize("name", POOLING)
@torch.no_grad()
def test_a_mix_after_the_pooler_mixes_what_it_makes_of_each_layer(name: str, tmp_path: Path) -> None:
    base, inputs = TINY[name].model(), TINY[name].inputs()
    pattern = Pattern.parse("0-2 mix")
    candidate = drawn(build(base, pattern, Mixing(after_pooler=True)))
    mix = of(candidate)
    plain = build(base, Pattern(pattern.blocks))
    pooler: Any = getattr(plain.base_model, "pooler", None) or plain.pooler
    pooled: list[torch.Tensor] = []

    def each(states: list[torch.Tensor]) -> torch.Tensor:
        pooled.extend(pooler.forward(state) for state in states[1:])
        return states[-1]

    def by_hand(*_: object) -> torch.Tensor:
        assert mix.gamma is not None
        return torch.einsum("k,k...->...", mix.shares() * mix.gamma, torch.stack(pooled))

    pooler.register_forward_hook(by_hand)
    with last_replaced(plain, each):
        expected = answer(plain, inputs)
    torch.testing.assert_close(answer(candidate, inputs), expected)
    checkpoint.save(candidate, pattern, tmp_path / "it", source_layers=LAYERS, extras={})
    assert torch.equal(answer(checkpoint.load(tmp_path / "it")[0], inputs), answer(candidate, inputs))
    before = build(base, pattern, Mixing())
    of(before).load_state_dict(mix.state_dict())
    assert not torch.allclose(answer(before, inputs), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["roberta", "albert", "llama", "t5", "vit"])
def test_without_a_pooler_nothing_is_mixed_after_it(name: str) -> None:
    with pytest.raises(
        WordsError, match=r"--mix 'after-pooler': the head of this .* model \(.*\) has no pooler of hid"
    ):
        build(TINY[name].model(), Pattern.parse("0-3 mix"), Mixing(after_pooler=True))


def test_layers_of_different_shapes_are_no_hidden_states_to_mix() -> None:
    """Each of these stages is twice as wide as the one before."""
    keys = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1], "window_size": 2, "image_size": 32}
    keys |= {"patch_size": 2, "num_channels": 3, "hidden_size": None, "num_hidden_layers": None}
    keys |= {"num_attention_heads": None, "max_position_embeddings": None, "vocab_size": None, "pad_token_id": None}

    base = Tiny(
        "swin", keys | {"intermediate_size": None}, halves=False, heads=(AutoModelForImageClassification,)
    ).model()
    assert build(base, Pattern.full(4)) is not None
    with pytest.raises(ModelError) as caught:
        build(base, Pattern.parse("0-3 mix"))
    assert str(caught.value).startswith(
        "the layers of this swin model are not of one shape, so they have no hidden states that could be mixed; search "
        "a space without `mix`, or choose a model of the families bert, roberta, "
    )


@every_family
@torch.no_grad()
def test_scalars_follow_their_layers_when_one_goes_later(name: str) -> None:
    base, inputs = TINY[name].model(), TINY[name].inputs()
    before, after = Pattern.parse("0-3 mix"), Pattern.parse("0 2-3 mix")
    whole = drawn(build(base, before))
    part = build(whole, _seen_from(before, after))
    kept = [0, 2, 3] if len(stacks_of(base)) == 1 else [0, 1]
    assert torch.equal(of(part).scalars, of(whole).scalars[kept])
    assert torch.equal(of(part).gamma, of(whole).gamma)  # type: ignore[arg-type]
    last = build(whole, Pattern.parse("0 2-3"))
    assert mix_of(last) is None
    assert not hasattr(last.config, "mixed_layers")
    assert torch.equal(answer(last, inputs), answer(build(base, Pattern.parse("0 2-3")), inputs))
    assert torch.equal(answer(whole, inputs), answer(copy.deepcopy(whole), inputs))


@every_family
@torch.no_grad()
def test_a_super_network_shares_one_mix_that_candidates_take_along(name: str, tmp_path: Path) -> None:
    tiny = TINY[name]
    base, inputs = tiny.model(), tiny.inputs()
    plain = answer(base, inputs)
    for number, mixing in enumerate((Mixing(), Mixing(softmax=False, norm=True, embeddings=True))):
        network = build(base, Pattern.full(LAYERS))
        patterns = [*mixed_patterns(tiny), *patterns_of(tiny)]
        hold_mix(network, patterns, mixing)
        assert isinstance(mix_of(network), SharedMix)
        drawn(network)
        assert torch.equal(answer(network, inputs), plain), "it lies still while the model is whole"
        net = SuperNetwork(network)
        found = {pattern: output.logits for pattern, output in net.outputs(patterns, inputs)}
        assert set(found) == set(patterns)
        for pattern in patterns:
            candidate = build(network, pattern, mixing, "last")
            expected = answer(candidate, inputs)
            assert (mix_of(candidate) is not None) == pattern.mixes
            with net.running(pattern) as model:
                torch.testing.assert_close(answer(model, inputs), expected, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(found[pattern], expected, rtol=1e-4, atol=1e-5)
        checkpoint.save(network, Pattern.full(LAYERS), tmp_path / str(number), source_layers=LAYERS, extras={})
        again, _ = checkpoint.load(tmp_path / str(number), tiny.heads[0])
        assert torch.equal(answer(again, inputs), plain)
        assert torch.equal(answer(build(again, patterns[-1]), inputs), answer(build(network, patterns[-1]), inputs))
        assert learnt(build(again, patterns[0], mixing), patterns[0]) == learnt(
            build(network, patterns[0], mixing), patterns[0]
        )


def test_a_super_network_without_mixing_patterns_holds_no_mix() -> None:
    network = TINY["bert"].model()
    hold_mix(network, [Pattern.parse("0 2")], Mixing())
    assert mix_of(network) is None


def test_a_shared_mix_begins_on_the_last_layer_of_every_pattern() -> None:
    network = TINY["bert"].model()
    pattern = Pattern.parse("0 2 mix")
    hold_mix(network, [pattern], Mixing())
    mix = mix_of(network)
    assert isinstance(mix, SharedMix)
    assert mix.of(pattern.blocks, 0).shares().tolist() == pytest.approx([1 - LAST, LAST])


@pytest.mark.parametrize("name", [name for name, tiny in TINY.items() if AutoModelForCausalLM in tiny.heads])
@torch.no_grad()
def test_a_decoder_with_a_mix_generates_with_a_cache_as_without(name: str) -> None:
    base = TINY[name].model(AutoModelForCausalLM)
    candidate = drawn(build(base, Pattern.parse("0 1a 2 2f 3 mix" if TINY[name].halves else "0-1 1 3 mix")))
    ids = torch.tensor([[5, 6, 7, 8]])
    how = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "output_logits": True}
    how |= {"return_dict_in_generate": True}
    told = [torch.stack(candidate.generate(ids, **how, use_cache=cached).logits) for cached in (True, False)]  # type: ignore[operator]
    torch.testing.assert_close(told[0], told[1], rtol=1e-4, atol=1e-5)


def test_a_mix_is_trained_though_all_else_is_frozen() -> None:
    candidate = build(TINY["bert"].model(), Pattern.parse("0-3 mix"))
    freeze(candidate, Pattern.parse("0-3 mix"), "embeddings 0-3")
    trained = {name for name, parameter in candidate.named_parameters() if parameter.requires_grad}
    assert {name for name in trained if MIX in name} == {
        f"bert.encoder.{MIX}.scalars",
        f"bert.encoder.{MIX}.gamma",
    }


@torch.no_grad()
def test_a_pass_that_breaks_off_leaves_no_hook_and_no_state() -> None:
    model = build(TINY["bert"].model(), Pattern.parse("0-3 mix"))
    inputs = TINY["bert"].inputs()
    expected = answer(model, inputs)
    layers, _ = stacks_of(model)[-1]

    def fails(*_: object) -> None:
        raise RuntimeError("no memory")

    hook = layers[2].register_forward_hook(fails)
    with pytest.raises(RuntimeError, match="no memory"):
        model(**inputs)
    hook.remove()
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers)
    assert torch.equal(answer(copy.deepcopy(model), inputs), expected)


@torch.no_grad()
def test_a_mix_keeps_the_precision_of_its_layers() -> None:
    tiny = TINY["bert"]
    model = build(tiny.model(AutoModelForSequenceClassification), Pattern.parse("0-3 mix"))
    with torch.autocast("cpu", torch.bfloat16):
        plain = build(tiny.model(), Pattern.parse("0-3"))(**tiny.inputs()).logits
        assert model(**tiny.inputs()).logits.dtype == plain.dtype


def test_what_is_learnt_is_told_by_block() -> None:
    model = build(TINY["bert"].model(), Pattern.parse("0 1a 1a 3 mix"), Mixing(embeddings=True, softmax=False))
    words = learnt(model, Pattern.parse("0 1a 1a 3 mix"))
    assert words == "embeddings: 0.2000, 0: 0.2000, 1a: 0.2000, 1a: 0.2000, 3: 0.2000; gamma 1.0000"
    assert learnt(model, Pattern.parse("0 3")) is None
    two = build(TINY["t5"].model(), Pattern.parse("0-3 mix"), Mixing(gamma=False))
    assert learnt(two, Pattern.parse("0-3 mix")) == "2: 0.5000, 3: 0.5000"


def test_a_mix_leaves_with_code_and_plain_transformers_has_none() -> None:
    pattern = Pattern.parse("0-2 mix")
    assert check_exportable(pattern, "bert") == check_exportable(pattern, "albert") == "with code"
    assert check_exportable(pattern, "ernie", "with code") == "with code"
    with pytest.raises(WordsError) as caught:
        check_exportable(pattern, "bert", "native")
    assert str(caught.value) == (
        "the pattern `0-2 mix` mixes its layers, and plain transformers code has no such bert; export it with code, "
        "choose a trial that reads its last layer, or search the space `layers`, which has no others"
    )

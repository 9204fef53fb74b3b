"""The super-network, over every family: a pattern over shared weights equals the candidate that surgery builds."""

import random

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from layersearch.models.supernet import SuperNetwork
from layersearch.models.surgery import build
from layersearch.pattern import Block, Pattern

from .conftest import LAYERS
from .test_conformance import TINY, patterns_of

PATTERNS = [
    Pattern.parse(text) for text in ("0-3", "0-1 3", "2", "0-1 1 2-3", "0 1a 2f 3", "0a 1a 2a 3a", "0f 1f", "0")
]


def subsets() -> list[Pattern]:
    """All 15 patterns of whole layers."""
    kept = ([layer for layer in range(LAYERS) if bits >> layer & 1] for bits in range(1, 2**LAYERS))
    return [Pattern(tuple(Block(layer) for layer in layers)) for layers in kept]


def test_running_as_a_pattern_equals_the_built_candidate(tiny: PreTrainedModel, batch: dict[str, torch.Tensor]) -> None:
    net = SuperNetwork(tiny)
    for pattern in PATTERNS:
        with torch.no_grad(), net.running(pattern) as model:
            shared = model(**batch).logits
        torch.testing.assert_close(shared, build(tiny, pattern)(**batch).logits)


def test_the_model_is_whole_again_afterwards(tiny: PreTrainedModel, batch: dict[str, torch.Tensor]) -> None:
    before = {name: id(parameter) for name, parameter in tiny.named_parameters()}
    expected = tiny(**batch).logits
    with SuperNetwork(tiny).running(Pattern.parse("1f 2")):
        pass
    assert {name: id(parameter) for name, parameter in tiny.named_parameters()} == before
    torch.testing.assert_close(tiny(**batch).logits, expected)


def test_many_patterns_at_once_equal_one_at_a_time(tiny: PreTrainedModel, batch: dict[str, torch.Tensor]) -> None:
    net = SuperNetwork(tiny)
    patterns = [*PATTERNS, *subsets()]
    random.Random(0).shuffle(patterns)
    with torch.no_grad():
        found = dict(net.outputs(patterns, batch))
    assert set(found) == set(patterns)
    for pattern, output in found.items():
        torch.testing.assert_close(output.logits, build(tiny, pattern)(**batch).logits)


def test_common_beginnings_are_run_once(tiny: PreTrainedModel, batch: dict[str, torch.Tensor]) -> None:
    net = SuperNetwork(tiny)
    calls = 0

    def count(_module: nn.Module, _args: object, _output: object) -> None:
        nonlocal calls
        calls += 1

    for layer in net._layers:
        layer.register_forward_hook(count)
    with torch.no_grad():
        assert len(dict(net.outputs(subsets(), batch))) == 15
    assert calls == 15  # and not the 32 of one pattern after another


def test_gradients_of_a_pattern_reach_what_it_keeps_and_nothing_else(
    tiny: PreTrainedModel, batch: dict[str, torch.Tensor]
) -> None:
    net = SuperNetwork(tiny)
    with net.running(Pattern.parse("0 2a")) as model:
        model(**batch).logits.square().sum().backward()
    reached = [layer for layer in range(LAYERS) if any(p.grad is not None for p in net._layers[layer].parameters())]
    assert reached == [0, 2]
    dropped = [p.grad for name, p in net._layers[2].named_parameters() if name.startswith(("intermediate", "ffn"))]
    assert dropped
    assert all(grad is None for grad in dropped)


@pytest.mark.parametrize("name", TINY)
@torch.no_grad()
def test_training_autocast_and_eager_attention_change_nothing_of_that(name: str) -> None:
    """Dropout is drawn alike, so no stand-in draws more or less."""
    base, inputs, pattern = TINY[name].model(), TINY[name].inputs(), patterns_of(TINY[name])[-1]
    base.set_attn_implementation("eager")
    net = SuperNetwork(base.train())
    with torch.autocast("cpu", torch.bfloat16):
        torch.manual_seed(0)
        expected = build(base, pattern)(**inputs).logits
        torch.manual_seed(0)
        with net.running(pattern) as model:
            torch.testing.assert_close(model(**inputs).logits, expected)

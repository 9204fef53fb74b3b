"""Influence of halves: tiny models of every family, against their own hidden states and a half taken out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import PreTrainedModel

from layersearch.kinds import KINDS
from layersearch.models.surgery import build, layers_of, stacks_of
from layersearch.pattern import Block, Pattern
from layersearch.search.trials import attributes_of
from layersearch.tasks.task import Encoded
from layersearch.training.batches import collate
from layersearch.training.evaluator import Evaluator
from layersearch.training.influence import MOST_EXAMPLES, examples_for, hidden_states, influence
from layersearch.training.job import Job, Outcome
from tests.models.conftest import LAYERS, make_tiny, tiny
from tests.models.tiny import TINY
from tests.models.tiny_decoders import DECODERS

__all__ = ["make_tiny", "tiny"]
HALVES = 2 * LAYERS


@pytest.fixture
def encoded() -> Encoded:
    """Twelve examples of three to eight tokens, three classes."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 9, size=12)
    return Encoded(
        input_ids=rng.integers(3, 60, size=lengths.sum()).astype(np.int32),
        token_type_ids=None,
        offsets=np.concatenate([[0], lengths.cumsum()]).astype(np.int64),
        labels=rng.integers(0, 3, size=12),
    )


def test_states_are_those_between_the_halves_of_every_family(tiny: PreTrainedModel, encoded: Encoded) -> None:
    inputs = collate(encoded, np.arange(4), tiny.device, 1)
    with torch.no_grad(), hidden_states(tiny) as (states,):
        told = tiny(**inputs, output_hidden_states=True).hidden_states
    assert len(states) == HALVES + 1
    for layer in range(LAYERS + 1):
        torch.testing.assert_close(states[2 * layer], told[layer])
    with torch.no_grad(), hidden_states(build(tiny, Pattern.parse("0 1a 2-3"))) as (dropped,):
        pass
    assert dropped == []
    candidate = build(tiny, Pattern.parse("0a 1-3"))  # its first layer ends where the attention half ended
    with torch.no_grad():
        after = candidate(**inputs, output_hidden_states=True).hidden_states[1]
    torch.testing.assert_close(after, states[1])


@pytest.mark.parametrize("name", ["gpt2", "opt", "opt with norms after", "llama", "bart", "t5"])
@torch.no_grad()
def test_states_are_those_between_halves_whose_norm_stands_before_and_of_each_stack(name: str) -> None:
    base, inputs = DECODERS[name].model(), DECODERS[name].inputs()
    with hidden_states(base) as states:
        base(**inputs)
    first = 0
    for stack, (layers, _) in enumerate(stacks_of(base)):
        assert len(states[stack]) == 2 * len(layers) + 1
        blocks = [Block(layer, "attention" if layer == first else "both") for layer in range(LAYERS)]
        candidate = build(base, Pattern(tuple(blocks)))
        with hidden_states(candidate) as found:
            candidate(**inputs)
        torch.testing.assert_close(found[stack][2], states[stack][1].reshape(found[stack][2].shape))
        first += len(layers)


@pytest.mark.parametrize("name", ["gpt2", "opt", "qwen3", "bart", "t5"])
def test_influence_does_not_depend_on_padding_in_decoders_either(name: str, encoded: Encoded) -> None:
    model = DECODERS[name].model()
    encoded.input_ids[encoded.offsets[1:] - 1] = 2  # the end, which models with two stacks look for
    at_once, alone = (influence(model, "classification", encoded, 12, size, 0) for size in (12, 1))
    for measure, values in at_once.items():
        assert len(values) == HALVES
        assert values == pytest.approx(alone[measure], rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("name", ["albert", "xlnet", "modernbert", "ernie, which has no row"])
def test_measures_are_per_token_and_example_however_a_family_lays_them(name: str, encoded: Encoded) -> None:
    model, halves = TINY[name].model(), TINY[name].halves
    together, alone = (influence(model, "classification", encoded, 12, batch, seed=0) for batch in (5, 1))
    for measure in ("block", "token", "gradient"):
        assert together[measure] == pytest.approx(alone[measure], rel=1e-4, abs=1e-6)
        assert len(together[measure]) == HALVES
        assert all(value > 0 for value in together[measure][:: 1 if halves else 2])
        assert halves or together[measure][1::2] == pytest.approx([0] * LAYERS, abs=1e-6)


def test_the_hooks_are_gone_afterwards(tiny: PreTrainedModel, encoded: Encoded) -> None:
    with hidden_states(tiny) as (states,):
        pass
    tiny(**collate(encoded, np.arange(2), tiny.device, 1))
    assert states == []
    assert not any(m._forward_hooks or m._forward_pre_hooks for layer in layers_of(tiny) for m in layer.modules())


def test_influence_is_what_the_definitions_say_whatever_the_batch(tiny: PreTrainedModel, encoded: Encoded) -> None:
    found = influence(tiny, "classification", encoded, 12, 5, 0)
    assert {name: len(values) for name, values in found.items()} == dict.fromkeys(
        ("block", "token", "gradient"), HALVES
    )
    apart, first = torch.zeros(HALVES), torch.zeros(HALVES)
    change = torch.zeros(HALVES)
    for example in range(12):
        inputs = collate(encoded, np.array([example]), tiny.device, 1)
        with hidden_states(tiny) as (states,):
            logits = tiny(**inputs).logits
        loss = KINDS["classification"].loss(logits, torch.from_numpy(encoded.labels[[example]]), ())
        gradients = torch.autograd.grad(loss, states[1:])
        for half in range(HALVES):
            cosine = functional.cosine_similarity(states[half], states[half + 1], dim=-1)
            apart[half] += (1 - cosine).sum().detach()
            first[half] += 1 - cosine[0, 0].detach()
            change[half] += (gradients[half] * (states[half + 1] - states[half])).sum().abs().detach()
    assert found["block"] == pytest.approx((apart / len(encoded.input_ids)).tolist(), rel=1e-4, abs=1e-6)
    assert found["token"] == pytest.approx((first / 12).tolist(), rel=1e-4, abs=1e-6)
    assert found["gradient"] == pytest.approx((change / 12).tolist(), rel=1e-4, abs=1e-6)


def test_measuring_changes_no_weight_and_needs_no_gradient_of_one(tiny: PreTrainedModel, encoded: Encoded) -> None:
    before = {name: tensor.clone() for name, tensor in tiny.state_dict().items()}
    influence(tiny.train(), "classification", encoded, 7, 4, 0)
    assert all(torch.equal(before[name], tensor) for name, tensor in tiny.state_dict().items())
    assert all(parameter.grad is None for parameter in tiny.parameters())


def test_measuring_is_a_small_part_of_a_fine_tuning() -> None:
    assert examples_for(5000, 2) == MOST_EXAMPLES
    assert examples_for(100, 3) == 15
    assert examples_for(100, 100) == 100
    assert examples_for(3, 1) == 1


def test_the_evaluator_measures_when_asked_and_counts_the_work(evaluator: Evaluator) -> None:
    job = Job(0, "0-3", 0, influence=True)
    outcome, plain = evaluator(job), evaluator(replace(job, influence=False))
    assert outcome.score == plain.score
    assert not plain.influence
    assert {name: len(values) for name, values in outcome.influence.items()} == dict.fromkeys(
        ("block", "token", "gradient"), 8
    )
    assert 0 < outcome.work - plain.work <= 0.05
    assert Outcome.from_json(outcome.as_json()) == outcome


def test_a_trial_keeps_four_digits() -> None:
    outcome = Outcome(0, "0-1", 0, influence={"block": [0.123456, 0.0000123456]})
    assert attributes_of(outcome)["influence"] == {"block": [0.1235, 1.235e-05]}
    assert attributes_of(Outcome(0, "0-1", 0))["influence"] is None

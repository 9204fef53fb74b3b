"""Tied copies: one set of weights that is counted, trained and saved once, and comes back tied."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel

from layersearch.models import checkpoint
from layersearch.models.costs import count_parts
from layersearch.models.surgery import build, layers_of
from layersearch.models.tying import untie
from layersearch.pattern import Pattern

from .conftest import LAYERS

Batch = dict[str, torch.Tensor]
TIED = Pattern.parse("0-2 2t 3 3t 3t")
OWN = Pattern.parse("0-2 2 3 3 3")


def count(model: PreTrainedModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def test_a_tied_candidate_answers_like_one_with_own_copies(tiny: PreTrainedModel, batch: Batch) -> None:
    tied, own = build(tiny, TIED), build(tiny, OWN)
    assert torch.equal(tied(**batch).logits, own(**batch).logits)
    assert count(tied) == TIED.parameters(count_parts(tiny)) == count(tiny)
    assert count(own) == OWN.parameters(count_parts(tiny)) > count(tied)
    assert not any(ours is theirs for ours in tied.parameters() for theirs in tiny.parameters())


def test_training_moves_all_copies_together_and_each_weight_once(tiny: PreTrainedModel, batch: Batch) -> None:
    tied = build(tiny, TIED).train()
    optimizer = torch.optim.SGD(tied.parameters(), lr=0.1)
    tied(**batch, labels=torch.tensor([0, 1, 2])).loss.backward()
    optimizer.step()
    layers = [dict(layer.named_parameters()) for layer in layers_of(tied)]
    assert all(layers[2][name] is layers[3][name] for name in layers[2])
    assert all(layers[4][name] is layers[5][name] is layers[6][name] for name in layers[4])
    before = dict(layers_of(tiny)[3].named_parameters())
    assert any(not torch.equal(before[name], layers[4][name]) for name in before)


def test_shared_weights_are_written_once_and_come_back_tied(tiny: PreTrainedModel, tmp_path: Path) -> None:
    tied = build(tiny, TIED)
    manifest = checkpoint.save(tied, TIED, tmp_path / "it", source_layers=LAYERS, extras={})
    assert manifest.parameters == count(tied)
    written = load_file(tmp_path / "it" / checkpoint.WEIGHTS)
    assert sum(tensor.numel() for name, tensor in written.items() if name in dict(tied.named_parameters())) == count(
        tied
    )
    assert not [name for name in written if re.search(r"layer\.[356]\.", name)]
    again, _ = checkpoint.load(tmp_path / "it")
    assert count(again) == count(tied)
    layers = layers_of(again)
    assert all(one is other for one, other in zip(layers[4].parameters(), layers[6].parameters(), strict=True))


@torch.no_grad()
def test_untied_copies_have_equal_values_of_their_own(tiny: PreTrainedModel, batch: Batch) -> None:
    tied = build(tiny, TIED)
    logits = tied(**batch).logits
    untie(layers_of(tied), TIED)
    assert count(tied) == count(build(tiny, OWN))
    assert torch.equal(tied(**batch).logits, logits)
    next(layers_of(tied)[6].parameters()).zero_()
    assert not torch.equal(tied(**batch).logits, logits)


def test_a_candidate_of_a_candidate_has_weights_of_its_own(make_tiny: Callable[[str], PreTrainedModel]) -> None:
    tied = build(make_tiny("bert"), Pattern.parse("0 0t 1"))
    again = build(tied, Pattern.parse("0-2"))
    assert not {id(parameter) for parameter in again.parameters()} & {id(parameter) for parameter in tied.parameters()}


@pytest.mark.parametrize("text", ["0-3", "0-1 1 3"])
def test_nothing_is_tied_without_tied_copies(make_tiny: Callable[[str], PreTrainedModel], text: str) -> None:
    candidate = build(make_tiny("bert"), Pattern.parse(text))
    parameters = list(candidate.named_parameters(remove_duplicate=False))
    assert len(parameters) == len({id(parameter) for _, parameter in parameters})

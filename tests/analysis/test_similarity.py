"""Similarities of layers and halves: against hidden states by hand, and on a model made for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import PreTrainedModel

from layersearch.analysis import similarity as module
from layersearch.analysis.similarity import similarity, sizes_of
from layersearch.kinds import KindName
from layersearch.measured import angular, block_influence, contribution
from layersearch.models.surgery import auto_class, layers_of
from layersearch.tasks.task import Encoded
from layersearch.training.batches import collate
from layersearch.training.influence import influence
from tests.models.conftest import LAYERS, make_tiny, tiny
from tests.models.tiny import TINY
from tests.models.tiny_decoders import DECODERS

__all__ = ["make_tiny", "tiny"]


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


@torch.no_grad()
def test_means_are_those_of_the_hidden_states_one_by_one(tiny: PreTrainedModel, encoded: Encoded) -> None:
    """Without padding, by the model's own hidden states."""
    found = similarity(tiny, encoded)
    first, every = torch.zeros(LAYERS), torch.zeros(LAYERS)
    turned = torch.zeros(LAYERS + 1, LAYERS + 1)
    for example in range(12):
        inputs = collate(encoded, np.array([example]), tiny.device, 1)
        states = tiny(**inputs, output_hidden_states=True).hidden_states
        for layer in range(LAYERS):
            cosine = functional.cosine_similarity(states[layer], states[layer + 1], dim=-1)[0]
            first[layer] += cosine[0] / 12
            every[layer] += cosine.sum() / len(encoded.input_ids)
        for low in range(LAYERS + 1):
            for high in range(LAYERS + 1):
                cosine = functional.cosine_similarity(states[low][0, -1], states[high][0, -1], dim=0).clamp(-1, 1)
                turned[low, high] += torch.arccos(cosine) / torch.pi / 12
    assert found.num_layers == LAYERS
    assert found.first_token == pytest.approx(first.tolist(), abs=1e-5)
    assert found.all_tokens == pytest.approx(every.tolist(), abs=1e-5)
    for low, row in enumerate(found.apart):
        assert row == pytest.approx(turned[low].tolist(), abs=1e-3)  # arccos is steep at 1


def test_halves_agree_with_the_influence_that_is_measured_beside_training(
    tiny: PreTrainedModel, encoded: Encoded
) -> None:
    block = influence(tiny, "classification", encoded, 12, 4, 0)["block"]
    found = similarity(tiny, encoded)
    assert found.attention == pytest.approx(block[0::2], abs=1e-5)
    assert found.ffn == pytest.approx(block[1::2], abs=1e-5)


def test_the_batches_do_not_matter(tiny: PreTrainedModel, encoded: Encoded, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = similarity(tiny, encoded)
    monkeypatch.setattr(module, "BATCH", 5)
    shares: list[float] = []
    parts = similarity(tiny, encoded, heartbeat=shares.append)
    assert shares == [5 / 12, 10 / 12, 1.0]
    for name in ("first_token", "all_tokens", "attention", "ffn"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), abs=1e-5)


def test_the_first_token_is_no_padding_where_texts_end_together(encoded: Encoded) -> None:
    """XLNet, whose padding stands on the left: as `influence` takes it for halves, alone or in a batch."""
    model = TINY["xlnet"].model()
    together = similarity(model, encoded)
    cosines = []
    for example in range(12):
        alone = encoded.offsets[example : example + 2]
        inputs = {"input_ids": torch.from_numpy(encoded.input_ids[alone[0] : alone[1]])[None].long()}
        with torch.no_grad():
            states = model(**inputs, output_hidden_states=True).hidden_states
        cosines.append([float(functional.cosine_similarity(a[0, -1], b[0, -1], dim=-1)) for a, b in pairwise(states)])
    assert together.first_token == pytest.approx(np.mean(cosines, axis=0)[:LAYERS].tolist(), abs=1e-4)


def test_weights_are_those_of_the_matrices(tiny: PreTrainedModel) -> None:
    matrices = [p.detach().flatten() for p in layers_of(tiny)[1].parameters() if p.ndim == 2]
    flat = torch.cat(matrices).numpy()
    sizes, variances = sizes_of(tiny)
    assert sizes[1] == pytest.approx(float(np.abs(flat).mean()), rel=1e-5)
    assert variances[1] == pytest.approx(float(flat.var()), rel=1e-4)


def test_layers_that_do_nothing_are_found(make_tiny: Callable[[str], PreTrainedModel], encoded: Encoded) -> None:
    """BERT's layers 1 and 2 normalise and add nothing: what they get from layer 0 is normal already."""
    model = make_tiny("bert")
    layers: Any = layers_of(model)
    with torch.no_grad():
        for layer in layers[:3]:
            for part in (layer.attention.output, layer.output):
                part.LayerNorm.weight.fill_(1.0)
                part.LayerNorm.bias.zero_()
        for layer in layers[1:3]:
            for part in (layer.attention.output, layer.output):
                part.dense.weight.zero_()
                part.dense.bias.zero_()
    found = similarity(model, encoded)
    assert str(contribution(found, 2)) == str(block_influence(found, 2)) == str(angular(found, 2)) == "0 3"
    assert found.first_token[1] == pytest.approx(1.0, abs=1e-5)
    assert found.attention[1] == pytest.approx(0.0, abs=1e-5)


def test_images_are_measured_over_their_patches() -> None:
    model = DECODERS["vit"].model()
    size, images = int(model.config.image_size), 5
    pixels = np.random.default_rng(0).normal(size=(images, int(model.config.num_channels), size, size))
    encoded = Encoded(
        input_ids=np.zeros(0, dtype=np.int32),
        token_type_ids=None,
        offsets=np.arange(images + 1, dtype=np.int64),
        labels=np.arange(images) % 3,
        pixels=pixels.astype(np.float32),
    )
    found = similarity(model, encoded)
    halves = influence(model, "image-classification", encoded, images, 2, seed=0)
    assert found.num_layers == LAYERS
    assert [half for layer in zip(found.attention, found.ffn, strict=True) for half in layer] == pytest.approx(
        halves["block"], abs=1e-5
    )
    with torch.no_grad():
        states = model(pixel_values=torch.from_numpy(encoded.pixels), output_hidden_states=True).hidden_states
    cosine = functional.cosine_similarity(states[0], states[1], dim=-1)
    assert found.all_tokens[0] == pytest.approx(float(cosine.mean()), abs=1e-5)


@pytest.mark.parametrize(("name", "kind"), [("gpt2", "causal-lm"), ("gpt2", "span"), ("bert", "token-classification")])
def test_other_heads_change_nothing(name: str, kind: KindName, encoded: Encoded) -> None:
    """The states are those of the layers, whatever is made of them."""
    model = {**TINY, **DECODERS}[name].model(auto_class(kind))
    found = similarity(model, encoded)
    labels = np.ones(len(encoded.input_ids), dtype=np.int64)
    halves = influence(model, kind, replace(encoded, labels=labels), len(encoded), 4, seed=0)
    assert [half for layer in zip(found.attention, found.ffn, strict=True) for half in layer] == pytest.approx(
        halves["block"], abs=1e-5
    )

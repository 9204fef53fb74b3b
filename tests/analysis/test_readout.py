"""The read-out of every layer: against the model's own hidden states and head, before and after an edit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedModel

from layersearch.analysis.readout import read_out
from layersearch.errors import DataError, ModelError
from layersearch.models.language import LanguageModel, load_language_model
from layersearch.models.surgery import build
from layersearch.pattern import Pattern
from layersearch.tasks.task import Encoded
from layersearch.training.batches import collate
from tests.models.conftest import LAYERS, from_config, minilm, randomised, tiny_config
from tests.models.tiny_decoders import DECODERS

__all__ = ["minilm"]

SPECIAL = (3, 4)


@pytest.fixture
def encoded() -> Encoded:
    """Twenty examples of three to eight tokens; some of them are special."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 9, size=20)
    offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int64)
    ids = rng.integers(3, 20, size=lengths.sum()).astype(np.int32)
    return Encoded(ids, None, offsets, np.zeros(20, dtype=np.int64))


def bert() -> LanguageModel:
    return varied(randomised(from_config(AutoModelForMaskedLM, tiny_config("bert"))), foretells=False)


def gpt2() -> LanguageModel:
    return varied(DECODERS["gpt2"].model(AutoModelForCausalLM), foretells=True)


@torch.no_grad()
def varied(model: PreTrainedModel, *, foretells: bool) -> LanguageModel:
    """With large embeddings, to which the head is tied, what it says does not hang on its bias alone."""
    embeddings: Any = model.get_input_embeddings()
    embeddings.weight.mul_(8)
    return LanguageModel(model, foretells)


@torch.no_grad()
def by_hand(
    model: PreTrainedModel, head: Callable[[torch.Tensor], torch.Tensor], encoded: Encoded, *, foretells: bool
) -> tuple[list[float], list[float]]:
    """Shares of tokens said right, and said as at the end, of each place; one example after the other."""
    hits, tokens = np.zeros((2, LAYERS + 1)), 0
    for example in range(len(encoded)):
        inputs = collate(encoded, np.array([example]), model.device, 0)
        answer = model(**inputs, output_hidden_states=True)
        ids = inputs["input_ids"][0]
        right = ids[1:] if foretells else ids
        counted = ~torch.isin(right, torch.tensor(SPECIAL))
        told = answer.logits[0].argmax(-1)[: len(right)]
        for place, state in enumerate(answer.hidden_states):
            logits = answer.logits if place == LAYERS else head(state)
            said = logits[0].argmax(-1)[: len(right)]
            hits[0, place] += int(((said == right) & counted).sum())
            hits[1, place] += int(((said == told) & counted).sum())
        tokens += int(counted.sum())
    right, same = (hits / tokens).tolist()
    return right, same


def test_bert_is_read_by_its_masked_head(encoded: Encoded) -> None:
    one = bert()
    (found,) = read_out(one, encoded, SPECIAL)
    right, same = by_hand(one.model, one.model.get_submodule("cls"), encoded, foretells=False)
    assert found.reconstruction == pytest.approx(right)
    assert found.agreement == pytest.approx(same)
    assert min(found.agreement) < found.agreement[-1] == 1.0
    assert found.tokens == int((~np.isin(encoded.input_ids, SPECIAL)).sum())
    for share, (low, high) in zip(found.reconstruction, found.reconstruction_intervals, strict=True):
        assert low <= share <= high


def test_gpt2_is_read_through_its_final_norm_and_tied_head(encoded: Encoded) -> None:
    one = gpt2()
    norm, head = one.model.get_submodule("transformer.ln_f"), one.model.get_submodule("lm_head")
    (found,) = read_out(one, encoded, SPECIAL)
    right, same = by_hand(one.model, lambda state: head(norm(state)), encoded, foretells=True)
    assert found.foretells
    assert min(found.agreement) < 1
    assert found.reconstruction == pytest.approx(right)
    assert found.agreement == pytest.approx(same)


def test_an_edited_model_is_held_against_the_unmodified_one(encoded: Encoded) -> None:
    one = bert()
    edited, same = (LanguageModel(build(one.model, Pattern.parse(p)), foretells=False) for p in ("0-1 3", "0-3"))
    shares: list[float] = []
    first, fewer, equal = read_out(one, encoded, SPECIAL, [edited, same], shares.append)
    assert len(fewer.reconstruction) == 4
    assert fewer.reconstruction[:3] == first.reconstruction[:3]  # nothing is changed below the dropped layer
    assert fewer.agreement[-1] < 1.0
    assert equal == first
    assert shares[-1] == 1.0


def test_no_head_and_no_tokens_are_one_line(tmp_path: Path, encoded: Encoded) -> None:
    body: Any = bert().model.base_model
    body.save_pretrained(tmp_path / "bare")
    with pytest.raises(ModelError, match=r"hold no head over the vocabulary \(cls\.predictions.* is missing\), so its"):
        load_language_model(tmp_path / "bare")
    with pytest.raises(DataError, match=r"^the texts hold no token that could be read out; take others"):
        read_out(bert(), encoded, range(60))
    with pytest.raises(ModelError, match="an encoder and a decoder; leave readout out of --what"):
        read_out(LanguageModel(DECODERS["t5"].model(), foretells=True), encoded)


def test_a_saved_head_is_found(tmp_path: Path, encoded: Encoded) -> None:
    for name, one in (("bert", bert()), ("gpt2", gpt2())):
        one.model.save_pretrained(tmp_path / name)
        loaded = load_language_model(tmp_path / name)
        assert loaded.foretells == one.foretells
        assert read_out(loaded, encoded) == read_out(one, encoded)


def test_minilm_has_no_head(minilm: Path) -> None:
    with pytest.raises(ModelError, match="hold no head over the vocabulary"):
        load_language_model(minilm)

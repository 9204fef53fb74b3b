"""Heads of other kinds than classes: what is refused, and what comes back from a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from layersearch.errors import ModelError
from layersearch.kinds import KindName
from layersearch.models import checkpoint
from layersearch.models.base import from_arrays, load_base, load_config, load_reader
from layersearch.models.costs import count_parts
from layersearch.pattern import Pattern
from layersearch.training.supernet import KEPT_BYTES, groups_of

from .conftest import from_config
from .tiny_decoders import DECODERS


@pytest.mark.parametrize(("kind", "width"), [("token-classification", 5), ("span", 2), ("multi-label", 3)])
def test_a_base_model_has_the_head_of_its_kind(kind: KindName, width: int, tiny_model: Path) -> None:
    base = load_base(tiny_model, num_labels=width, kind=kind)
    again = from_arrays(base.arrays())
    assert (type(again.model), again.kind) == (type(base.model), kind)
    assert count_parts(load_config(tiny_model, num_labels=width, kind=kind), kind) == count_parts(base.model)
    heads = [name for name in base.fresh if name.endswith("weight")]
    assert base.model.get_parameter(heads[-1]).shape[0] == width


def test_a_model_without_such_a_head_is_refused(tiny_model: Path) -> None:
    message = (
        r"a bert model has no head for image-classification tasks \(AutoModelForImageClassification\); "
        "choose another model or another task"
    )
    with pytest.raises(ModelError, match=message):
        load_config(tiny_model, num_labels=2, kind="image-classification")
    with pytest.raises(ModelError, match=r"the image processor in .* cannot be opened: "):
        load_reader(tiny_model, "image-classification")


@pytest.mark.parametrize("ends", [2, [2, 7]])
def test_a_decoder_without_padding_fills_with_its_last_token(ends: int | list[int], tmp_path: Path) -> None:
    AutoConfig.for_model("llama", eos_token_id=ends, pad_token_id=None).save_pretrained(tmp_path)
    assert load_config(tmp_path, num_labels=2, kind="classification").pad_token_id == 2
    assert load_config(tmp_path, num_labels=1, kind="causal-lm").pad_token_id is None


def test_an_encoder_has_no_perplexity(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match=r"the bert in .* reads both ways and is no decoder, .*; choose a decoder"):
        load_config(tiny_model, num_labels=1, kind="causal-lm")


def test_an_encoder_that_its_configuration_does_not_tell_has_none_either(tmp_path: Path) -> None:
    """XLNet's class for causal language models reads both ways all the same."""
    config = AutoConfig.for_model("xlnet", vocab_size=60, d_model=16, n_layer=2, n_head=2, d_inner=24)
    from_config(AutoModelForCausalLM, config, None).save_pretrained(tmp_path)
    load_config(tmp_path, num_labels=1, kind="causal-lm")
    with pytest.raises(ModelError, match=r"the xlnet in .* reads both ways and is no decoder, .*; choose a decoder"):
        load_base(tmp_path, num_labels=1, kind="causal-lm")


def test_a_language_model_without_its_head_is_refused(tmp_path: Path) -> None:
    """Its embeddings are not its head, so that would begin with random numbers."""
    model: Any = DECODERS["llama"].model(AutoModelForCausalLM)
    assert not model.config.tie_word_embeddings
    model.base_model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"the weights in .* lack lm_head\.weight, without which a language model tel"):
        load_base(tmp_path, num_labels=1, kind="causal-lm")


def test_tied_weights_are_written_once_and_tied_again(tiny_model: Path, tmp_path: Path) -> None:
    config = AutoConfig.from_pretrained(tiny_model, is_decoder=True)
    model = AutoModelForCausalLM.from_config(config).eval()  # type: ignore[no-untyped-call]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    checkpoint.save(model, Pattern.full(4), tmp_path / "it", source_layers=4, extras={}, kind="causal-lm")
    again, manifest = checkpoint.load(tmp_path / "it")
    assert manifest.parameters == parameters == sum(parameter.numel() for parameter in again.parameters())
    tied = again.get_parameter("cls.predictions.decoder.weight")
    assert tied is again.get_parameter("bert.embeddings.word_embeddings.weight")
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, again(input_ids=ids).logits)


def test_answers_that_wait_for_a_score_take_no_more_than_so_much() -> None:
    patterns = [Pattern.of_layers([i for i in range(4) if number >> i & 1]) for number in range(1, 16)]
    assert groups_of(patterns, 1000, 2) == [patterns]
    units = KEPT_BYTES // 4 // 2 // 5  # five patterns at a time
    groups = groups_of(patterns, units, 2)
    assert [len(group) for group in groups] == [5, 5, 5]
    assert sorted(str(pattern) for group in groups for pattern in group) == sorted(map(str, patterns))
    assert all(str(pattern).startswith("0") for pattern in groups[0])  # alike ones share their first layers

"""Counting parameters without building, against models that are built."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForMaskedLM, BertConfig, PreTrainedModel

from layersearch.errors import ModelError
from layersearch.models.costs import count_parts
from layersearch.pattern import PartCounts, Pattern

from .conftest import LAYERS, from_config, tiny_config


def test_a_configuration_counts_like_its_model(tiny: PreTrainedModel) -> None:
    counts = count_parts(tiny)
    assert count_parts(tiny.config) == counts
    assert counts.total == sum(parameter.numel() for parameter in tiny.parameters())
    assert counts.num_layers == len(counts.ffn) == LAYERS
    assert all(part > 0 for part in (counts.fixed, *counts.attention, *counts.ffn))


def test_outputs_of_the_head_count() -> None:
    fixed = [count_parts(tiny_config("bert", num_labels)).fixed for num_labels in (1, 2, 5)]
    assert (fixed[1] - fixed[0], fixed[2] - fixed[1]) == (16 + 1, 3 * (16 + 1))


def test_tied_weights_count_once() -> None:
    model = from_config(AutoModelForMaskedLM, tiny_config("bert"))
    assert count_parts(model).total == sum(parameter.numel() for parameter in model.parameters())


def test_bert_base_is_the_arithmetic_of_the_papers() -> None:
    """12 layers of 7,087,872: attention 2,363,904 and FFN 4,723,968, each with its layer norm."""
    counts = count_parts(AutoConfig.for_model("bert", num_labels=2))
    assert counts == PartCounts(109_482_240 - 12 * 7_087_872 + 2 * 769, (2_363_904,) * 12, (4_723_968,) * 12)
    assert Pattern.parse("0-7").parameters(counts) == 81_130_752 + 2 * 769


def test_counting_takes_no_memory_and_no_random_numbers() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    config = BertConfig(hidden_size=4096, num_attention_heads=64, intermediate_size=65536, num_hidden_layers=48)
    assert count_parts(config).total > 25_000_000_000  # 100 GB of weights
    assert torch.equal(torch.get_rng_state(), before)


def test_a_family_without_a_row_is_refused() -> None:
    with pytest.raises(ModelError, match="the model family 'mbart' has no row in the families table, and 2 lists of"):
        count_parts(AutoConfig.for_model("mbart"))
    with pytest.raises(ModelError, match="no AutoModelForSequenceClassification for the model family 'whisper'; choo"):
        count_parts(AutoConfig.for_model("whisper"))

"""Counting parameters without building, against models that are built."""

import resource

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertConfig,
    PreTrainedModel,
)

from layersearch.errors import ModelError
from layersearch.kinds import KindName
from layersearch.models.costs import count_all, count_macs, count_parts
from layersearch.models.surgery import auto_class, build
from layersearch.pattern import PartCounts, Pattern

from .conftest import LAYERS, from_config, tiny_config
from .tiny import TINY
from .tiny_decoders import DECODERS


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
    assert counts == PartCounts(
        109_482_240 - 12 * 7_087_872 + 2 * 769, (2_363_904,) * 12, (4_723_968,) * 12, mixed=(1, 1)
    )
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


@pytest.mark.parametrize("model_type", ["bert", "roberta", "electra", "distilbert"])
def test_macs_are_half_of_the_flops_that_torch_counts(model_type: str) -> None:
    """Of every kind of block, in a model that was built."""
    model = from_config(AutoModelForSequenceClassification, tiny_config(model_type, 3), "eager")  # it counts no SDPA
    parts = count_macs(model, length=7)
    for text in ("0-3", "1", "0 1a 2f", "0 0 2a"):
        candidate = build(model, Pattern.parse(text)).eval()  # type: ignore[no-untyped-call]
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            candidate(input_ids=torch.ones(1, 7, dtype=torch.long), attention_mask=torch.ones(1, 7, dtype=torch.long))
        assert Pattern.parse(text).parameters(parts) * 2 == counter.get_total_flops(), text


@pytest.mark.parametrize("name", ["albert", "mpnet", "gpt2", "opt", "llama", "phi3", "bart", "t5"])
def test_macs_of_other_families_are_what_torch_counts_too(name: str) -> None:
    config = {**TINY, **DECODERS}[name].config()
    model = from_config(AutoModelForSequenceClassification, config, "eager").eval()  # type: ignore[no-untyped-call]
    tokens = torch.full((1, 7), 5)
    tokens[:, -1] = config.eos_token_id if config.is_encoder_decoder else 5
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=tokens)
    assert 2 * count_macs(model, length=7).total == counter.get_total_flops()


@pytest.mark.parametrize("kind", ["token-classification", "span"])
@pytest.mark.parametrize("name", ["bert", "distilbert", "gpt2", "t5"])
def test_macs_of_heads_that_answer_for_every_token(name: str, kind: KindName) -> None:
    config = {**TINY, **DECODERS}[name].config()
    config.num_labels = 2
    model = from_config(auto_class(kind), config, "eager").eval()  # type: ignore[no-untyped-call]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=torch.full((1, 7), 5))
    assert 2 * count_macs(model, 7, kind).total == counter.get_total_flops()
    assert count_all(config, 7, kind)["macs"] == count_macs(model, 7, kind)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_macs_of_language_models(name: str) -> None:
    config = DECODERS[name].config()
    model = from_config(AutoModelForCausalLM, config, "eager").eval()  # type: ignore[no-untyped-call]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=torch.full((1, 7), 5))
    assert 2 * count_macs(model, 7, "causal-lm").total == counter.get_total_flops()
    found = count_all(config, 7, "causal-lm")
    assert found["macs"] == count_macs(model, 7, "causal-lm")
    assert found["parameters"].total == sum(parameter.numel() for parameter in model.parameters())


def test_macs_grow_with_the_length_and_attention_with_its_square() -> None:
    short, long = (count_all(tiny_config("bert"), length)["macs"] for length in (8, 16))
    assert long.ffn[0] == 2 * short.ffn[0]
    assert long.attention[0] - 2 * short.attention[0] == 2 * (16**2 - 2 * 8**2) * 16


def test_embeddings_are_no_part_of_the_non_embedding_parameters() -> None:
    found = count_all(AutoConfig.for_model("bert", num_labels=2), 128)
    embeddings = (30522 + 512 + 2) * 768
    assert found["parameters"].total - found["non-embedding"].total == embeddings
    assert found["non-embedding"].ffn == found["parameters"].ffn


def test_a_llama_of_70_billion_parameters_is_counted_without_its_memory() -> None:
    config = AutoConfig.for_model(
        "llama",
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
        vocab_size=128256,
        pad_token_id=0,
        num_labels=2,
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = count_all(config, 128)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KiB
    a_layer = 2 * 8192**2 + 2 * 8192 * 1024 + 3 * 8192 * 28672 + 2 * 8192
    assert found["parameters"].total == 128256 * 8192 + 80 * a_layer + 3 * 8192
    assert found["non-embedding"].total == found["parameters"].total - 128256 * 8192
    assert found["macs"].ffn[0] == 128 * 3 * 8192 * 28672

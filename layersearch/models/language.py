"""A model with the head over its vocabulary that it was pre-trained with.

Knows: the two kinds of language heads (masked and causal), and how to tell that the folder has none. Does not know:
tasks, patterns, what is read out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForMaskedLM, PreTrainedModel

from layersearch.errors import ModelError
from layersearch.models.base import BROKEN, load_base, not_opened, quiet, read_config, require_weights


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A model that answers with logits over its vocabulary, fp32, in evaluation mode.

    `foretells`: at each token it answers which comes next, as decoders do; else which one stands there.
    """

    model: PreTrainedModel
    foretells: bool


def load_language_model(folder: Path) -> LanguageModel:
    """Open the model in `folder` with its own language head; safetensors only, no code from the folder.

    Raises ModelError where the weights hold no such head, or the model cannot be opened.
    """
    config = read_config(folder)
    if type(config) not in AutoModelForMaskedLM._model_mapping:
        return LanguageModel(load_base(folder, num_labels=1, kind="causal-lm").model, foretells=True)
    require_weights(folder)
    try:
        with quiet(), torch.random.fork_rng(devices=[]):
            model, info = AutoModelForMaskedLM.from_pretrained(
                folder,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
    except BROKEN as error:
        raise not_opened(folder, error) from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"the weights in {folder} hold no head over the vocabulary ({missing[0]} is missing), so its layers cannot "
            "be read out; take a checkpoint that has one, such as bert-base-uncased, or leave readout out of --what"
        )
    return LanguageModel(model.eval(), foretells=False)

"""The weights of a model by name, those that go by several names once.

Knows: which names stand for one parameter, such as tied embeddings. Does not know: files, families, surgery.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from transformers import PreTrainedModel


def weights_of(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """All tensors of the state dict, detached, on their device; a tied one under the first of its names only."""
    again = _other_names(model)
    return {name: tensor for name, tensor in model.state_dict().items() if name not in again}


def set_weights(model: PreTrainedModel, weights: Mapping[str, torch.Tensor]) -> None:
    """Let `model` have the tensors of `weights_of` a model of its making, without a copy; its ties are kept.

    Raises RuntimeError where names or shapes differ.
    """
    again = _other_names(model)
    tied = {name: weights[first] for name, first in again.items() if first in weights}
    model.load_state_dict({**weights, **tied}, strict=True, assign=True)
    for name, first in again.items():
        path, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(path), leaf, model.get_parameter(first))


def _other_names(model: PreTrainedModel) -> dict[str, str]:
    """Of each parameter with several names, every name but the first, and that first one."""
    first: dict[int, str] = {}
    found = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if first.setdefault(id(parameter), name) != name:
            found[name] = first[id(parameter)]
    return found

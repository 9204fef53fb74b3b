"""What depends on the place of a layer: its number, its entry in a configuration, how it looks.

Knows: how to read such things off a model and write them, by the rows of the families table. Does not know: patterns
as a whole, how a candidate is put together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from layersearch.models.families import PER_LAYER, Stack
from layersearch.pattern import Block

Stacks = tuple[tuple[nn.ModuleList, Stack], ...]
"""The lists of layers of a model, each with its row: one, or the encoder's and the decoder's."""


def configs_of(model: PreTrainedModel) -> dict[int, PreTrainedConfig]:
    """The distinct configurations that the parts of a model hold, by id: the model's own, and a stack's own in T5."""
    found = (getattr(module, "config", None) for module in model.modules())
    return {id(config): config for config in found if isinstance(config, PreTrainedConfig)}


def settings_of(model: PreTrainedModel, stacks: Stacks, parts: Sequence[Sequence[Block]]) -> list[tuple[int, str, Any]]:
    """What to write for stacks of the blocks `parts`: the id of a configuration, the key, the value.

    Lists with one entry a layer are read off `model`, which has them for its own layers.
    """
    written: list[tuple[int, str, Any]] = []
    for key, config in configs_of(model).items():
        lists = {name: getattr(config, name, None) for name in PER_LAYER}
        for name, values in lists.items() if len(stacks) == 1 else ():
            if isinstance(values, list | tuple) and len(values) == len(stacks[0][0]):
                written.append((key, name, [values[block.layer] for block in parts[0]]))
        written += [(key, row.depth_key, len(blocks)) for (_, row), blocks in zip(stacks, parts, strict=True)]
    for (_, row), blocks in zip(stacks, parts, strict=True):
        own = id(getattr(owner_of(model, row), "config", model.config))
        if own != id(model.config):
            written.append((own, "num_hidden_layers", len(blocks)))
    return written


def owner_of(model: PreTrainedModel, row: Stack) -> nn.Module:
    """The module that holds the list of layers."""
    return model.base_model.get_submodule(row.path.rpartition(".")[0])


def renumber(root: nn.Module, key: str, number: int) -> None:
    for module in root.modules():
        if vars(module).get(key) is not None:
            setattr(module, key, number)


def looks_of(module: nn.Module | None) -> tuple[object, ...]:
    """The class, the plain attributes and the shapes of a module's own parameters."""
    if module is None:
        return ()
    plain = {
        key: value
        for key, value in vars(module).items()
        if not key.startswith("_") and key != "training" and isinstance(value, bool | int | float | str | None)
    }
    return type(module), plain, {name: value.shape for name, value in module.named_parameters(recurse=False)}

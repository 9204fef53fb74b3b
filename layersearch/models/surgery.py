"""Surgery: a pattern and a base model become a candidate with its own weights.

Knows: how to copy what a pattern keeps, put a stand-in where a half is dropped, and keep the configuration and layer
numbers right, all by the row of the families table. Does not know: training, tasks, files, or any family by name.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
import transformers
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from layersearch.errors import ModelError
from layersearch.kinds import KINDS, KindName
from layersearch.models.families import Family, Half, StandIn, family_of
from layersearch.pattern import Block, Pattern

_ANSWERS: dict[StandIn, Callable[[torch.Tensor], Any]] = {
    "input": lambda hidden: hidden,
    "input, None": lambda hidden: (hidden, None),
    "zeros": torch.zeros_like,
    "zeros, None": lambda hidden: (torch.zeros_like(hidden), None),
}


class Dropped(nn.Module):
    """Stands in for a sub-module of a dropped half, without parameters; returns what `StandIn` says."""

    def __init__(self, answer: StandIn) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, hidden_states: torch.Tensor, *_: object, **__: object) -> Any:
        return _ANSWERS[self.answer](hidden_states)

    def extra_repr(self) -> str:
        return self.answer


def build(base: PreTrainedModel, pattern: Pattern) -> PreTrainedModel:
    """The candidate of `pattern`: a new model of the base model's class, with its own weights, on the same device.

    Only what is kept is copied; no tensor of the base model is written to or shared, so it may live on read-only
    memory. The candidate's configuration holds its number of blocks. A dropped half is the identity on its input: with
    layer norms after the residual, as in BERT, its layer norm goes with it. Raises PatternError, ModelError.
    """
    family = family_of(base.config)
    layers = layers_of(base)
    pattern.check(len(layers))
    config = copy.deepcopy(base.config)
    setattr(config, family.depth_key, pattern.depth)
    empty = nn.ModuleList().train(layers.training)
    candidate = copy.deepcopy(base, {id(base.config): config, id(layers): empty})
    empty.extend(_copy_block(layers[block.layer], block, family, {id(base.config): config}) for block in pattern.blocks)
    for index, layer in enumerate(empty):
        _renumber(layer, "layer_idx", index)  # attention modules know their place, for the cache
    _renumber(candidate, family.depth_key, pattern.depth)
    return candidate


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    """The model's list of layers, each made of two halves. Raises ModelError where the table does not describe it."""
    family = family_of(model.config)
    layers = model.base_model.get_submodule(family.stack)
    depth = getattr(model.config, family.depth_key)
    if not isinstance(layers, nn.ModuleList) or len(layers) != depth or depth == 0:
        raise ModelError(
            f"{type(model).__name__} does not keep {family.depth_key} = {depth} layers in `{family.stack}`, as the row "
            f"{family.model_type!r} of the families table says; check the model's config.json"
        )
    for layer in layers:
        _check_halves(layer, family)
    return layers


def half_of(parameter: str, family: Family) -> str | None:
    """Which half, `attention` or `ffn`, a parameter named relative to its layer belongs to; None for neither."""
    for half, parts in (("attention", family.attention), ("ffn", family.ffn)):
        if any(parameter.startswith(f"{path}.") for path, _ in parts):
            return half
    return None


def drop_halves(candidate: PreTrainedModel, pattern: Pattern) -> None:
    """Put stand-ins into a model with one whole layer a block, in place, where `pattern` drops a half."""
    family = family_of(candidate.config)
    for layer, block in zip(layers_of(candidate), pattern.blocks, strict=True):
        for path, answer in dropped_parts(block, family):
            layer.set_submodule(path, Dropped(answer).train(layer.training))


def auto_class(kind: KindName) -> Any:
    """The `AutoModel...` class that has the head of `kind`."""
    return getattr(transformers, KINDS[kind].head)


def skeleton(model_class: Any, config: PreTrainedConfig) -> PreTrainedModel:
    """A model in evaluation mode whose parameters take no memory (meta device) and whose buffers are right.

    `model_class` has `from_config`: an `AutoModel...` class. Only parameters go to the meta device, because buffers
    that are not saved, such as position numbers, have no other source than the constructor. Attention is SDPA, fp32.
    """
    with _parameters_on_meta():
        model = model_class.from_config(copy.deepcopy(config), attn_implementation="sdpa", dtype=torch.float32)
    return cast(PreTrainedModel, model.eval())


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    def to_meta(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        if parameter is None or parameter.is_meta:
            return parameter
        return nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)

    # torch documents that the hook may return a replacement and annotates that it returns None.
    handle = nn.modules.module.register_module_parameter_registration_hook(to_meta)  # type: ignore[arg-type]
    try:
        yield
    finally:
        handle.remove()


def dropped_parts(block: Block, family: Family) -> Half:
    """The sub-modules of a layer that go with the half that `block` drops, each with its stand-in."""
    if block.halves == "both":
        return ()
    return family.ffn if block.halves == "attention" else family.attention


def _copy_block(layer: nn.Module, block: Block, family: Family, memo: dict[int, Any]) -> nn.Module:
    """A deep copy of the kept parts: what is in `memo` (by id, as copy.deepcopy does it) is replaced, not copied."""
    replaced = {
        id(layer.get_submodule(path)): Dropped(answer).train(layer.training)
        for path, answer in dropped_parts(block, family)
    }
    return copy.deepcopy(layer, memo | replaced)


def _renumber(root: nn.Module, key: str, number: int) -> None:
    for module in root.modules():
        if vars(module).get(key) is not None:
            setattr(module, key, number)


def _check_halves(layer: nn.Module, family: Family) -> None:
    for name, _ in layer.named_parameters():
        if half_of(name, family) is None:
            raise ModelError(
                f"layers of this {family.model_type} model hold `{name}`, which is in neither half of the families "
                "table; decoders with cross-attention are not supported: choose an encoder"
            )

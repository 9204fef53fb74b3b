"""Surgery: a pattern and a base model become a candidate with its own weights.

Knows: how to copy what a pattern keeps, put a stand-in where a half is dropped, and keep the configuration and layer
numbers right, all by the row of the families table. Does not know: training, tasks, files, or any family by name.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from layersearch.errors import ModelError
from layersearch.models.families import Half, Stack, StandIn, family_of
from layersearch.pattern import Block, Pattern

_ANSWERS: dict[StandIn, Callable[[torch.Tensor, torch.Tensor | None], Any]] = {
    "input": lambda hidden, _: hidden,
    "input, None": lambda hidden, _: (hidden, None),
    "zeros": lambda hidden, _: torch.zeros_like(hidden),
    "zeros, None": lambda hidden, _: (torch.zeros_like(hidden), None),
    "zeros, bias, None": lambda hidden, bias: (torch.zeros_like(hidden), bias, None),
}

Stacks = tuple[tuple[nn.ModuleList, Stack], ...]
"""The lists of layers of a model, each with its row: one, or the encoder's and the decoder's."""


class Dropped(nn.Module):
    """Stands in for `part`, a sub-module of a dropped half, without parameters; returns what `StandIn` says.

    A decoder asks its cache how many tokens it has seen, and any layer may be the one that is asked: so a dropped
    attention half still counts them there, by one number a token.
    """

    def __init__(self, answer: StandIn, part: nn.Module) -> None:
        super().__init__()
        self.answer = answer
        if hasattr(part, "layer_idx"):
            self.layer_idx = part.layer_idx
        self.train(part.training)

    def forward(
        self,
        hidden_states: torch.Tensor,
        *_: object,
        position_bias: torch.Tensor | None = None,
        past_key_values: Any = None,
        key_value_states: torch.Tensor | None = None,
        **__: object,
    ) -> Any:
        if past_key_values is not None and key_value_states is None:
            seen = hidden_states.new_zeros(hidden_states.shape[0], 1, hidden_states.shape[1], 1)
            getattr(past_key_values, "self_attention_cache", past_key_values).update(seen, seen, self.layer_idx)
        return _ANSWERS[self.answer](hidden_states, position_bias)

    def extra_repr(self) -> str:
        return self.answer


def build(base: PreTrainedModel, pattern: Pattern) -> PreTrainedModel:
    """The candidate of `pattern`: a new model of the base model's class, with its own weights, on the same device.

    Only what is kept is copied; no tensor of the base model is written to or shared, so it may live on read-only
    memory. The candidate's configuration holds its number of blocks. A dropped half is the identity on its input: its
    layer norm goes with it, whether it stands before or after. Raises PatternError, ModelError.
    """
    stacks, source = stacks_of(base), layers_of(base)
    parts = pattern.split([len(layers) for layers, _ in stacks])
    configs = _new_configs(base, stacks, [len(blocks) for blocks in parts])
    empty = {id(layers): nn.ModuleList().train(layers.training) for layers, _ in stacks}
    candidate = copy.deepcopy(base, configs | empty)
    for (layers, row), blocks in zip(stacks, parts, strict=True):
        own = empty[id(layers)]
        own.extend(_copy_block(source[block.layer], block, row, configs) for block in blocks)
        for index, layer in enumerate(own):
            _renumber(layer, "layer_idx", index)  # attention modules know their place, for the cache
        _renumber(_owner(candidate, row), row.depth_key, len(own))
        _give_lead(own, row, copy.deepcopy(_lead_of(layers[0], row)))
    return candidate


def stacks_of(model: PreTrainedModel) -> Stacks:
    """The model's lists of layers, each layer made of two halves: those of its family's that a model of its class has.

    Raises ModelError where the table does not describe them.
    """
    family = family_of(model.config)
    for key in family.refused:
        if getattr(model.config, key):
            raise ModelError(
                f"config.json says {key} = true, so a {family.model_type} layer is another one in another place; "
                "choose a model without it"
            )
    paths = {name for name, _ in model.base_model.named_modules()}
    rows = [row for row in family.stacks if row.path in paths] or family.stacks[:1]
    found = []
    for row in rows:
        layers = model.base_model.get_submodule(row.path) if row.path in paths else None
        depth = getattr(model.config, row.depth_key)
        if not isinstance(layers, nn.ModuleList) or len(layers) != depth or depth == 0:
            raise ModelError(
                f"{type(model).__name__} does not keep {row.depth_key} = {depth} layers in `{row.path}`, as the row "
                f"{family.model_type!r} of the families table says; check the model's config.json"
            )
        for layer in layers:
            _check_halves(layer, row, family.model_type)
        found.append((layers, row))
    return tuple(found)


def layers_of(model: PreTrainedModel) -> tuple[nn.Module, ...]:
    """The model's layers as a pattern numbers them, those of an encoder before those of a decoder."""
    return tuple(layer for layers, _ in stacks_of(model) for layer in layers)


def rows_of(model: PreTrainedModel) -> tuple[Stack, ...]:
    """The row of the stack that each of `layers_of` is in."""
    return tuple(row for layers, row in stacks_of(model) for _ in layers)


def half_of(parameter: str, row: Stack) -> str | None:
    """Which half, `attention` or `ffn`, a parameter named relative to its layer belongs to; None for neither."""
    if row.lead is not None and parameter.startswith(f"{row.lead.part}.{row.lead.name}."):
        return None
    for half, parts in (("attention", row.attention), ("ffn", row.ffn)):
        if any(parameter.startswith(f"{path}.") for path, _ in parts):
            return half
    return None


def drop_halves(candidate: PreTrainedModel, pattern: Pattern) -> None:
    """Put stand-ins into a model with one whole layer a block, in place, where `pattern` drops a half."""
    stacks = stacks_of(candidate)
    leads = [_lead_of(layers[0], row) for layers, row in stacks]
    for layer, row, block in zip(layers_of(candidate), rows_of(candidate), pattern.blocks, strict=True):
        for path, answer in dropped_parts(block, row):
            layer.set_submodule(path, Dropped(answer, layer.get_submodule(path)))
    for (layers, row), lead in zip(stacks, leads, strict=True):
        _give_lead(layers, row, lead)


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


def dropped_parts(block: Block, row: Stack) -> Half:
    """The sub-modules of a layer that go with the half that `block` drops, each with its stand-in."""
    if block.halves == "both":
        return ()
    return row.ffn if block.halves == "attention" else row.attention


def configs_of(model: PreTrainedModel) -> dict[int, PreTrainedConfig]:
    """The distinct configurations that the parts of a model hold, by id: the model's own, and a stack's own in T5."""
    found = (getattr(module, "config", None) for module in model.modules())
    return {id(config): config for config in found if isinstance(config, PreTrainedConfig)}


def depth_keys(model: PreTrainedModel, stacks: Stacks, depths: Sequence[int]) -> list[tuple[int, str, int]]:
    """What to write for stacks of `depths` layers: the id of a configuration, the key, the number."""
    written = [(key, row.depth_key, n) for key in configs_of(model) for (_, row), n in zip(stacks, depths, strict=True)]
    for (_, row), depth in zip(stacks, depths, strict=True):
        own = id(getattr(_owner(model, row), "config", model.config))
        if own != id(model.config):
            written.append((own, "num_hidden_layers", depth))
    return written


def _new_configs(base: PreTrainedModel, stacks: Stacks, depths: Sequence[int]) -> dict[int, Any]:
    """Copies of the configurations for the candidate, by the id of the old ones, as copy.deepcopy wants them."""
    new = {key: copy.deepcopy(config) for key, config in configs_of(base).items()}
    for key, name, depth in depth_keys(base, stacks, depths):
        setattr(new[key], name, depth)
    return new


def _owner(model: PreTrainedModel, row: Stack) -> nn.Module:
    """The module that holds the list of layers."""
    return model.base_model.get_submodule(row.path.rpartition(".")[0])


def _copy_block(layer: nn.Module, block: Block, row: Stack, memo: dict[int, Any]) -> nn.Module:
    """A deep copy of the kept parts: what is in `memo` (by id, as copy.deepcopy does it) is replaced, not copied."""
    parts = ((layer.get_submodule(path), answer) for path, answer in dropped_parts(block, row))
    return copy.deepcopy(layer, memo | {id(part): Dropped(answer, part) for part, answer in parts})


def _lead_of(layer: nn.Module, row: Stack) -> nn.Module | None:
    """What a whole first layer holds for its stack."""
    return None if row.lead is None else layer.get_submodule(f"{row.lead.part}.{row.lead.name}")


def _give_lead(layers: nn.ModuleList, row: Stack, lead: nn.Module | None) -> None:
    """Let the first layer with an attention half hold `lead`, in place; the first of all where none has one."""
    if row.lead is None:
        return
    parts = [layer.get_submodule(row.lead.part) for layer in layers]
    leading = next((part for part in parts if not isinstance(part, Dropped)), parts[0])
    for part in parts:
        part._modules.pop(row.lead.name, None)
        setattr(part, row.lead.flag, part is leading)
    leading.add_module(row.lead.name, lead)


def _renumber(root: nn.Module, key: str, number: int) -> None:
    for module in root.modules():
        if vars(module).get(key) is not None:
            setattr(module, key, number)


def _check_halves(layer: nn.Module, row: Stack, model_type: str) -> None:
    for name, _ in layer.named_parameters():
        lead = row.lead is not None and name.startswith(f"{row.lead.part}.{row.lead.name}.")
        if half_of(name, row) is None and not lead:
            raise ModelError(
                f"layers of this {model_type} model hold `{name}`, which is in neither half of the families table; "
                "decoders with cross-attention are not supported: choose an encoder"
            )

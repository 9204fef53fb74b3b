"""Layers that keep a part of themselves: stand-ins for what is dropped, and what moves when a first layer goes.

Knows: modules, and where a layer keeps its parts, as plain values. Does not know: the rest of layersearch. Its code,
from below this text on, is in every exported folder whose pattern needs code (`page.py`), so it imports torch alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

ANSWERS: Mapping[str, Callable[[torch.Tensor, Any, torch.Tensor | None], Any]] = {
    "input": lambda hidden, *_: hidden,
    "input, None": lambda hidden, *_: (hidden, None),
    "two inputs": lambda hidden, second, _: (hidden, second),
    "zeros": lambda hidden, *_: torch.zeros_like(hidden),
    "zeros, None": lambda hidden, *_: (torch.zeros_like(hidden), None),
    "zeros, bias, None": lambda hidden, _, bias: (torch.zeros_like(hidden), bias, None),
}


class Dropped(nn.Module):
    """Stands in for `part`, a sub-module of a dropped half, without parameters; returns what `ANSWERS` says.

    A decoder asks its cache how many tokens it has seen, and any layer may be the one that is asked: so a dropped
    attention half still counts them there, by one number a token.
    """

    def __init__(self, answer: str, part: nn.Module) -> None:
        super().__init__()
        self.answer = answer
        if hasattr(part, "layer_idx"):
            self.layer_idx = part.layer_idx
        self.train(part.training)

    def forward(
        self,
        hidden_states: torch.Tensor,
        second: Any = None,
        *_: object,
        position_bias: torch.Tensor | None = None,
        past_key_values: Any = None,
        key_value_states: torch.Tensor | None = None,
        **__: object,
    ) -> Any:
        if past_key_values is not None and key_value_states is None:
            seen = hidden_states.new_zeros(hidden_states.shape[0], 1, hidden_states.shape[1], 1)
            getattr(past_key_values, "self_attention_cache", past_key_values).update(seen, seen, self.layer_idx)
        return ANSWERS[self.answer](hidden_states, second, position_bias)

    def extra_repr(self) -> str:
        return self.answer


@contextmanager
def as_family(config: Any, family: type) -> Iterator[None]:
    """Let `config` be of the class `family` for a while: by it transformers picks the body of some heads."""
    own, config.__class__ = config.__class__, family
    try:
        yield
    finally:
        config.__class__ = own


def take_apart(
    body: nn.Module, stacks: Iterable[Mapping[str, Any]], parts: Sequence[str], sources: Sequence[int]
) -> None:
    """Leave of each layer of a model without its head the part that `parts` says, in place; see `keep_parts`.

    Each of `stacks` has the `path` of a list of layers; `parts` and `sources` go through all lists in turn.
    """
    start = 0
    for stack in stacks:
        layers: Any = body.get_submodule(stack["path"])
        end = start + len(layers)
        keep_parts(layers, stack, parts[start:end], sources[start:end])
        start = end


def keep_parts(
    layers: Iterable[nn.Module], stack: Mapping[str, Any], parts: Sequence[str], sources: Sequence[int]
) -> None:
    """Leave of each of `layers` its part, `both`, `attention` or `ffn`, in place; `sources` number them in the source.

    `stack` says where a layer keeps its halves `attention` and `ffn` (paths, each with what `Dropped` answers there),
    and perhaps what one layer holds for all (`lead`) and what the source's layer 0 is built without (`first_lacks`).
    """
    layers = list(layers)
    lead = lead_of(layers, stack.get("lead"))
    move_first_norm(layers, stack.get("first_lacks"), sources)
    for layer, part in zip(layers, parts, strict=True):
        dropped = {"both": {}, "attention": stack["ffn"], "ffn": stack["attention"]}[part]
        for path, answer in dropped.items():
            layer.set_submodule(path, Dropped(answer, layer.get_submodule(path)))
    give_lead(layers, stack.get("lead"), lead)


def lead_of(layers: Iterable[nn.Module], where: tuple[str, str, str] | None) -> nn.Module | None:
    """What one layer holds for its stack, in its sub-module `where[0]` under the name `where[1]`."""
    if where is None:
        return None
    held = (dict(layer.get_submodule(where[0]).named_children()) for layer in layers)
    return next(children[where[1]] for children in held if where[1] in children)


def give_lead(layers: Iterable[nn.Module], where: tuple[str, str, str] | None, lead: nn.Module | None) -> None:
    """Let the first layer with an attention half hold `lead`, in place; the first of all where none has one.

    `where[2]` is the attribute of the sub-module `where[0]` that says whether it does.
    """
    if where is None:
        return
    parts = [layer.get_submodule(where[0]) for layer in layers]
    leading = next((part for part in parts if not isinstance(part, Dropped)), parts[0])
    for part in parts:
        part._modules.pop(where[1], None)
        setattr(part, where[2], part is leading)
    leading.add_module(where[1], lead)


def move_first_norm(layers: Iterable[nn.Module], norms: tuple[str, str] | None, sources: Sequence[int]) -> None:
    """Let the source's layer 0, and no other, do without the norm `norms[0]`, in place; `norms[1]` is made alike."""
    if norms is None:
        return
    for place, (layer, source) in enumerate(zip(layers, sources, strict=True)):
        if place > 0 and source == 0:
            layer.set_submodule(norms[0], nn.Identity())
        elif place == 0 and source > 0:
            layer.set_submodule(norms[0], copy.deepcopy(layer.get_submodule(norms[1])))

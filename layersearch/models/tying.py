"""Tied copies: blocks of a candidate that share the weights of the block they repeat.

Knows: a candidate's layers, and which parameters of them are one. Does not know: families, files, training.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from layersearch.pattern import Pattern


def tie_copies(layers: Iterable[nn.Module], pattern: Pattern) -> None:
    """Let the tied copies among `layers`, one a block of `pattern`, share the parameters of their owners, in place.

    Only parameters are shared: each copy keeps its own place in the stack, which caches go by. What only the first
    layer of a stack has, such as T5's position bias, stays there.
    """
    for copy, owner in _pairs(layers, pattern):
        there = {name for name, _ in copy.named_parameters()}
        for name, parameter in list(owner.named_parameters()):
            if name in there:
                _put(copy, name, parameter)


def untie(layers: Iterable[nn.Module], pattern: Pattern) -> None:
    """The opposite of `tie_copies`: every copy gets weights of its own with the values that it shared."""
    for copy, _ in _pairs(layers, pattern):
        for name, parameter in list(copy.named_parameters()):
            _put(copy, name, nn.Parameter(parameter.detach().clone(), requires_grad=parameter.requires_grad))


def _pairs(layers: Iterable[nn.Module], pattern: Pattern) -> list[tuple[nn.Module, nn.Module]]:
    """The tied copies, each with its owner."""
    placed = list(layers)
    return [(placed[copy], placed[owner]) for copy, owner in pattern.owners().items()]


def _put(layer: nn.Module, name: str, parameter: nn.Parameter) -> None:
    path, _, last = name.rpartition(".")
    setattr(layer.get_submodule(path), last, parameter)

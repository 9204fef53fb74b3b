"""A super-network: one model whose layers serve every pattern of a space, without a copy.

Knows: how to let a model run as a pattern over its own weights, and how to run many patterns at once so that layers
they begin with in common are run once. Does not know: training, tasks, scores. By the families table alone, so every
family has it (weight sharing as in Klein et al., arXiv 2405.02267; PAPERS.md 5.2).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from layersearch.models.families import family_of
from layersearch.models.surgery import Dropped, dropped_parts, layers_of
from layersearch.pattern import Block, Pattern

Inputs = Mapping[str, torch.Tensor]


class SuperNetwork:
    """`model` and its layers; `running(pattern)` lets the model run as the pattern, sharing all weights.

    A layer that a pattern repeats is the same layer twice here; a candidate that `surgery.build` makes of `model` has
    copies of its own.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self._family = family_of(model.config)
        self._layers = tuple(layers_of(model))
        self._views: dict[Block, nn.Module] = {}

    @contextmanager
    def running(self, pattern: Pattern) -> Iterator[PreTrainedModel]:
        """The model as `pattern`, until the context ends."""
        pattern.check(len(self._layers))
        with self._stacked([self._view(block) for block in pattern.blocks]) as model:
            yield model

    def outputs(self, patterns: Iterable[Pattern], inputs: Inputs) -> Iterator[tuple[Pattern, Any]]:
        """What the model gives as every pattern on one batch (its logits and all else), in depth-first order.

        Patterns with the same first blocks share their computation: all subsets of n layers cost one block each
        instead of half of n. Call it in evaluation mode and without gradients.
        """
        first = self._first_call(inputs)
        yield from self._below(_trie(patterns), first, inputs)

    def _below(self, node: _Node, call: _Call, inputs: Inputs) -> Iterator[tuple[Pattern, Any]]:
        for block, child in node.children.items():
            answer = self._view(block)(call.hidden, *call.args, **call.kwargs)
            hidden = answer[0] if isinstance(answer, tuple) else answer
            if child.pattern is not None:
                with self._stacked([_Answers(answer)]) as model:
                    yield child.pattern, model(**inputs)
            yield from self._below(child, _Call(hidden, call.args, call.kwargs), inputs)

    def _first_call(self, inputs: Inputs) -> _Call:
        """What the model hands to its first layer; masks and the like are the same for every layer of an encoder."""
        listener = _Listens()
        with self._stacked([listener]) as model:
            try:
                model(**inputs)
            except _Heard as heard:
                return heard.call
        raise AssertionError("the model ran without calling its first layer")

    def _view(self, block: Block) -> nn.Module:
        """The layer of `block` with stand-ins where a half is dropped: new shells around the same parameters."""
        if block not in self._views:
            layer = self._layers[block.layer]
            for path, answer in dropped_parts(block, self._family):
                layer = _with_part(layer, path.split("."), Dropped(answer))
            self._views[block] = layer
        return self._views[block]

    @contextmanager
    def _stacked(self, layers: list[nn.Module]) -> Iterator[PreTrainedModel]:
        """The model with other layers in its stack, which get its mode, and with their number in its configuration."""
        body, key = self.model.base_model, self._family.depth_key
        whole, depth = body.get_submodule(self._family.stack), getattr(self.model.config, key)
        body.set_submodule(self._family.stack, nn.ModuleList(layers).train(self.model.training))
        setattr(self.model.config, key, len(layers))
        try:
            yield self.model
        finally:
            body.set_submodule(self._family.stack, whole)
            setattr(self.model.config, key, depth)


@dataclass(frozen=True)
class _Call:
    """A call of a layer: the hidden states and all else that it is handed."""

    hidden: torch.Tensor
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


class _Heard(Exception):  # noqa: N818 - not an error: it carries the call out of the model
    def __init__(self, call: _Call) -> None:
        super().__init__()
        self.call = call


class _Listens(nn.Module):
    """Ends the model's run with what its first layer would be called with."""

    def forward(self, hidden: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        raise _Heard(_Call(hidden, args, kwargs))


class _Answers(nn.Module):
    """Stands for layers that have run already."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self._answer: Callable[[], Any] = lambda: answer

    def forward(self, *_: Any, **__: Any) -> Any:
        return self._answer()


@dataclass
class _Node:
    """The patterns that begin alike."""

    children: dict[Block, _Node] = field(default_factory=dict)
    pattern: Pattern | None = None


def blocks_run(patterns: Iterable[Pattern]) -> list[Block]:
    """The blocks that `SuperNetwork.outputs` runs for a batch: one a distinct beginning."""
    waiting = [_trie(patterns)]
    found: list[Block] = []
    while waiting:
        node = waiting.pop()
        found += node.children
        waiting += node.children.values()
    return found


def _trie(patterns: Iterable[Pattern]) -> _Node:
    root = _Node()
    for pattern in patterns:
        node = root
        for block in pattern.blocks:
            node = node.children.setdefault(block, _Node())
        node.pattern = pattern
    return root


def _with_part(module: nn.Module, path: list[str], part: nn.Module) -> nn.Module:
    """A shallow copy of `module` with another sub-module at `path`; all parameters are the same objects."""
    shell = copy.copy(module)
    shell._modules = dict(module._modules)
    name, *rest = path
    shell._modules[name] = _with_part(module.get_submodule(name), rest, part) if rest else part
    return shell

"""A super-network: one model whose layers serve every pattern of a space, without a copy.

Knows: how to let a model run as a pattern over its own weights, and how to run many patterns at once so that layers
they begin with in common are run once. Does not know: training, tasks, scores. By the families table alone, so every
family has it (weight sharing as in Klein et al., arXiv 2405.02267; PAPERS.md 5.2).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from layersearch.models.families import Lead
from layersearch.models.parts import Dropped
from layersearch.models.places import configs_of, settings_of
from layersearch.models.readout import SharedMix, mix_of, reading
from layersearch.models.surgery import dropped_parts, layers_of, split, stacks_of
from layersearch.pattern import Block, Pattern

Inputs = Mapping[str, torch.Tensor]


class SuperNetwork:
    """`model` and its layers; `running(pattern)` lets the model run as the pattern, sharing all weights.

    A layer that a pattern repeats is the same layer twice here; a candidate that `surgery.build` makes of `model` has
    copies of its own. A decoder keeps no cache meanwhile: its layers have other places than the cache knows. Patterns
    that mix their layers share one mix, where the model holds it (`readout.share_mix`); else they read the last layer.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self._stacks = stacks_of(model)
        self._layers = layers_of(model)
        self._stack_of = [number for number, (layers, _) in enumerate(self._stacks) for _ in layers]
        self._views: dict[tuple[Block, bool], nn.Module] = {}
        self._mix = mix_of(model)

    @contextmanager
    def running(self, pattern: Pattern) -> Iterator[PreTrainedModel]:
        """The model as `pattern`, until the context ends."""
        parts = split(pattern, self.model, self._stacks)
        with self._stacked([self._viewed(blocks) for blocks in parts], parts) as model, self._read(pattern, parts[-1]):
            yield model

    def _read(
        self, pattern: Pattern, blocks: Sequence[Block], run: Sequence[_Once] = ()
    ) -> AbstractContextManager[object]:
        """Lets the head read what `pattern` says of `blocks`, those of the last stack; `run`: they have run."""
        if not pattern.mixes or not isinstance(self._mix, SharedMix):
            return nullcontext()
        mix = self._mix.of(blocks, self._stack_of.index(self._stack_of[-1]))
        return reading(self.model, self._stacks[-1][1], mix, run)

    def outputs(self, patterns: Iterable[Pattern], inputs: Inputs) -> Iterator[tuple[Pattern, Any]]:
        """What the model gives as every pattern on one batch (its logits and all else), in depth-first order.

        Patterns with the same first blocks share their computation: all subsets of n layers cost one block each
        instead of half of n. Call it in evaluation mode and without gradients.
        """
        yield from self._below(_trie(patterns), (), inputs)

    def _below(
        self, node: _Node, before: tuple[tuple[Block, _Once], ...], inputs: Inputs
    ) -> Iterator[tuple[Pattern, Any]]:
        """What follows the blocks `before`, which have run.

        The whole model runs with stacks of three at most: the last two that have run, and the next block. So what
        layers hand on beside their hidden states goes its usual way, whatever it is, and so does what a model does
        after its first layer alone, such as the convolution of DeBERTa-v2.
        """
        for block, child in node.children.items():
            own = self._stack_of[block.layer]
            first = not any(self._stack_of[other.layer] == own and other.halves != "ffn" for other, _ in before)
            path = (*before, (block, _Once(self._view(block, leads=first))))
            stacks = [self._of_stack(path, number, 3) for number in range(len(self._stacks))]
            parts = [[block for block, _ in stack] for stack in stacks]
            last = self._of_stack(path, len(self._stacks) - 1, len(path))
            read, run = [block for block, _ in last], [layer for _, layer in last]
            with self._stacked([[layer for _, layer in stack] for stack in stacks], parts) as model:
                output = model(**inputs)
                found = [(pattern, output) for pattern in child.patterns if not pattern.mixes]
                for pattern in child.patterns[len(found) :]:
                    with self._read(pattern, read, run):
                        found.append((pattern, model(**inputs)))
            yield from found
            yield from self._below(child, path, inputs)

    def _of_stack(self, path: Sequence[tuple[Block, _Once]], number: int, most: int) -> Sequence[tuple[Block, _Once]]:
        return [step for step in path if self._stack_of[step[0].layer] == number][-most:]

    def _viewed(self, blocks: Sequence[Block]) -> list[nn.Module]:
        leading = next((place for place, block in enumerate(blocks) if block.halves != "ffn"), None)
        return [self._view(block, leads=place == leading) for place, block in enumerate(blocks)]

    def _view(self, block: Block, *, leads: bool) -> nn.Module:
        """The layer of `block` with stand-ins where a half is dropped: new shells around the same parameters.

        Where a stack's first layer `leads`, it holds what that layer holds for all.
        """
        if (block, leads) not in self._views:
            layer, (stack, row) = self._layers[block.layer], self._stacks[self._stack_of[block.layer]]
            if row.lead is not None:
                layer = _led(layer, row.lead, stack[0] if leads else None)
            for path, answer in dropped_parts(block, row):
                layer = _with_part(layer, path.split("."), Dropped(answer, layer.get_submodule(path)))
            self._views[block, leads] = layer
        return self._views[block, leads]

    @contextmanager
    def _stacked(
        self, stacks: Sequence[Sequence[nn.Module]], parts: Sequence[Sequence[Block]]
    ) -> Iterator[PreTrainedModel]:
        """The model with other layers in its stacks, which get its mode, and with their blocks in its configuration."""
        body, configs = self.model.base_model, configs_of(self.model)
        written = settings_of(self.model, self._stacks, parts)
        written += [
            (id(self.model.config), row.shared, len(blocks))
            for (_, row), blocks in zip(self._stacks, parts, strict=True)
            if row.shared is not None  # every block gets a place of its own here
        ]
        written += [(key, "use_cache", False) for key, config in configs.items() if hasattr(config, "use_cache")]
        before = [(key, name, getattr(configs[key], name)) for key, name, _ in written]
        for key, name, value in written:
            setattr(configs[key], name, value)
        whole = [body.get_submodule(row.path) for _, row in self._stacks]
        for (_, row), new in zip(self._stacks, stacks, strict=True):
            body.set_submodule(row.path, nn.ModuleList(new).train(self.model.training))
        try:
            yield self.model
        finally:
            for (_, row), layers in zip(self._stacks, whole, strict=True):
                body.set_submodule(row.path, layers)
            for key, name, value in reversed(before):
                setattr(configs[key], name, value)


class _Once(nn.Module):
    """A layer that runs once and then repeats its answer; what a model reads of its layers, it has too.

    `handed` are the hidden states that it ran on.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.handed: Any = None
        self._answer: Any = None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if self._answer is None:
            self.handed = args[0] if args else kwargs["hidden_states"]
            self._answer = self.layer(*args, **kwargs)
        return self._answer

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)


@dataclass
class _Node:
    """The patterns that begin alike."""

    children: dict[Block, _Node] = field(default_factory=dict)
    patterns: list[Pattern] = field(default_factory=list)  # that end here, one that mixes its layers behind


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
        node.patterns = sorted({*node.patterns, pattern})
    return root


def _with_part(module: nn.Module, path: list[str], part: nn.Module) -> nn.Module:
    """A shallow copy of `module` with another sub-module at `path`; all parameters are the same objects."""
    shell = _shell(module)
    name, *rest = path
    shell._modules[name] = _with_part(module.get_submodule(name), rest, part) if rest else part
    return shell


def _led(layer: nn.Module, lead: Lead, first: nn.Module | None) -> nn.Module:
    """A shell of the layer with what `first` holds for its stack, or without it."""
    part = _shell(layer.get_submodule(lead.part))
    part._modules.pop(lead.name, None)
    if first is not None:
        part.add_module(lead.name, first.get_submodule(f"{lead.part}.{lead.name}"))
    setattr(part, lead.flag, first is not None)
    return _with_part(layer, lead.part.split("."), part)


def _shell(module: nn.Module) -> nn.Module:
    """A shallow copy of `module` whose sub-modules and hooks can be exchanged."""
    shell = copy.copy(module)
    shell._modules = dict(module._modules)
    for hooks in ("_forward_hooks", "_forward_pre_hooks"):
        setattr(shell, hooks, copy.copy(getattr(module, hooks)))
    return shell

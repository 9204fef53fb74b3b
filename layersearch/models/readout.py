"""What the head of a candidate reads: its last layer, or a mix of its layers with the right scalars to begin with.

Knows: where a mix stands in a model, where its scalars come from, how a super-network shares one. Does not know: how
layers are copied (`surgery.py`), files, training.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn
from transformers import PreTrainedModel

from layersearch.errors import ModelError, WordsError
from layersearch.mixing import Mixing
from layersearch.models.families import FAMILIES, Stack, skipped_layers
from layersearch.models.mix import MIX, ScalarMix, mix_layers, pool_mix, pooler_of, read_mix
from layersearch.pattern import Block, Pattern

Start = Literal["even", "last"]
"""Where scalars begin: every layer counts alike (ELMo); or the last one for nine tenths, where a candidate begins as a
fine-tuned model whose head has learnt to read the last layer, and an even mix would undo that."""

LAST = 0.9  # of a mix that begins on the last layer; all of it without softmax

_LAYERS, _HOW = "mixed_layers", "mixed_how"  # in the configuration of a model with a mix


class SharedMix(nn.Module):
    """A super-network's scalars: one a layer of the unchanged model, for all patterns that mix it.

    It lies still beside the layers. What a pattern reads is a mix `of` its own blocks.
    """

    def __init__(self, layers: int, how: str) -> None:
        super().__init__()
        whole = ScalarMix(layers, how)
        self.layers, self.how, self.embeddings, self.softmax = layers, how, whole.embeddings, whole.softmax
        self.scalars, self.gamma = nn.Parameter(torch.zeros_like(whole.scalars)), whole.gamma

    def of(self, blocks: Sequence[Block], first: int) -> ScalarMix:
        """The mix of `blocks`, whose layers are numbered from `first` on, by the scalars as they are now.

        The last block has a lead, so that every pattern begins as one that reads its last layer.
        """
        chosen = self.scalars[_places(blocks, first, self)]
        led = torch.cat((chosen[:-1], chosen[-1:] + _lead(len(chosen), softmax=self.softmax)))
        return ScalarMix(len(blocks), self.how, led, self.gamma)


@contextmanager
def reading(model: PreTrainedModel, row: Stack, mix: ScalarMix, run: Sequence[Any] = ()) -> Iterator[None]:
    """Let the head of `model` read `mix` of the stack that `row` describes, until the context ends.

    `run` are layers that remember what they were `handed`, where the model runs the last of them only.
    """
    if run:
        last = run[-1].register_forward_hook(lambda _, __, output: mix.answer([one.handed for one in run], output))
        hooks = [last, *pool_mix(model, mix)]
    else:
        hooks = read_mix(model, row.path, mix)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def mix_of(model: nn.Module) -> ScalarMix | SharedMix | None:
    """The mix that stands beside a model's layers, if there is one; a super-network's is shared."""
    return next((module for module in model.modules() if isinstance(module, ScalarMix | SharedMix)), None)


def give_readout(
    candidate: PreTrainedModel,
    row: Stack,
    first: int,
    blocks: Sequence[Block],
    pattern: Pattern,
    mixing: Mixing,
    start: Start,
) -> None:
    """Let `candidate`, a copy of its base model but for the layers, read what `pattern` says; in place.

    `row` describes the last stack, which the head reads, `blocks` are the pattern's of that stack, whose layers are
    numbered from `first` on. Where the base model mixes, or is a super-network, the scalars of its layers are taken
    over; else they begin at `start`. Raises ModelError for a model whose layers cannot be mixed.
    """
    source = mix_of(candidate)
    if source is not None:
        _take_away(candidate, source)
    if not pattern.mixes:
        return
    require_mixable(candidate, row, mixing)
    mix = ScalarMix(len(blocks), str(mixing))
    _put_beside(candidate, row, mix)
    with torch.no_grad():
        if source is not None:
            mix.scalars.copy_(source.scalars[_places(blocks, first, source)])
            if mix.gamma is not None and source.gamma is not None:
                mix.gamma.copy_(source.gamma)
        elif start == "last":
            mix.scalars.zero_()
        if isinstance(source, SharedMix) or (source is None and start == "last"):
            mix.scalars[-1] += _lead(len(mix.scalars), softmax=mix.softmax)


def share_mix(model: PreTrainedModel, row: Stack, layers: int, mixing: Mixing) -> None:
    """Let `model`, to become a super-network, hold one mix for all patterns over its `layers`; in place."""
    require_mixable(model, row, mixing)
    _put_beside(model, row, SharedMix(layers, str(mixing)))


def reopen_readout(model: PreTrainedModel, row: Stack, pattern: Pattern) -> None:
    """Put the mix back that the configuration of `model` tells of, in place; its scalars are to be loaded yet."""
    layers = getattr(model.config, _LAYERS, None)
    if layers is not None:
        kind = ScalarMix if pattern.mixes else SharedMix
        _put_beside(model, row, kind(layers, getattr(model.config, _HOW)))


def require_mixable(model: PreTrainedModel, row: Stack, mixing: Mixing) -> None:
    """Raise ModelError for layers without hidden states of one width, WordsError where no pooler comes after it."""
    model_type = model.config.model_type
    layers: Any = model.base_model.get_submodule(row.path)
    shapes = [{name: tensor.shape for name, tensor in layer.named_parameters()} for layer in layers]
    if model_type not in FAMILIES and any(one != shapes[0] for one in shapes):
        raise ModelError(
            f"the layers of this {model_type} model are not of one shape, so they have no hidden states that could be "
            f"mixed; search a space without `mix`, or choose a model of the families {', '.join(FAMILIES)}"
        )
    if skips := skipped_layers(model.config):
        raise ModelError(
            f"config.json says {skips}: training skips layers, and a mix needs all of them; set it to 0, or search a "
            "space without `mix`"
        )
    if mixing.after_pooler and pooler_of(model) is None:
        raise WordsError(
            f"--mix {str(mixing)!r}: the head of this {model_type} model ({type(model).__name__}) has no pooler of "
            "hidden states to mix after; leave `after-pooler` out"
        )


def learnt(model: nn.Module, pattern: Pattern) -> str | None:
    """What a candidate of `pattern` has learnt to mix, in words: what each state counts, and gamma; None for no mix."""
    mix = mix_of(model)
    if not (pattern.mixes and isinstance(mix, ScalarMix)):
        return None
    names = [str(block) for block in pattern.blocks][-mix.layers :]
    names = ["embeddings", *names] if mix.embeddings else names
    shares = zip(names, mix.shares().detach().tolist(), strict=True)
    gamma = "" if mix.gamma is None else f"; gamma {mix.gamma.detach().item():.4f}"
    return ", ".join(f"{name}: {share:.4f}" for name, share in shares) + gamma


def _put_beside(model: PreTrainedModel, row: Stack, mix: ScalarMix | SharedMix) -> None:
    mix.to(model.device).train(model.training)
    if isinstance(mix, ScalarMix):
        mix_layers(model, row.path, mix)
    else:
        model.base_model.get_submodule(row.path.rpartition(".")[0]).add_module(MIX, mix)
    setattr(model.config, _LAYERS, mix.layers)
    setattr(model.config, _HOW, mix.how)


def _take_away(model: PreTrainedModel, mix: ScalarMix | SharedMix) -> None:
    """Let `model` read its last layer, in place."""
    for module in model.modules():
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for number in [number for number, hook in hooks.items() if getattr(hook, "__self__", None) is mix]:
                del hooks[number]
    owner = next(module for module in model.modules() if module._modules.get(MIX) is mix)
    del owner._modules[MIX]
    for key in (_LAYERS, _HOW):
        delattr(model.config, key)


def _places(blocks: Sequence[Block], first: int, mix: ScalarMix | SharedMix) -> list[int]:
    """Which scalars of `mix`, one a layer, belong to the states of `blocks`."""
    before = [0] if mix.embeddings else []
    return before + [block.layer - first + len(before) for block in blocks]


def _lead(states: int, *, softmax: bool) -> float:
    """What the last scalar has more than the others in a mix of so many states that begins on its last layer."""
    if not softmax:
        return 1.0
    return math.log(LAST / (1 - LAST) * (states - 1)) if states > 1 else 0.0

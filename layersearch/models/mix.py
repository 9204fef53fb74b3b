"""A learned mix of a model's layers, which its head reads in place of the last layer.

Knows: modules, tensors, and the words that say how is mixed, as plain values. Does not know: the rest of layersearch.
Its code, from below this text on, is in every exported folder whose model mixes (`page.py`), so it imports torch alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

MIX = "scalar_mix"  # its name beside the layers


class ScalarMix(nn.Module):
    """Stands beside the layers of `owner` and lets the last of them answer with a mix of what all of them answer.

    The mix is gamma * sum_k softmax(w)_k h_k (ELMo, Peters et al., arXiv 1802.05365); `how` names what differs:
    `no-softmax` takes the scalars w as they are, `no-gamma` does without the factor, `norm` normalises each h_k over
    its width, `embeddings` counts in what the first layer reads, `after-pooler` mixes what the model's pooler makes of
    each h_k. What a layer answers is read off as what the next one is handed, so that all that a model does between two
    layers is in it. Whatever follows the last layer, such as a norm, follows the mix.

    Hooks are on the layers only while they run, so that layers can be copied and exchanged. Given `scalars` and `gamma`
    are somebody else's; scalars are no parameters of its own then.
    """

    def __init__(
        self, layers: int, how: str, scalars: torch.Tensor | None = None, gamma: torch.Tensor | None = None
    ) -> None:
        super().__init__()
        words = how.split()
        self.layers, self.how, self.name = layers, how, ""
        self.softmax, self.norm = "no-softmax" not in words, "norm" in words
        self.embeddings, self.pools = "embeddings" in words, "after-pooler" in words
        states = layers + self.embeddings
        if scalars is None:
            scalars = nn.Parameter(torch.zeros(states) if self.softmax else torch.full((states,), 1 / states))
            gamma = None if "no-gamma" in words else nn.Parameter(torch.ones(1))
        self.scalars, self.gamma = scalars, gamma
        self._states: list[torch.Tensor] = []
        self._hooks: list[Any] = []

    def shares(self) -> torch.Tensor:
        """What each state counts, gamma apart, [states]: those of the embeddings first, if they are counted in."""
        return self.scalars.softmax(0) if self.softmax else self.scalars

    def forward(self, states: Sequence[torch.Tensor]) -> torch.Tensor:
        """The mix of `states`, one a share, all of one shape."""
        shares, precision = self.shares(), states[-1].dtype
        if self.gamma is not None:
            shares = shares * self.gamma
        if self.norm:
            states = [nn.functional.layer_norm(state, state.shape[-1:]) for state in states]
        mixed = shares[0] * states[0]
        for share, state in zip(shares[1:], states[1:], strict=True):
            mixed = mixed + share * state
        return mixed.to(precision)

    def begin(self, owner: nn.Module, _args: object) -> None:
        """Before `owner` runs its layers."""
        self._states = []
        for layer in dict.fromkeys(getattr(owner, self.name)):
            self._hooks.append(layer.register_forward_pre_hook(self._before, with_kwargs=True))
            self._hooks.append(layer.register_forward_hook(self._after))

    def end(self, _owner: nn.Module, _args: object, _output: object) -> None:
        """After `owner` has run its layers, or broke off."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self._states = self._states if self.pools else []

    def pooled(self, pooler: nn.Module, _args: object, output: torch.Tensor) -> torch.Tensor:
        """In place of what `pooler` makes of the last layer."""
        states, self._states = self._states, []
        return self([*(pooler.forward(state) for state in states[:-1]), output]) if states else output

    def _before(self, _layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._states.append(args[0] if args else kwargs["hidden_states"])

    def _after(self, _layer: nn.Module, _args: object, output: Any) -> Any:
        return output if len(self._states) < self.layers else self.answer(self._states, output)

    def answer(self, handed: Sequence[torch.Tensor], output: Any) -> Any:
        """In place of `output`, what the last layer answers, when `handed` are what each layer was handed."""
        last = output[0] if isinstance(output, tuple) else output
        self._states = [*handed[0 if self.embeddings else 1 :], last]
        if self.pools:
            return output
        mixed = self(self._states)
        return (mixed, *output[1:]) if isinstance(output, tuple) else mixed


def mix_layers(model: Any, path: str, mix: ScalarMix) -> None:
    """Let the head of `model` read `mix`, which moves in beside the layers at `path` of its body, in place."""
    model.base_model.get_submodule(path.rpartition(".")[0]).add_module(MIX, mix)
    read_mix(model, path, mix)


def read_mix(model: Any, path: str, mix: ScalarMix) -> list[Any]:
    """Let the head of `model` read `mix` of the layers at `path` of its body, until what this gives is removed."""
    above, _, mix.name = path.rpartition(".")
    owner = model.base_model.get_submodule(above)
    begin, end = owner.register_forward_pre_hook(mix.begin), owner.register_forward_hook(mix.end, always_call=True)
    return [begin, end, *pool_mix(model, mix)]


def pool_mix(model: Any, mix: ScalarMix) -> list[Any]:
    """Let `mix` stand for what the pooler of `model` makes of the last layer, where it mixes that."""
    return [pooler_of(model).register_forward_hook(mix.pooled)] if mix.pools else []


def pooler_of(model: Any) -> Any:
    """What makes one vector of the hidden states [batch, tokens, width] of a text; None where the model has no such."""
    found = [getattr(part, "pooler", None) for part in (model.base_model, model)]
    return next((one for one in found if one is not None and not isinstance(one, nn.Linear)), None)

"""How much a model's layers and halves change what passes through them, by cosines and angles; and how large they are.

Knows: a model of the families table, encoded examples, hidden states before and after each half. Does not know: labels,
patterns, what the numbers are used for (`measured.py` spells patterns from them). Memory does not grow with the number
of examples: means are summed batch by batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch.nn import functional
from transformers import PreTrainedModel

from layersearch.analysis.states import Seen, require_one_stack, walk
from layersearch.measured import Measured
from layersearch.models.surgery import layers_of
from layersearch.tasks.task import Encoded
from layersearch.training.influence import turned

BATCH = 16  # examples at once: the states of all halves are in memory together


@dataclass(frozen=True)
class Similarity:
    """What passes through a model of n layers, as means over examples.

    `first_token` and `all_tokens` [n] are cosines before and after each layer; `first_halves` and `all_halves` [2 n]
    are 1 - cosine before and after each half, attention first; `apart` [2 n + 1][2 n + 1] are angular distances of the
    last token, in half turns, between any two places: before the first layer, then after each half.
    """

    first_token: tuple[float, ...]
    all_tokens: tuple[float, ...]
    first_halves: tuple[float, ...]
    all_halves: tuple[float, ...]
    apart: tuple[tuple[float, ...], ...]

    @property
    def num_layers(self) -> int:
        """Layers of the model."""
        return len(self.first_token)

    def block(self, start: int, length: int) -> float:
        """How far the last token turns over `length` layers from layer `start` on, in half turns."""
        return self.apart[2 * start][2 * (start + length)]


class Summing:
    """Hears of batches and sums what `Similarity` is the mean of."""

    def __init__(self) -> None:
        self._sums: _Sums | None = None

    def __call__(self, seen: Seen) -> None:
        found = _sums_of(seen.states, seen.mask, seen.first)
        self._sums = found if self._sums is None else self._sums.plus(found)

    def means(self) -> Similarity:
        """What the sums come to; something must have been heard."""
        assert self._sums is not None
        return self._sums.means()


def similarity(
    model: PreTrainedModel,
    encoded: Encoded,
    heartbeat: Callable[[float], None] = lambda _: None,
) -> Measured:
    """Measure `model` over the examples; fp32, forward passes only.

    Cosines of the first token (contribution, Sajjad et al., arXiv 2004.03844) and of all tokens (block influence, Men
    et al., arXiv 2403.03853) before and after each layer; 1 - cosine over all tokens for each half (Siddiqui et al.,
    arXiv 2407.16286); angular distances of the last token between any two places (Gromov et al., arXiv 2403.17887).
    Padding counts nowhere; where texts end together (XLNet), the last token stands for the first. The model is left in
    evaluation mode. `heartbeat` is told the share that is done. Raises ModelError for a model with two stacks.
    """
    require_one_stack(model, "choose strategies that are not measured")
    order = np.random.default_rng(0).permutation(len(encoded))  # of sums, which tells in the last digits
    summing, done = Summing(), 0
    for seen in walk(model, encoded, order, BATCH):
        summing(seen)
        done += len(seen.examples)
        heartbeat(done / len(order))
    found = summing.means()
    sizes, variances = sizes_of(model)
    return Measured(
        first_token=found.first_token,
        all_tokens=found.all_tokens,
        attention=found.all_halves[0::2],
        ffn=found.all_halves[1::2],
        apart=tuple(row[::2] for row in found.apart[::2]),
        weight_size=sizes,
        weight_variance=variances,
    )


def sizes_of(model: PreTrainedModel) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean absolute value and variance of each layer's weight matrices (biases and norms left out), lowest first.

    After the parameter-based ranking of Sajjad et al., arXiv 2004.03844 v3.
    """
    sizes, variances = [], []
    for layer in layers_of(model):
        flat = torch.cat([p.detach().float().flatten() for p in layer.parameters() if p.ndim > 1])
        sizes.append(float(flat.abs().mean()))
        variances.append(float(flat.var(correction=0)))
    return tuple(sizes), tuple(variances)


@dataclass(frozen=True)
class _Sums:
    """Sums over `examples` and their `tokens`, float64: [layers], [layers], [halves], [halves], [places, places]."""

    first: torch.Tensor
    every: torch.Tensor
    first_halves: torch.Tensor
    halves: torch.Tensor
    turned: torch.Tensor
    examples: int
    tokens: int

    def plus(self, other: _Sums) -> _Sums:
        """Both together."""
        return _Sums(**{name: value + vars(other)[name] for name, value in vars(self).items()})

    def means(self) -> Similarity:
        """What they come to; cosines are one less what layers turn."""
        return Similarity(
            first_token=tuple((1 - self.first / self.examples).tolist()),
            all_tokens=tuple((1 - self.every / self.tokens).tolist()),
            first_halves=tuple((self.first_halves / self.examples).tolist()),
            all_halves=tuple((self.halves / self.tokens).tolist()),
            apart=tuple(map(tuple, (self.turned / self.examples).tolist())),
        )


def _sums_of(states: list[torch.Tensor], mask: torch.Tensor, first: int) -> _Sums:
    """The sums of one batch: `states` [batch, longest, width] before the first layer and after every half.

    `first` is the place of the token that stands for a text.
    """
    every, firsts = _turned_by(states[::2], mask, first)
    all_halves, first_halves = _turned_by(states, mask, first)
    return _Sums(firsts, every, first_halves, all_halves, _apart(states, mask), len(mask), int(mask.sum()))


def _turned_by(states: list[torch.Tensor], mask: torch.Tensor, first: int) -> torch.Tensor:
    """1 - cosine from state to state, summed over tokens and over texts, float64 [2, states - 1]."""
    pairs = [torch.stack(turned(before, after, mask, first)) for before, after in pairwise(states)]
    return torch.stack(pairs, dim=1).double().cpu()


def _apart(states: list[torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
    """Angles between the last tokens' states at any two places, in half turns, summed over the batch [places, places].

    The last token is the last that is no padding, wherever the padding stands.
    """
    places = torch.arange(mask.shape[1], device=mask.device)
    last = (mask * places).argmax(dim=1)
    rows = torch.arange(len(mask), device=mask.device)
    tokens = functional.normalize(torch.stack([state[rows, last] for state in states]).float(), dim=-1)
    cosines = torch.einsum("ibw,jbw->ijb", tokens, tokens).clamp(-1.0, 1.0)
    return (torch.arccos(cosines) / torch.pi).sum(dim=-1).double().cpu()

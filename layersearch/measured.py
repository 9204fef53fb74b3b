"""Strategies that need numbers measured on a model: the numbers, and the rules that turn them into patterns.

Knows: which layers or halves each rule drops, given the numbers. Does not know: models, data, how anything is measured
(`analysis/similarity.py`). A new strategy is one function and one line in `MEASURED`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from layersearch.errors import PatternError
from layersearch.pattern import Halves, Pattern
from layersearch.strategies import STRATEGIES, halved, possible, require, spell, without


@dataclass(frozen=True)
class Measured:
    """What is measured of a model of n layers, as means over examples (`analysis/similarity.py` says how).

    `first_token` and `all_tokens` [n] are cosines of the hidden states before and after each layer; `attention` and
    `ffn` [n] are 1 - cosine over all tokens before and after each half; `apart` [n + 1][n + 1] are angular distances,
    in half turns, between the last token's states at two places of the stack, 0 being before the first layer.
    `weight_size` and `weight_variance` [n] are the mean absolute value and the variance of each layer's weights.
    """

    first_token: tuple[float, ...]
    all_tokens: tuple[float, ...]
    attention: tuple[float, ...]
    ffn: tuple[float, ...]
    apart: tuple[tuple[float, ...], ...]
    weight_size: tuple[float, ...]
    weight_variance: tuple[float, ...]

    @property
    def num_layers(self) -> int:
        """Layers of the model."""
        return len(self.first_token)


def contribution(measured: Measured, k: int) -> Pattern:
    """Drop the k layers that change the first token least, by cosine; 1 <= k < layers.

    Sajjad et al., arXiv 2004.03844 v1, section 2.3, with k in place of their threshold (`contribution_above`).
    """
    return _least("contribution", [-cosine for cosine in measured.first_token], k)


def contribution_above(measured: Measured, threshold: float) -> Pattern:
    """Drop every layer whose first token has a cosine above `threshold` before and after it.

    Sajjad et al., arXiv 2004.03844 v1, section 2.3: 0.9 to 0.95 for BERT and XLNet. Raises PatternError if those are
    none or all.
    """
    return _beyond("cosine above", measured.first_token, threshold, {c for c in measured.first_token if c > threshold})


def block_influence(measured: Measured, k: int) -> Pattern:
    """Drop the k layers with the lowest block influence, 1 - mean cosine over all tokens; 1 <= k < layers.

    Men et al. (ShortGPT), arXiv 2403.03853. It is `contribution` over all tokens.
    """
    return _least("block-influence", _influences(measured), k)


def block_influence_below(measured: Measured, threshold: float) -> Pattern:
    """Drop every layer with a block influence below `threshold`; Men et al. (ShortGPT), arXiv 2403.03853.

    Raises PatternError if those are none or all.
    """
    found = _influences(measured)
    return _beyond("block influence below", found, threshold, {value for value in found if value < threshold})


def angular(measured: Measured, k: int) -> Pattern:
    """Drop the k neighbouring layers between which the last token turns least; 1 <= k < layers.

    Gromov et al., arXiv 2403.17887: the angular distance of the states before the first and after the last of them.
    """
    layers = measured.num_layers
    require("angular", layers, k, range(1, layers))
    first = min(range(layers - k + 1), key=lambda low: measured.apart[low][low + k])
    return without(layers, range(first, first + k))


def weights(measured: Measured, k: int) -> Pattern:
    """Drop the k layers whose weights are smallest, by their mean absolute value; 1 <= k < layers.

    After Sajjad et al., arXiv 2004.03844 v3, who rank layers by an aggregate of their weights; which one is not known
    to us.
    """
    return _least("weights", measured.weight_size, k)


def weights_variance(measured: Measured, k: int) -> Pattern:
    """Drop the k layers whose weights vary least; 1 <= k < layers. After Sajjad et al., arXiv 2004.03844 v3."""
    return _least("weights-variance", measured.weight_variance, k)


def ffn_only_influence(measured: Measured, k: int) -> Pattern:
    """Drop only the FFN halves, of the k layers whose FFN half has the lowest influence; 1 <= k <= layers.

    Influence measured per half: Siddiqui et al., arXiv 2407.16286.
    """
    return _halved_least("ffn-only-influence", measured.ffn, k, "attention")


def attention_only_influence(measured: Measured, k: int) -> Pattern:
    """Drop only the attention halves, of the k layers whose attention half has the lowest influence; k up to all.

    Influence measured per half: Siddiqui et al., arXiv 2407.16286.
    """
    return _halved_least("attention-only-influence", measured.attention, k, "ffn")


MEASURED: Mapping[str, Callable[[Measured, int], Pattern]] = MappingProxyType(
    {
        "contribution": contribution,
        "block-influence": block_influence,
        "angular": angular,
        "weights": weights,
        "weights-variance": weights_variance,
        "ffn-only-influence": ffn_only_influence,
        "attention-only-influence": attention_only_influence,
    }
)
"""The strategies that need numbers measured on a model."""

BY_THRESHOLD: Mapping[str, Callable[[Measured, float], Pattern]] = MappingProxyType(
    {"contribution": contribution_above, "block-influence": block_influence_below}
)

NAMES = (*STRATEGIES, *MEASURED)
"""Every strategy that a search space may name."""


def spell_measured(measured: Measured) -> dict[str, tuple[Pattern, ...]]:
    """The patterns of all strategies that need numbers, by name, for k = 1, 2, ... in turn."""
    layers = measured.num_layers
    most = {name: layers if name.endswith("-only-influence") else layers - 1 for name in MEASURED}
    return {name: tuple(rule(measured, k + 1) for k in range(most[name])) for name, rule in MEASURED.items()}


@cache
def patterns_of(
    names: tuple[str, ...],
    num_layers: int,
    ks: tuple[int, ...],
    known: tuple[tuple[str, tuple[Pattern, ...]], ...],
    copies: int,
) -> tuple[Pattern, ...]:
    """The unchanged model and the patterns of the strategies `names` for each of `ks`, small k first, each once.

    `known` holds what measured ones spell, for k = 1, 2, ...; those it does not hold spell nothing. A layer that a
    strategy repeats gets `copies` copies.
    """
    measured = {name: dict(enumerate(patterns, 1)) for name, patterns in known}
    plain = {name: possible(name, num_layers) for name in names if name not in MEASURED}
    found = [Pattern.full(num_layers)]
    for k in ks:
        for name in names:
            if k in plain.get(name, ()):
                found.append(_repeated(spell(name, num_layers, k), copies))
            elif k in measured.get(name, ()):
                found.append(measured[name][k])
    return tuple(dict.fromkeys(found))


def _repeated(pattern: Pattern, copies: int) -> Pattern:
    """`pattern` with each copy of a layer `copies` times."""
    before = (None, *pattern.blocks)
    pairs = zip(before, pattern.blocks, strict=False)
    return Pattern(tuple(b for a, b in pairs for _ in range(copies if a and a.layer == b.layer else 1)))


def _lowest(values: Sequence[float], k: int) -> list[int]:
    """The places of the k lowest values; of equal ones the highest layers."""
    return sorted(range(len(values)), key=lambda layer: (values[layer], -layer))[:k]


def _least(name: str, values: Sequence[float], k: int) -> Pattern:
    """Without the k layers of the lowest values."""
    require(name, len(values), k, range(1, len(values)))
    return without(len(values), _lowest(values, k))


def _halved_least(name: str, values: Sequence[float], k: int, kept: Halves) -> Pattern:
    require(name, len(values), k, range(1, len(values) + 1))
    return halved(len(values), _lowest(values, k), kept)


def _influences(measured: Measured) -> list[float]:
    return [1 - cosine for cosine in measured.all_tokens]


def _beyond(what: str, values: Sequence[float], threshold: float, found: Container[float]) -> Pattern:
    """Without the layers whose value is among `found`."""
    dropped = [layer for layer, value in enumerate(values) if value in found]
    if 0 < len(dropped) < len(values):
        return without(len(values), dropped)
    how_many = "all layers have" if dropped else "no layer has"
    raise PatternError(
        f"{how_many} a {what} {threshold:g}, which leaves no pattern to try: they lie between {min(values):.4f} and "
        f"{max(values):.4f}; choose another threshold, or give k"
    )

"""Strategies: rules that spell a pattern from a number of layers and one number k.

Knows: which layers each named rule drops, halves or repeats, counted from the top of the stack. Does not know: models,
scores or search spaces. A new strategy is one function and one line in `STRATEGIES`.

Layers are 0-based here; the papers count from 1, so their layer L is our L - 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from layersearch.errors import PatternError
from layersearch.names import unknown
from layersearch.pattern import Block, Halves, Pattern

Strategy = Callable[[int, int], Pattern]


def top(num_layers: int, k: int) -> Pattern:
    """Drop the k highest layers; 1 <= k < num_layers. Sajjad et al., arXiv 2004.03844 v1, section 2."""
    _require("top", num_layers, k, range(1, num_layers))
    return Pattern.of_layers(range(num_layers - k))


def bottom(num_layers: int, k: int) -> Pattern:
    """Drop the k lowest layers; 1 <= k < num_layers. Sajjad et al., arXiv 2004.03844 v1, section 2."""
    _require("bottom", num_layers, k, range(1, num_layers))
    return Pattern.of_layers(range(k, num_layers))


def alternate_even(num_layers: int, k: int) -> Pattern:
    """Drop every other layer walking down from the highest: L, L-2, ... (1-based), k of them.

    Sajjad et al., arXiv 2004.03844 v1, section 2. For an odd L it starts at the highest layer too.
    """
    _require("alternate-even", num_layers, k, range(1, min((num_layers + 1) // 2, num_layers - 1) + 1))
    return _without(num_layers, range(num_layers - 1, -1, -2)[:k])


def alternate_odd(num_layers: int, k: int) -> Pattern:
    """Drop every other layer walking down from the second highest: L-1, L-3, ... (1-based), k of them.

    Sajjad et al., arXiv 2004.03844 v1, section 2. The highest layer stays, for an odd L too.
    """
    _require("alternate-odd", num_layers, k, range(1, num_layers // 2 + 1))
    return _without(num_layers, range(num_layers - 2, -1, -2)[:k])


def symmetric(num_layers: int, k: int) -> Pattern:
    """Drop the k middle layers and keep as many at the bottom as at the top, so L - k is even and at least 2.

    Sajjad et al., arXiv 2004.03844 v1, section 2 (2X + K = L).
    """
    _require("symmetric", num_layers, k, range(2 - num_layers % 2, num_layers - 1, 2))
    edge = (num_layers - k) // 2
    return _without(num_layers, range(edge, edge + k))


def ffn_only(num_layers: int, k: int) -> Pattern:
    """Drop only the FFN halves, of the k highest layers; 1 <= k <= num_layers.

    After Sridhar and Sarah, arXiv 2012.11881, who remove BERT's intermediate layers; which ones is not known to us, so
    the default is from the top, where Sajjad et al. find dropping cheapest.
    """
    _require("ffn-only", num_layers, k, range(1, num_layers + 1))
    return _halved(num_layers, k, kept="attention")


def attention_only(num_layers: int, k: int) -> Pattern:
    """Drop only the attention halves, of the k highest layers; 1 <= k <= num_layers.

    The counterpart of `ffn_only`, with the same default from the top.
    """
    _require("attention-only", num_layers, k, range(1, num_layers + 1))
    return _halved(num_layers, k, kept="ffn")


def duplicate(num_layers: int, k: int) -> Pattern:
    """Repeat each of the k highest layers once, directly after itself; 1 <= k <= num_layers.

    After Kao et al., arXiv 2001.09309, who duplicate layers of BERT; which ones is not known to us, so the default is
    from the top.
    """
    _require("duplicate", num_layers, k, range(1, num_layers + 1))
    layers = range(num_layers)
    return Pattern.of_layers(layer for layer in layers for _ in range(2 if layer >= num_layers - k else 1))


STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {
        "top": top,
        "bottom": bottom,
        "alternate-even": alternate_even,
        "alternate-odd": alternate_odd,
        "symmetric": symmetric,
        "ffn-only": ffn_only,
        "attention-only": attention_only,
        "duplicate": duplicate,
    }
)


def spell(name: str, num_layers: int, k: int) -> Pattern:
    """The pattern of the strategy called `name`. Raises PatternError for an unknown name or an impossible k."""
    return _named(name)(num_layers, k)


def possible(name: str, num_layers: int) -> tuple[int, ...]:
    """The values of k for which the strategy exists, ascending. Raises PatternError for an unknown name."""
    strategy = _named(name)
    return tuple(k for k in range(1, num_layers + 1) if _exists(strategy, num_layers, k))


def named_patterns(num_layers: int) -> dict[str, str]:
    """Every pattern that strategies spell, as text, with their names and k: `0-3` is `top 2` for six layers."""
    found: dict[str, list[str]] = {}
    for name in STRATEGIES:
        for k in possible(name, num_layers):
            found.setdefault(str(spell(name, num_layers, k)), []).append(f"{name} {k}")
    return {pattern: ", ".join(names) for pattern, names in found.items()}


def _named(name: str) -> Strategy:
    if name not in STRATEGIES:
        raise PatternError(unknown("strategy", name, STRATEGIES))
    return STRATEGIES[name]


def _exists(strategy: Strategy, num_layers: int, k: int) -> bool:
    try:
        strategy(num_layers, k)
    except PatternError:
        return False
    return True


def _require(name: str, num_layers: int, k: int, allowed: range) -> None:
    if k in allowed:
        return
    what = f"{name} with k = {k} is impossible for {num_layers} layers"
    if not allowed:
        raise PatternError(f"{what}: the strategy needs more layers than that; choose another strategy")
    step = ", even k only" if allowed.step == 2 and allowed[0] == 2 else ", odd k only" if allowed.step == 2 else ""
    raise PatternError(f"{what}: k can be {allowed[0]} to {allowed[-1]}{step}")


def _without(num_layers: int, dropped: range) -> Pattern:
    return Pattern.of_layers(layer for layer in range(num_layers) if layer not in dropped)


def _halved(num_layers: int, k: int, kept: Halves) -> Pattern:
    whole = tuple(Block(layer) for layer in range(num_layers - k))
    return Pattern(whole + tuple(Block(layer, kept) for layer in range(num_layers - k, num_layers)))

"""Strategies: rules that spell a pattern from a number of layers and one number k.

Knows: which layers each named rule drops, halves or repeats. Does not know: models, what is measured on them
(`measured.py`), scores or search spaces. A new strategy is one function and one line in `STRATEGIES`.

Layers are 0-based here; the papers count from 1, so their layer L is our L - 1.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Literal

from layersearch.counts import count
from layersearch.errors import PatternError
from layersearch.names import unknown
from layersearch.pattern import Block, Halves, Pattern

Strategy = Callable[[int, int], Pattern]
Place = Literal["top", "bottom", "alternate", "middle"]
"""Which k layers: `alternate` is every other one, from the highest down."""

Known = Mapping[str, Sequence[Pattern]]
"""The patterns of strategies that are measured on a model (`measured.py`), by name, for k = 1, 2, ... in turn."""


def top(num_layers: int, k: int) -> Pattern:
    """Drop the k highest layers; 1 <= k < num_layers. Sajjad et al., arXiv 2004.03844 v1, section 2."""
    require("top", num_layers, k, range(1, num_layers))
    return Pattern.of_layers(range(num_layers - k))


def bottom(num_layers: int, k: int) -> Pattern:
    """Drop the k lowest layers; 1 <= k < num_layers. Sajjad et al., arXiv 2004.03844 v1, section 2."""
    require("bottom", num_layers, k, range(1, num_layers))
    return Pattern.of_layers(range(k, num_layers))


def alternate_even(num_layers: int, k: int) -> Pattern:
    """Drop every other layer walking down from the highest: L, L-2, ... (1-based), k of them.

    Sajjad et al., arXiv 2004.03844 v1, section 2. For an odd L it starts at the highest layer too.
    """
    require("alternate-even", num_layers, k, range(1, min((num_layers + 1) // 2, num_layers - 1) + 1))
    return without(num_layers, range(num_layers - 1, -1, -2)[:k])


def alternate_odd(num_layers: int, k: int) -> Pattern:
    """Drop every other layer walking down from the second highest: L-1, L-3, ... (1-based), k of them.

    Sajjad et al., arXiv 2004.03844 v1, section 2. The highest layer stays, for an odd L too.
    """
    require("alternate-odd", num_layers, k, range(1, num_layers // 2 + 1))
    return without(num_layers, range(num_layers - 2, -1, -2)[:k])


def symmetric(num_layers: int, k: int) -> Pattern:
    """Drop the k middle layers and keep as many at the bottom as at the top, so L - k is even and at least 2.

    Sajjad et al., arXiv 2004.03844 v1, section 2 (2X + K = L).
    """
    require("symmetric", num_layers, k, range(2 - num_layers % 2, num_layers - 1, 2))
    edge = (num_layers - k) // 2
    return without(num_layers, range(edge, edge + k))


def every_other(num_layers: int, k: int) -> Pattern:
    """Keep L - k layers spread evenly from the lowest: the i-th is floor(i * L / (L - k)); 1 <= k < num_layers.

    "Every other" of Fan et al. (LayerDrop), arXiv 1909.11556, with the depth map of DynaBERT (Hou et al., arXiv
    2004.04037; their code): of 12 layers a half is 0, 2, 4, ..., three quarters are 0, 1, 2, 4, 5, 6, 8, 9, 10.
    """
    require("every-other", num_layers, k, range(1, num_layers))
    kept = num_layers - k
    return Pattern.of_layers(i * num_layers // kept for i in range(kept))


def random_layers(num_layers: int, k: int, seed: int = 0) -> Pattern:
    """Drop k layers drawn with `seed`, each set as likely as any other; 1 <= k < num_layers.

    A baseline of arXiv 2411.15558, among others. Equal for a seed on every machine.
    """
    require("random", num_layers, k, range(1, num_layers))
    return without(num_layers, random.Random(seed).sample(range(num_layers), k))


def ffn_only(num_layers: int, k: int, place: Place = "top") -> Pattern:
    """Drop only the FFN halves, of k layers; k = num_layers takes all.

    After Sridhar and Sarah, arXiv 2012.11881, who remove BERT's intermediate layers; which ones is not known to us, so
    the default is from the top, where Sajjad et al. find dropping cheapest.
    """
    return halved(num_layers, _placed("ffn-only", place, num_layers, k), "attention")


def attention_only(num_layers: int, k: int, place: Place = "top") -> Pattern:
    """Drop only the attention halves, of k layers; k = num_layers takes all.

    The counterpart of `ffn_only`, with the same default from the top.
    """
    return halved(num_layers, _placed("attention-only", place, num_layers, k), "ffn")


def duplicate(num_layers: int, k: int, place: Place = "top", copies: int = 1, *, tied: bool = False) -> Pattern:
    """Repeat each of k layers `copies` times, directly after itself, `tied` to its weights or with its own.

    After Kao et al., arXiv 2001.09309, who duplicate layers of BERT; which ones, how often and whether tied is not
    known to us, so the default is from the top, once, with own weights. k = num_layers takes all layers.
    """
    chosen = _placed("duplicate-tied" if tied else "duplicate", place, num_layers, k)
    repeats = {layer: (Block(layer), *[Block(layer, tied=tied)] * copies) for layer in chosen}
    return Pattern(tuple(block for layer in range(num_layers) for block in repeats.get(layer, (Block(layer),))))


STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {
        "top": top,
        "bottom": bottom,
        "alternate-even": alternate_even,
        "alternate-odd": alternate_odd,
        "symmetric": symmetric,
        "every-other": every_other,
        "random": random_layers,
        "ffn-only": ffn_only,
        "ffn-only-bottom": partial(ffn_only, place="bottom"),
        "ffn-only-alternate": partial(ffn_only, place="alternate"),
        "attention-only": attention_only,
        "attention-only-bottom": partial(attention_only, place="bottom"),
        "attention-only-alternate": partial(attention_only, place="alternate"),
        "duplicate": duplicate,
        "duplicate-bottom": partial(duplicate, place="bottom"),
        "duplicate-middle": partial(duplicate, place="middle"),
        "duplicate-tied": partial(duplicate, tied=True),
    }
)


def spell(name: str, num_layers: int, k: int) -> Pattern:
    """The pattern of the strategy called `name`, which needs no model. Raises PatternError.

    It does so for an unknown name and an impossible k.
    """
    return _named(name)(num_layers, k)


def possible(name: str, num_layers: int) -> tuple[int, ...]:
    """The values of k for which the strategy exists, ascending. Raises PatternError for an unknown name."""
    strategy = _named(name)
    return tuple(k for k in range(1, num_layers + 1) if _exists(strategy, num_layers, k))


def named_patterns(num_layers: int, known: Known = MappingProxyType({})) -> dict[str, str]:
    """Every pattern that strategies spell, as text, with their names and k: `0-3` is `top 2` for six layers.

    Random ones have no name, because no rule spells them.
    """
    found: dict[str, list[str]] = {}
    for name in STRATEGIES:
        for k in possible(name, num_layers) if name != "random" else ():
            found.setdefault(str(spell(name, num_layers, k)), []).append(f"{name} {k}")
    for name, patterns in known.items():
        for k, pattern in enumerate(patterns, 1):
            found.setdefault(str(pattern), []).append(f"{name} {k}")
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


def require(name: str, num_layers: int, k: int, allowed: range) -> None:
    """Raise PatternError, with what k can be, unless it is one of `allowed`."""
    if k in allowed:
        return
    what = f"{name} with k = {k} is impossible for {count(num_layers, 'layer')}"
    if not allowed:
        raise PatternError(f"{what}: the strategy needs more layers than that; choose another strategy")
    step = ", even k only" if allowed.step == 2 and allowed[0] == 2 else ", odd k only" if allowed.step == 2 else ""
    raise PatternError(f"{what}: k can be {allowed[0]} to {allowed[-1]}{step}")


def without(num_layers: int, dropped: Container[int]) -> Pattern:
    """The unchanged model less the layers `dropped`."""
    return Pattern.of_layers(layer for layer in range(num_layers) if layer not in dropped)


def halved(num_layers: int, chosen: Container[int], kept: Halves) -> Pattern:
    """The unchanged model with only the half `kept` of the layers `chosen`."""
    return Pattern(tuple(Block(layer, kept if layer in chosen else "both") for layer in range(num_layers)))


def _placed(name: str, place: Place, num_layers: int, k: int) -> Sequence[int]:
    """The k layers at `place`; the strategy that asks is called `name` there."""
    half = (num_layers + 1) // 2
    most = half if place == "alternate" else num_layers
    require(name if place == "top" else f"{name}-{place}", num_layers, k, range(1, most + 1))
    first = {"top": num_layers - k, "bottom": 0, "middle": (num_layers - k) // 2}
    return range(num_layers - 1, -1, -2)[:k] if place == "alternate" else range(first[place], first[place] + k)

"""What one layer may become, and in how many ways the layers of a model can choose.

Knows: the choices, the blocks that each stands for, and how to count and list what many layers choose together. Does
not know: TOML, strategies, Optuna, or which patterns a search space lets through.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import Literal, get_args

from layersearch.pattern import Block, Pattern

Choice = Literal["keep", "drop", "attention", "ffn", "duplicate", "duplicate-tied"]

_BLOCKS: dict[Choice, tuple[Block, ...]] = {
    "keep": (Block(0),),
    "drop": (),
    "attention": (Block(0, "attention"),),
    "ffn": (Block(0, "ffn"),),
    "duplicate": (Block(0), Block(0)),
    "duplicate-tied": (Block(0), Block(0, tied=True)),
}


@cache
def blocks_of(choice: Choice, copies: int = 1, layer: int = 0) -> tuple[Block, ...]:
    """The blocks that `choice` of a layer stands for, a duplicated one with so many copies."""
    first, last = _BLOCKS[choice][:1], _BLOCKS[choice][1:]
    return tuple(replace(block, layer=layer) for block in first + last * copies)


def spelled(chosen: Sequence[Choice], copies: int = 1) -> tuple[Block, ...]:
    """The blocks of layers that chose so, lowest first."""
    return tuple(block for layer, choice in enumerate(chosen) for block in blocks_of(choice, copies, layer))


def read(pattern: Pattern, num_layers: int, copies: int = 1) -> list[Choice] | None:
    """What each layer chose, or None for a pattern that no choices spell."""
    layers = [block.layer for block in pattern.blocks]
    kept: list[list[Block]] = [[] for _ in range(num_layers)]
    for block in pattern.blocks:
        kept[block.layer].append(replace(block, layer=0))
    meant = {blocks_of(choice, copies): choice for choice in get_args(Choice)}
    chosen = [meant.get(tuple(blocks)) for blocks in kept]
    found = [choice for choice in chosen if choice is not None]
    return found if len(found) == num_layers and layers == sorted(layers) else None


def sizes_of(choices: Iterable[Choice], copies: int = 1) -> tuple[int, ...]:
    """How many blocks each choice makes."""
    return tuple(len(blocks_of(choice, copies)) for choice in choices)


@cache
def ways(sizes: tuple[int, ...], num_layers: int, low: int, high: int) -> int:
    """In how many ways `num_layers` layers can take one choice each, of so many blocks, `low` to `high` together."""
    if high < 0 or low > max(sizes) * num_layers:
        return 0
    if num_layers == 0:
        return int(low <= 0)
    low = max(low, 0)
    return sum(ways(sizes, num_layers - 1, low - blocks, high - blocks) for blocks in sizes)


def nth(sizes: tuple[int, ...], num_layers: int, low: int, high: int, index: int) -> list[int]:
    """The `index`-th of the `ways`, as places of choices in lexicographic order, without walking through the others."""
    chosen: list[int] = []
    for left in range(num_layers - 1, -1, -1):
        for place, blocks in enumerate(sizes):
            found = ways(sizes, left, low - blocks, high - blocks)
            if index < found:
                chosen.append(place)
                break
            index -= found
        low, high = low - sizes[chosen[-1]], high - sizes[chosen[-1]]
    return chosen

"""What candidates keep of the unchanged model: of its parameters, and of each layer's halves.

Knows: patterns, counts. Does not know: scores, pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from layersearch.pattern import Pattern

if TYPE_CHECKING:
    from layersearch.search.record import Record
    from layersearch.search.trials import Row

PARAMETERS = "parameters, % of the unchanged model"  # the title of an axis of `share_of`
LEAST_WIDE = 2.0  # of an axis of them: a mix has a handful, and a front with and without it no readable axis else

Halves = tuple[int, int]


def share_of(row: Row, record: Record) -> float:
    """Parameters in percent of the unchanged model's."""
    return 100 * (row.parameters or 0) / record.parameters


def halves_of(pattern: Pattern, num_layers: int) -> list[Halves]:
    """For each source layer, how often its attention half and its FFN half stand in the pattern."""
    counts = [[0, 0] for _ in range(num_layers)]
    for block in pattern.blocks:
        counts[block.layer][0] += block.halves != "ffn"
        counts[block.layer][1] += block.halves != "attention"
    return [(attention, ffn) for attention, ffn in counts]


def shares_kept(patterns: Sequence[Pattern], num_layers: int) -> list[tuple[float, float]]:
    """For each source layer, the share of the patterns that have its attention half, and its FFN half."""
    halves = [halves_of(pattern, num_layers) for pattern in patterns]
    number = max(1, len(patterns))
    return [
        (sum(of[layer][0] > 0 for of in halves) / number, sum(of[layer][1] > 0 for of in halves) / number)
        for layer in range(num_layers)
    ]

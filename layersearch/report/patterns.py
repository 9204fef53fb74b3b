"""What `layersearch patterns` shows: the numbers that were measured of each layer, and the patterns of strategies.

Knows: rich, measured numbers, spelled patterns. Does not know: how they came about. Results go to standard output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from layersearch.pattern import legend_for
from layersearch.report.table import print_legend

if TYPE_CHECKING:
    from layersearch.measured import Measured
    from layersearch.search.patterns import Spelled

_ABOUT = (
    "first token, all tokens: cosine before and after the layer (contribution; 1 - block influence), the highest may "
    "go first; attention, FFN: influence of the half; turn: angular distance of the last token, in half turns; "
    "weights: mean size and variance; of all these the lowest"
)


def print_patterns(console: Console, found: Sequence[Spelled], measured: Measured | None, num_layers: int) -> None:
    """The patterns of a model with `num_layers` layers, under the numbers that were `measured` for them."""
    if measured is not None:
        console.print(_numbers(measured))
        print_legend(console, _ABOUT)
    table = _table("strategy", "k", "layers", "pattern", "parameters", "share")
    for one in found:
        k = "" if one.k is None else str(one.k)
        cells = (one.strategy, k, one.pattern.diagram(num_layers), str(one.pattern))
        table.add_row(*cells, f"{one.parameters:,}", f"{one.share:.1%}")
    console.print(table)
    console.print(legend_for(one.pattern for one in found), style="dim", soft_wrap=True)


def _numbers(measured: Measured) -> Table:
    table = _table("layer", "first token", "all tokens", "attention", "FFN", "turn", "weight size", "variance")
    turns = [measured.apart[layer][layer + 1] for layer in range(measured.num_layers)]
    sizes = (measured.weight_size, measured.weight_variance)
    columns = (measured.first_token, measured.all_tokens, measured.attention, measured.ffn, turns, *sizes)
    for layer, values in enumerate(zip(*columns, strict=True)):
        table.add_row(str(layer), *(f"{value:.4g}" for value in values))
    return table


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(title, no_wrap=True, justify="left" if title in ("strategy", "layers", "pattern") else "right")
    return table

"""What layers are worth, for people and for programs: one study in full, or several as a map.

Knows: rich's tables, costs with their intervals and what they mean. Does not know: how they came about, SQL, pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from layersearch.analysis.importance import SCORES, Estimate, Importance

BAR = 16  # letters of the largest cost's bar
HARDLY = 0.05  # of R2, gained over size alone
POINTS_IN_ONE = 100  # a point is a hundredth of the metric
_EIGHTHS = " ▏▎▍▌▋▊▉"


def print_importance(console: Console, found: Sequence[tuple[str, Importance]]) -> None:
    """One study's costs part by part, or several, each under its name, as a map."""
    if len(found) == 1:
        _print_one(console, found[0][1])
    else:
        _print_map(console, found)


def _print_one(console: Console, found: Importance) -> None:
    if found.silent:
        console.print(found.silent, soft_wrap=True, markup=False)
        return
    console.print(_costs(found))
    console.print()
    console.print(_pairs(found))
    console.print()
    for line in lines_of(found):
        console.print(line, soft_wrap=True, markup=False)


def _costs(found: Importance) -> Table:
    """A line a part; a bar leaves 0 out only if the interval does."""
    most = max(abs(one.cost) for one in found.costs.values())
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("dropped", "cost", "95 % interval", "", "in patterns"):
        table.add_column(Text(title), justify="left" if title in ("dropped", "") else "right", no_wrap=True)
    for part, one in found.costs.items():
        bar = Text(_bar(abs(one.cost) / most), style=_colour(one))
        table.add_row(str(part), f"{one.cost:+.4f}", _interval(one), bar, str(found.dropped[part]))
    return table


def _bar(share: float) -> str:
    eighths = round(8 * BAR * share)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def _colour(one: Estimate) -> str:
    if not one.is_told:
        return "dim"
    return "red" if one.cost > 0 else "green"


def _interval(one: Estimate) -> str:
    return f"{one.low:+.4f} to {one.high:+.4f}"


def _pairs(found: Importance) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    title = f"strongest of {found.all_pairs} pairs" if len(found.pairs) < found.all_pairs else "pairs"
    for name in (title, "cost beyond both", "95 % interval"):
        table.add_column(Text(name), justify="left" if name == title else "right", no_wrap=True)
    for pair, one in found.pairs.items():
        table.add_row(pair_name(*pair), f"{one.cost:+.4f}", _interval(one))
    return table


def pair_name(first: object, second: object) -> str:
    """A pair in words."""
    return f"{first} and {second}"


def lines_of(found: Importance) -> list[str]:
    """What the numbers are, a line each."""
    quality, scale = found.quality, f"the logarithm of {found.metric}" if found.logged else found.metric
    adds = "added to" if found.less else "taken off"
    lines = [
        f"fitted: {found.patterns} {SCORES[found.source]}; each left out is told by the others with rank correlation "
        f"{quality.rho:.2f} and R2 {quality.r2:.2f} (from how much is dropped alone: R2 {quality.size_r2:.2f})",
        f"cost: {adds} {scale} by dropping, on average over these patterns, whatever else they "
        "drop; a pair's is what both cost beyond what each costs alone",
        "intervals: 95 % of the posterior of a linear model of parts and pairs, each by itself; they hold the noise of "
        "scores and that patterns are few, not another seed, recipe or search",
    ]
    if quality.r2 - quality.size_r2 < HARDLY:
        lines.append("how much is dropped tells nearly as much: which layers, hardly anything")
    if any(part.again for part in found.costs):
        lines.append("again: the cost of a further copy; 3a, 3f: the attention half, the FFN half of layer 3")
    elif any(part.halves != "both" for part in found.costs):
        lines.append("3a, 3f: the attention half, the FFN half of layer 3")
    if found.depths:
        lines.append(f"layers 0-{found.depths[0] - 1} are the encoder's, the others the decoder's")
    if found.influence is not None:
        lines.append(f"block influence, measured before the search, ranks these costs with {found.influence:.2f}")
    return lines


def _print_map(console: Console, found: Sequence[tuple[str, Importance]]) -> None:
    deepest = max(one.num_layers for _, one in found)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column(Text("study"), no_wrap=True)
    table.add_column(Text(""), no_wrap=True)
    for place in range(deepest):
        table.add_column(Text(_head(place, found)), justify="right", no_wrap=True)
    table.add_column(Text("R2"), justify="right", no_wrap=True)
    for name, one in found:
        for word, row in one.rows.items():
            cells = [_cell(row, place, deepest) for place in range(deepest)]
            table.add_row(Text(name), word, *cells, f"{one.quality.r2:.2f}")
    if table.row_count:
        console.print(table)
        for line in map_lines(found):
            console.print(line, soft_wrap=True, markup=False)
    for _, one in found:
        if one.silent:
            console.print(one.silent, soft_wrap=True, markup=False)


def _head(place: int, found: Sequence[tuple[str, Importance]]) -> str:
    """A layer's number; where depths differ, the share of the layers that lie below."""
    depths = {one.num_layers for _, one in found}
    return str(place) if len(depths) == 1 else f"{place / max(depths):.0%}"


def _cell(row: Sequence[Estimate | None], place: int, deepest: int) -> Text:
    """The cost in points, where a layer begins; a shallower model's layers take several places."""
    layer = place * len(row) // deepest
    one = row[layer]
    begins = place == -(-layer * deepest // len(row))
    if one is None or not begins:
        return Text("")
    return Text(points(one), style=_colour(one))


def points(one: Estimate) -> str:
    """The cost in points."""
    return f"{round(POINTS_IN_ONE * one.cost, 1) + 0.0:.1f}"  # no -0.0


def map_lines(found: Sequence[tuple[str, Importance]]) -> list[str]:
    """What a map's numbers are, a line each."""
    lines = ["costs of dropping in hundredths of each study's metric (of its logarithm, where less is better)"]
    lines.append("red: it costs, green: it gains, dim: the 95 % interval holds 0; `--json` has the intervals")
    if len({one.num_layers for _, one in found}) > 1:
        lines.append("depths differ: a layer stands where its relative depth begins")
    used = sorted({one.source for _, one in found})
    lines.append(f"fitted: {' and '.join(SCORES[source] for source in used)}")
    return lines


def as_plain(found: Importance) -> dict[str, Any]:
    """The importance as plain values for JSON."""
    return {
        "study": found.name,
        "scores": found.source,
        "patterns": found.patterns,
        "metric": found.metric,
        "logarithms": found.logged,
        "num_layers": found.num_layers,
        "depths": list(found.depths),
        "quality": asdict(found.quality),
        "silent": found.silent,
        "costs": [
            {"layer": part.layer, "halves": part.halves, "again": part.again, **asdict(one), "in": found.dropped[part]}
            for part, one in found.costs.items()
        ],
        "pairs": [
            {"first": str(first), "second": str(second), **asdict(one)} for (first, second), one in found.pairs.items()
        ],
        "all_pairs": found.all_pairs,
        "block_influence": found.influence,
    }

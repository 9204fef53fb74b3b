"""Pictures of what layers are worth: a section of the report, and figures of one study or several.

Knows: costs with their intervals, matplotlib, the page's marks. Does not know: how costs came about, SQL, terminals.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from layersearch.analysis.importance import Estimate, Importance, importance_of
from layersearch.errors import StudyError
from layersearch.report.canvas import new_axes, require_format, save
from layersearch.report.importance import lines_of, pair_name, points
from layersearch.report.page import paragraph, section, table
from layersearch.report.svg import WIDTH, text
from layersearch.search.record import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEFT, _ROW, _CELL = 130.0, 24.0, 60.0
_COLOURS = ("#1f5fa8", "#8fb4dd", "#c2571a", "#7a3fa0", "#4d8f4d", "0.45")
PALE = 0.45  # opacity of what cannot be told from 0


def importance_section(record: Record) -> str:
    """What the study's own scores say of its layers, and its shared scores if it has them; or why they say nothing."""
    parts = [_part(record, shared=shared) for shared in ((False, True) if record.shared else (False,))]
    return section("What dropping each layer costs", *parts)


def _part(record: Record, *, shared: bool) -> str:
    try:
        found = importance_of(record, shared=shared)
    except StudyError as error:
        return paragraph(f"Not fitted: {error}.")
    if found.silent:
        return paragraph(f"{found.silent[0].upper()}{found.silent[1:]}.")
    pairs = [
        {"pair": pair_name(*pair), "cost beyond both": f"{one.cost:+.4f}", "95 % interval": _interval(one)}
        for pair, one in found.pairs.items()
    ]
    lines = " ".join(f"{line[0].upper()}{line[1:]}." for line in lines_of(found))
    explained = "Costs in hundredths of the metric; pale: the interval holds 0."
    return (
        f"{paragraph(explained)}<figure>{cost_map(found)}</figure>\n"
        f'{table(pairs) if pairs else ""}<p class="soft">{escape(lines)}</p>\n'
    )


def _interval(one: Estimate) -> str:
    return f"{one.low:+.4f} to {one.high:+.4f}"


def cost_map(found: Importance) -> str:
    """A row for each kind of part, a cell for each layer: its cost, the darker the more; a line ends a stack."""
    most = max(abs(one.cost) for one in found.costs.values())
    cell = min(_CELL, (WIDTH - _LEFT) / found.num_layers)
    width, height = _LEFT + found.num_layers * cell + 2, 26 + len(found.rows) * _ROW
    marks = [text(_LEFT + (n + 0.5) * cell, 16, "middle", str(n), "tick") for n in range(found.num_layers)]
    for number, (word, row) in enumerate(found.rows.items()):
        top = 24 + number * _ROW
        marks.append(text(_LEFT - 8, top + 15, "end", word, "tick"))
        for layer, one in enumerate(row):
            if one is not None:
                marks.append(_cell(_LEFT + layer * cell, top, cell, one, most))
    for depth in found.depths[:-1]:
        across = _LEFT + depth * cell
        marks.append(f'<line class="baseline" x1="{across:g}" y1="4" x2="{across:g}" y2="{height:g}"/>')
    size = f'viewBox="0 0 {width:g} {height:g}" style="max-width:{width:g}px"'
    return f'<svg class="chart map" {size} role="img" aria-label="cost of dropping each part">{"".join(marks)}</svg>\n'


def _cell(left: float, top: float, cell: float, one: Estimate, most: float) -> str:
    share = abs(one.cost) / most
    kind = "share" if one.cost > 0 else "gain"
    place = f'x="{left + 1.5:g}" y="{top:g}" width="{cell - 3:g}" height="{_ROW - 3:g}"'
    words = text(left + cell / 2, top + 15, "middle", points(one), f"tick {'on-dark' if share > 0.55 else 'on-light'}")
    title = f"<title>{one.cost:+.4f}, 95 % interval {_interval(one)}</title>"
    inside = f'<rect class="{kind}" {place} fill-opacity="{share:.2f}"/>{words}'
    return f'<g class="cost" opacity="{1.0 if one.is_told else PALE}">{title}{inside}</g>'


def draw_importance(found: Sequence[tuple[str, Importance]], file: Path) -> None:
    """Costs with their intervals over the layers of one study; of several, each under a name, a map over depth.

    What is silent says so. Raises LayersearchError if `file` has none of `canvas.FORMATS` or cannot be written.
    """
    require_format(file)
    if len(found) == 1:
        figure, axes = new_axes(height=3.8)
        _draw_one(axes, found[0][1])
        axes.set_title(found[0][0], parse_math=False)
    else:
        rows = sum(max(1, len(one.rows)) for _, one in found)
        figure, axes = new_axes(width=9, height=1.6 + 0.36 * rows)
        _draw_map(axes, found)
    save(figure, file)


def _draw_one(axes: Axes, found: Importance) -> None:
    axes.axhline(0, color="0.35", linestyle="--", linewidth=1)
    for number, (word, row) in enumerate(found.rows.items()):
        shift = (number - (len(found.rows) - 1) / 2) * 0.8 / len(found.rows)
        told = [(layer + shift, one) for layer, one in enumerate(row) if one is not None]
        axes.errorbar(
            [place for place, _ in told],
            [one.cost for _, one in told],
            yerr=[[one.cost - one.low for _, one in told], [one.high - one.cost for _, one in told]],
            fmt="o",
            color=_COLOURS[number],
            capsize=3,
            elinewidth=0.8,
            markersize=4,
            label=word,
        )
    axes.set_xticks(range(found.num_layers))
    axes.set_xlabel("layer of the base model, lowest first")
    bars = "\nbars: 95 % intervals" if found.rows else ""
    axes.set_ylabel(f"cost of dropping, {'logarithm of ' * found.logged}{found.metric}{bars}")
    if found.silent:
        axes.text(0.5, 0.5, "nothing is said: the fit is too poor", transform=axes.transAxes, ha="center")
    elif len(found.rows) > 1:
        axes.legend(fontsize=8)


def _draw_map(axes: Axes, found: Sequence[tuple[str, Importance]]) -> None:
    """Rows from above; each row's colours are its own, as metrics differ."""
    labels: list[str] = []
    for name, one in found:
        for word, row in (one.rows or {"nothing is said": []}).items():
            _draw_row(axes, len(labels), row)
            labels.append(f"{name}: {word}")
    axes.set_yticks([number + 0.5 for number in range(len(labels))])
    for label in axes.set_yticklabels(labels):
        label.set_parse_math(False)
    depths = {one.num_layers for _, one in found}
    if len(depths) == 1:
        layers = depths.pop()
        axes.set_xticks([(layer + 0.5) / layers for layer in range(layers)], [str(layer) for layer in range(layers)])
    axes.set_xlabel("relative depth" if depths else "layer of the base model, lowest first")
    axes.set_xlim(0, 1)
    axes.set_ylim(len(labels), 0)
    axes.grid(visible=False)
    axes.set_title(
        "cost of dropping, hundredths of each metric; blue: costs, orange: gains, pale: not told", fontsize=9
    )


def _draw_row(axes: Axes, number: int, row: Sequence[Estimate | None]) -> None:
    most = max((abs(one.cost) for one in row if one is not None), default=0.0) or 1.0
    for layer, one in enumerate(row):
        if one is None:
            continue
        opacity, width = abs(one.cost) / most * (0.9 if one.is_told else PALE), 1 / len(row)
        color = _COLOURS[0] if one.cost > 0 else _COLOURS[2]
        axes.barh(number + 0.5, width * 0.96, left=(layer + 0.02) * width, height=0.88, color=color, alpha=opacity)
        dark = "white" if opacity > 0.55 else "0.15"
        axes.text((layer + 0.5) * width, number + 0.5, points(one), ha="center", va="center", fontsize=7, color=dark)

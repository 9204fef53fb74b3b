"""An analysis as one HTML file that needs nothing else, in the report's own dress.

Knows: the results of analyses, the words around their pictures. Does not know: how they came about, matplotlib. Names
are escaped, and the page forbids itself every connection.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from layersearch.analysis.analyze import Analysis, Map
from layersearch.analysis.probes import Probed
from layersearch.analysis.readout import ReadOut
from layersearch.analysis.similarity import Similarity
from layersearch.analysis.subject import EMBEDDINGS
from layersearch.counts import count
from layersearch.report.analysis import ABOUT, NUMBERS, layers_passed, map_title, without_best
from layersearch.report.page import described, page, paragraph, section, table, write
from layersearch.report.svg import WIDTH, Axis, Chart, text

_CELL, _LEFT, _TOP = 46.0, 110.0, 26.0
_KINDS = (("stairs", "whisker", "member"), ("confirmed", "confirmed", "confirmed"))

BLOCKS = "How far the last token turns over a block of neighbouring layers, in half turns (0: not at all)."

Curve = tuple[Sequence[float], Sequence[float], Sequence[tuple[float, float]]]
"""Where places stand, their scores, and the intervals of these."""


def write_page(found: Analysis, file: Path, about: Sequence[tuple[str, object]] = ()) -> None:
    """Write the page to `file`, whole or not at all; `about` are further facts for its head.

    Raises LayersearchError if the file cannot be written.
    """
    write(page_of(found, about), file, "the page")


def page_of(found: Analysis, about: Sequence[tuple[str, object]] = ()) -> str:
    """The page's text."""
    facts = [
        *about,
        ("examples", f"{found.examples:,} of the part {found.wanted.part}"),
        ("rows", found.wanted.rows),
    ]
    names = " and ".join(found.names)
    head = f'<h1>{escape(names)}</h1>\n<p class="lead">what its layers do</p>\n{described(facts)}'
    return page(f"layersearch: {names}", "".join([head, *sections_of(found)]), [])


def sections_of(found: Analysis) -> list[str]:
    """A section for each thing that was found out. What is of one kind has one scale, whichever model it is of."""
    parts = []
    most = max((turn for similar in found.similarity for row in _turns(similar) for turn in row), default=1.0)
    changes = [change for similar in found.similarity for change in similar.all_halves]
    if found.cka:
        maps = "".join(f"<figure>{_map(one, found)}</figure>\n" for one in found.cka)
        parts.append(section("Layers that are alike", paragraph(ABOUT["cka"]), maps))
    for name, places, similar in zip(found.names, found.places, found.similarity, strict=False):
        charts = f"<figure>{_changes(similar, places[1:], changes)}</figure>\n"
        turns = paragraph(BLOCKS) + f"<figure>{_blocks(similar, places[1:], most)}</figure>\n"
        legend = "Blue: attention halves. Orange: FFN halves."
        parts.append(
            section(f"What layers change: {name}", paragraph(f"{ABOUT['similarity']} {legend}"), charts, turns)
        )
    if found.probes:
        charts = "".join(_probes(probed, found) for probed in found.probes)
        parts.append(section("Probes", paragraph(ABOUT["probes"] + _colours(found)), charts))
    if found.readout:
        parts.append(section("Read-out", paragraph(ABOUT["readout"] + _colours(found)), _readout(found)))
    return parts


def _colours(found: Analysis) -> str:
    return "" if len(found.names) == 1 else f" Blue: {found.names[0]}. Orange: {found.names[1]}."


def _heat(
    values: Sequence[Sequence[float]], down: Sequence[str], across: Sequence[str], about: str, top: float = 1.0
) -> str:
    """Cells, the darker the nearer to the value `top`, with their numbers; NaN is left empty."""
    cell = min(_CELL, (WIDTH - _LEFT) / len(across))
    marks = [text(_LEFT + (n + 0.5) * cell, 16, "middle", name, "tick") for n, name in enumerate(across)]
    for number, (name, row) in enumerate(zip(down, values, strict=True)):
        y = _TOP + number * 24
        marks.append(text(_LEFT - 8, y + 15, "end", name, "tick"))
        for column, value in enumerate(row):
            if not math.isnan(value):
                marks += _cell(_LEFT + column * cell, y, cell, value, value / top)
    width, height = _LEFT + len(across) * cell, _TOP + len(down) * 24 + 6
    size = f'viewBox="0 0 {width:g} {height:g}" style="max-width:{width:g}px"'
    return f'<svg class="chart map" {size} role="img" aria-label="{escape(about)}">{"".join(marks)}</svg>\n'


def _cell(left: float, top: float, cell: float, value: float, share: float) -> list[str]:
    place = f'x="{left + 1:g}" y="{top:g}" width="{cell - 2:g}" height="22"'
    fill = f'<rect class="share" {place} fill-opacity="{min(1.0, max(0.0, share)):.2f}"/>'
    if cell < 28:
        return [fill]
    kind = "on-dark" if share > 0.55 else "on-light"
    return [fill, text(left + cell / 2, top + 15, "middle", f"{value:.2f}", f"tick {kind}")]


def _map(one: Map, found: Analysis) -> str:
    title = map_title(one, found)
    across = ["emb" if name == EMBEDDINGS else name for name in one.across]
    return f"<figcaption>{escape(title)}</figcaption>{_heat(one.values.tolist(), one.down, across, title)}"


def _turns(similar: Similarity) -> list[list[float]]:
    """The angular distances of all blocks [length - 1][first layer]."""
    layers = similar.num_layers
    return [[similar.block(start, length) for start in range(layers - length + 1)] for length in range(1, layers + 1)]


def _blocks(similar: Similarity, names: Sequence[str], most: float) -> str:
    down = [f"{count(length, 'layer')} from" for length in range(1, similar.num_layers + 1)]
    return _heat(_turns(similar), down, names, "angular distance of all blocks", most or 1.0)


def _changes(similar: Similarity, names: Sequence[str], within: Sequence[float]) -> str:
    """The influence of attention and FFN halves over the depth, on an axis that holds the values `within` too."""
    curves = [(range(similar.num_layers), similar.all_halves[half::2], ()) for half in (0, 1)]
    layers = Axis.over(
        range(similar.num_layers), "layer", names=dict([*enumerate(names)][:: -(-len(names) // NUMBERS)])
    )
    return _curves(curves, layers, "influence: 1 - cosine", within=within)


def _curves(
    curves: Sequence[Curve],
    across: Axis,
    title: str,
    level: float | None = None,
    stars: Sequence[tuple[float, float]] = (),
    within: Sequence[float] = (),
) -> str:
    """Up to two curves with their intervals over `across`; `level` is drawn from side to side, `stars` beside points.

    The axis upwards also has room for the values `within`.
    """
    ends = [
        *within,
        *(end for _, scores, pairs in curves for end in (*scores, *(end for pair in pairs for end in pair))),
    ]
    chart = Chart(across, Axis.over([*ends, *([] if level is None else [level])], title), height=300)
    marks = [] if level is None else [chart.level(level, "baseline")]
    for (places, scores, intervals), (line, whisker, mark) in zip(curves, _KINDS, strict=False):
        points = list(zip(places, scores, strict=True))
        marks.append(chart.line(points, line))
        marks += [chart.whisker(place, *pair, whisker) for place, pair in zip(places, intervals, strict=False)]
        draw = chart.dot if mark == "member" else chart.diamond
        marks += [draw(*point, 4, mark) for point in points]
    for x_of, y_of in (chart.at(*point) for point in stars):
        marks.append(text(x_of + 6, y_of - 4, "start", "★", "title"))
    return chart.page(marks, title)


def _depth(found: Analysis) -> Axis:
    """The layers that were passed, of each model its own."""
    most = max(map(len, found.places)) - 1
    return Axis.over([0, most], "layers passed", names={passed: str(passed) for passed in layers_passed(found)})


def _probes(probed: Sequence[Probed], found: Analysis) -> str:
    first = probed[0]
    fit, dev, test = first.examples
    words = (
        f"{first.task}: fitted on {count(fit, 'example')}, strength chosen on {dev:,}, scored on {test:,}; dashed: the "
        f"constant answer, {first.majority:.4f}"
    )
    words = "; ".join((words, *without_best(probed, found)))
    curves = [(range(len(one.scores)), one.scores, one.intervals) for one in probed]
    best = [(one.best, one.scores[one.best]) for one in probed if one.best is not None]
    chart = _curves(curves, _depth(found), first.metric, first.majority, best)
    scores = [f"{score:.4f}{'*' if place == first.best else ''}" for place, score in enumerate(first.scores)]
    rows = [
        {"place": place, first.metric: score, "95 % interval": "{:.4f} to {:.4f}".format(*pair)}
        for place, score, pair in zip(found.places[0], scores, first.intervals, strict=True)
    ]
    inside = f"<figure><figcaption>{escape(words)}</figcaption>{chart}</figure>\n"
    return f"{inside}<details><summary>{escape(found.names[0])} as a table</summary>\n{table(rows)}</details>\n"


def _readout(found: Analysis) -> str:
    def of(read: ReadOut, *, agreement: bool) -> Curve:
        if agreement:
            return range(len(read.agreement)), read.agreement, read.agreement_intervals
        return range(len(read.reconstruction)), read.reconstruction, read.reconstruction_intervals

    says = "the next token" if found.readout[0].foretells else "the token itself"
    titles = {False: f"says {says}, share of tokens", True: "agrees with the unmodified model, share of tokens"}
    charts = (
        _curves(
            [of(read, agreement=which) for read in found.readout],
            _depth(found),
            title,
            within=(0, 1),
        )
        for which, title in titles.items()
    )
    return "".join(f"<figure>{chart}</figure>\n" for chart in charts)

"""The charts of one study: its front, the score kept, its course, and which layers the front keeps.

Knows: the record of a study, and what each mark of a chart stands for. Does not know: pages, scripts, colours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from layersearch.pattern import Pattern
from layersearch.report.course import Step
from layersearch.report.layers import LEAST_WIDE, PARAMETERS, halves_of, share_of, shares_kept
from layersearch.report.svg import WIDTH, Axis, Chart, group, text
from layersearch.search.divergence import constant_in
from layersearch.search.record import Record
from layersearch.search.trials import Row, best_no_larger, tied

_UNITS = ((90.0, 1.0, "seconds"), (5400.0, 60.0, "minutes"), (172800.0, 3600.0, "hours"), (0.0, 86400.0, "days"))


def near_front(record: Record) -> list[Row]:
    """Complete trials behind the front that cannot be told from its best member that is no larger in anything."""
    front, direction = record.front, record.purpose.direction
    behind = [row for row in record.rows if row.done and row.allowed and row not in front]
    better = [(row, best_no_larger(front, row, direction)) for row in behind]
    return [row for row, member in better if member is not None and tied(row, member)]


def front_chart(record: Record) -> str:
    """Every complete trial: score over parameters, with the front, ties, the unchanged model and named strategies."""
    done = [row for row in record.rows if row.done]
    confirmed = [(row, record.confirmed[row.pattern]) for row in record.shown() if row.pattern in record.confirmed]
    means = [(row, found.mean, found.spread or 0.0) for row, found in confirmed]
    ends = [end for row in record.shown() for end in row.interval or ()]
    ends += [mean + sign * spread for _, mean, spread in means for sign in (-1, 1)]
    constant = constant_in(record.rows)
    level = [constant] if constant else []
    chart = Chart(
        Axis.over([share_of(row, record) for row in done], PARAMETERS, least=LEAST_WIDE),
        Axis.over([*(row.score or 0.0 for row in done), *ends, *level], record.purpose.metric),
    )
    marks = [group([chart.level(score, "constant")], "of-constant") for score in level]
    marks += [*_unchanged(chart, record), *_others(chart, record, done), *_members(chart, record)]
    marks.append(group([_confirmed(chart, record, *found) for found in means], "of-confirmed"))
    return chart.page(marks, f"front of study {record.name}: {record.purpose.metric} over parameters")


def _point(row: Row, record: Record) -> tuple[float, float]:
    return share_of(row, record), row.score or 0.0


def _unchanged(chart: Chart, record: Record) -> list[str]:
    """A line at the unchanged model's score, with its interval as a band."""
    baseline = record.baseline
    if baseline is None or baseline.score is None:
        return []
    marks = [chart.band(*baseline.interval, "band")] if baseline.interval else []
    return [group([*marks, chart.level(baseline.score, "baseline")], "of-baseline")]


def _others(chart: Chart, record: Record, done: Sequence[Row]) -> list[str]:
    """Trials behind the front; those that cannot be told from it hollow, named strategies as triangles."""
    front, near = record.front, {row.number for row in near_front(record)}
    plain: list[str] = []
    ties: list[str] = []
    named: list[str] = []
    for row in done:
        point, data = _point(row, record), {"trial": row.number}
        if row.strategy is not None or row == record.baseline:
            kind = "named baseline-mark" if row == record.baseline else "named"
            named.append(chart.triangle(*point, 9.5 if row in front else 6, kind, data))
        elif row not in front:
            (ties if row.number in near else plain).append(
                chart.dot(*point, 3, "tied" if row.number in near else "other", data)
            )
    return [group(plain, "of-others"), group(ties, "of-ties"), group(named, "of-named")]


def _members(chart: Chart, record: Record) -> list[str]:
    """The front with intervals, as stairs where parameters are all that it wants small; rings are ties."""
    front, baseline = sorted(record.front, key=lambda row: row.parameters or 0), record.baseline
    points = [_point(row, record) for row in front]
    whiskers = [chart.whisker(share_of(row, record), *row.interval, "whisker") for row in front if row.interval]
    rings = [
        chart.dot(*point, 8.5, "ring")
        for row, point in zip(front, points, strict=True)
        if baseline is not None and row != baseline and tied(row, baseline)
    ]
    dots = [chart.dot(*point, 5, "member", {"trial": row.number}) for row, point in zip(front, points, strict=True)]
    is_stairs = bool(points) and record.purpose.costs == ("parameters",)
    stairs = [chart.stairs(points, "stairs")] if is_stairs else []
    return [group(whiskers, "of-intervals"), group([*stairs, *rings, *dots], "of-front")]


def _confirmed(chart: Chart, record: Record, row: Row, mean: float, spread: float) -> str:
    across = share_of(row, record)
    whisker = chart.whisker(across, mean - spread, mean + spread, "confirmed") if spread else ""
    return whisker + chart.diamond(across, mean, 5, "confirmed", {"trial": row.number})


def kept_chart(record: Record, across: Callable[[Row], float | None], title: str) -> str:
    """The score kept, in percent of the unchanged model's, over what `across` says of a row; empty without two points.

    Blue are search scores of the front, orange the confirmed ones.
    """
    search, again = [], []
    for row in record.shown():
        x, kept = across(row), record.kept(row)
        if x is None or kept is None:
            continue
        search.append((x, 100 * kept, row.number))
        if (confirmed := record.kept_again(row.pattern)) is not None:
            again.append((x, 100 * confirmed, row.number))
    if len(search) < 2:
        return ""
    every = [*search, *again]
    chart = Chart(
        Axis.over([x for x, _, _ in every], title),
        Axis.over([*(y for _, y, _ in every), 100.0], "score kept, % of the unchanged model's"),
        height=330,
    )
    marks = [chart.level(100.0, "baseline")]
    for points, kind in ((search, "member"), (again if len(again) > 1 else [], "confirmed")):
        draw = chart.dot if kind == "member" else chart.diamond
        marks += [draw(x, y, 4.5, kind, {"trial": number}) for x, y, number in points]
    return chart.page(marks, f"score kept over {title}")


def course_chart(steps: Sequence[Step], cost: Callable[[Step], float | None], title: str) -> str:
    """Hypervolume over what `cost` says of each step, from the first on; a dot where it grew. Empty without either."""
    points = [(found, step) for step in steps if (found := cost(step)) is not None]
    if not points or not any(step.volume for step in steps):
        return ""
    chart = Chart(
        Axis.over([x for x, _ in points], title, from_zero=True),
        Axis.over([step.volume for step in steps], "hypervolume", from_zero=True),
        height=300,
    )
    before = [0.0, *(step.volume for _, step in points)]
    grown = [(x, step) for (x, step), last in zip(points, before, strict=False) if step.volume > last]
    stairs = [(x, step.volume) for x, step in (points[0], *grown)]
    marks = [chart.stairs(stairs, "stairs", points[-1][0])]
    marks += [chart.dot(x, step.volume, 3.5, "member", {"trial": step.trial}) for x, step in grown]
    return chart.page(marks, f"hypervolume over {title}")


def time_unit(seconds: float) -> tuple[float, str]:
    """How many seconds the unit has in which a span is best told, and its name."""
    return next((size, name) for most, size, name in _UNITS if seconds < most or not most)


_ROW, _CELL = 19.0, 30.0
_LEFT, _RIGHT = 210.0, 8.0


def layer_map(record: Record) -> str:
    """A row for each front member, in it each layer's attention half above its FFN half; how often at the foot."""
    layers = int(record.facts["num_layers"])
    front = record.front
    cell = min(_CELL, (WIDTH - _LEFT - _RIGHT) / layers)
    width, foot = _LEFT + layers * cell + _RIGHT, 26 + len(front) * _ROW
    marks = [text(_LEFT + (n + 0.5) * cell, 16, "middle", str(n), "tick") for n in range(layers)]
    for number, row in enumerate(front):
        top = 24 + number * _ROW
        title = f"trial {row.number}: {share_of(row, record):.1f} %, {row.score:.4f}"
        cells = [text(_LEFT - 8, top + 12, "end", title, "tick")]
        for layer, halves in enumerate(halves_of(Pattern.parse(row.pattern), layers)):
            cells += _cell(_LEFT + layer * cell, top, cell, halves)
        marks.append(f'<g class="map-row" data-trial="{row.number}">{"".join(cells)}</g>')
    for half, name in enumerate(("attention kept by", "FFN kept by")):
        marks.append(text(_LEFT - 8, foot + 17 + half * 20, "end", f"{name}, % of the front", "tick"))
    for layer, shares in enumerate(shares_kept([Pattern.parse(row.pattern) for row in front], layers)):
        for half, share in enumerate(shares):
            marks += _share_cell(_LEFT + layer * cell, foot + 4 + half * 20, cell, share)
    size = f'viewBox="0 0 {width:g} {foot + 50:g}" style="max-width:{width:g}px"'
    return f'<svg class="chart map" {size} role="img" aria-label="layers that the front keeps">{"".join(marks)}</svg>\n'


def _cell(left: float, top: float, cell: float, halves: tuple[int, int]) -> list[str]:
    marks = []
    for half, times in enumerate(halves):
        kind = "gone" if not times else "half-attention" if half == 0 else "half-ffn"
        place = f'x="{left + 1.5:g}" y="{top + half * 8:g}" width="{cell - 3:g}" height="7.5"'
        marks.append(f'<rect class="{kind}" {place}/>')
    if max(halves) > 1:
        marks.append(text(left + cell / 2, top + 12, "middle", f"x{max(halves)}", "times"))
    return marks


def _share_cell(left: float, top: float, cell: float, share: float) -> list[str]:
    place = f'x="{left + 1.5:g}" y="{top:g}" width="{cell - 3:g}" height="18"'
    fill = f'<rect class="share" {place} fill-opacity="{share:.2f}"/>'
    kind = "on-dark" if share > 0.55 else "on-light"
    return [fill, text(left + cell / 2, top + 13, "middle", f"{100 * share:.0f}", f"tick {kind}")]

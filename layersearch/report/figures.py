"""Figures for people's eyes and papers.

Knows: matplotlib and the record of a study. Does not know: SQL, terminals, models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from layersearch.counts import count
from layersearch.pattern import Pattern
from layersearch.report.canvas import legend_below, new_axes, require_format, save
from layersearch.report.course import course_of
from layersearch.report.layers import LEAST_WIDE, PARAMETERS, halves_of, share_of, shares_kept
from layersearch.search.divergence import constant_in
from layersearch.search.objectives import COSTS
from layersearch.search.record import Record
from layersearch.search.trials import Confirmed, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation

_FRONT = "#1f5fa8"
_LIGHT = "#8fb4dd"
_CONFIRMED = "#c2571a"
_UNCHANGED = "0.35"
LETTER = 0.009  # width of a letter of a name, as a share of the axes


def draw_front(record: Record, file: Path) -> None:
    """Every complete trial and the front: score over the share of parameters, intervals, baseline, confirmation.

    A search with other costs gets one such picture for each of them, side by side.

    Makes the folders above `file`. Raises LayersearchError if `file` has none of `FORMATS` or cannot be written.
    """
    require_format(file)
    from matplotlib.figure import Figure

    costs = record.purpose.costs
    figure = Figure(figsize=(8 * len(costs), 5), dpi=150, layout="constrained")
    drawn = figure.subplots(1, len(costs), squeeze=False)
    names = [_draw_against(axes, Shown(record, place)) for place, axes in enumerate(drawn[0])]
    figure.draw_without_rendering()
    for of_one in names:
        _hide_overlapping(of_one)
    save(figure, file)


def draw_both(records: Sequence[tuple[str, Record]], file: Path) -> None:
    """The fronts of two studies over each other, each under a name: search scores with their intervals.

    Raises LayersearchError like `draw_front`.
    """
    require_format(file)
    figure, axes = new_axes()
    for (name, record), color, mark in zip(records, (_FRONT, _CONFIRMED), "os", strict=True):
        front = sorted(record.front, key=lambda row: row.parameters or 0)
        points = [share_of(row, record) for row in front], [row.score or 0.0 for row in front]
        if record.purpose.costs == ("parameters",):
            axes.step(*points, where="post", color=color, linewidth=1, alpha=0.6)
        whiskers = _whiskers(front)
        axes.errorbar(*points, yerr=whiskers, fmt=mark, color=color, elinewidth=0.8, capsize=3, alpha=0.85, label=name)
        if record.baseline is not None and record.baseline.score is not None:
            axes.axhline(record.baseline.score, color=color, linestyle="--", linewidth=1, alpha=0.6)
    axes.set_xlabel(PARAMETERS)
    axes.set_ylabel(records[0][1].purpose.metric)
    axes.set_title("fronts as their searches scored them; dashed: the unchanged models")
    legend_below(figure, axes, columns=1)
    save(figure, file)


def draw_all(record: Record, folder: Path) -> list[Path]:
    """The pictures of the report as PNGs in `folder`; the files that were drawn.

    Raises LayersearchError where one cannot be written.
    """
    drawn = {folder / f"{name}.png": draw for name, draw in pictures_of(record).items()}
    for file, draw in drawn.items():
        draw(record, file)
    return list(drawn)


def pictures_of(record: Record) -> dict[str, Callable[[Record, Path], None]]:
    """What draws the pictures that have something to show, by name: front, layers, score kept, course."""
    found: dict[str, Callable[[Record, Path], None]] = {"front": draw_front}
    if record.front:
        found["layers"] = _draw_layers
    if any(record.kept(row) is not None for row in record.front):
        found["kept"] = _draw_kept
    if any(step.work and step.volume for step in course_of(record)):
        found["course"] = _draw_course
    return found


def _draw_layers(record: Record, file: Path) -> None:
    """How much of the front keeps each layer, as bars; each half of it where one was kept without the other."""
    layers = int(record.facts["num_layers"])
    patterns = [Pattern.parse(row.pattern) for row in record.front]
    shares = shares_kept(patterns, layers)
    figure, axes = new_axes(height=3.2)
    if all(bool(attention) == bool(ffn) for one in patterns for attention, ffn in halves_of(one, layers)):
        axes.bar(range(layers), [100 * share for share, _ in shares], width=0.7, color=_FRONT, zorder=2)
    else:
        for half, (name, color) in enumerate((("attention half", _FRONT), ("FFN half", _LIGHT))):
            places = [layer + (half - 0.5) * 0.4 for layer in range(layers)]
            axes.bar(places, [100 * share[half] for share in shares], width=0.38, color=color, label=name, zorder=2)
        axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    axes.set_xticks(range(layers))
    axes.set_xlabel("layer of the base model, lowest first")
    axes.set_ylabel(f"kept by, % of the front ({len(record.front)})")
    axes.set_title(record.name, parse_math=False)
    save(figure, file)


def _draw_kept(record: Record, file: Path) -> None:
    """The score kept over the share of parameters: in the search, and confirmed where both are."""
    rows = record.shown()
    kept = [(share_of(row, record), 100 * share) for row in rows if (share := record.kept(row))]
    again = [
        (share_of(row, record), 100 * share) for row in rows if (share := record.kept_again(row.pattern)) is not None
    ]
    figure, axes = new_axes(height=3.6)
    axes.axhline(100, color=_UNCHANGED, linestyle="--", linewidth=1)
    axes.plot(*zip(*sorted(kept), strict=True), "o", color=_FRONT, label="on the search split", zorder=3)
    if len(again) > 1:  # the unchanged model alone keeps all of itself
        points = zip(*sorted(again), strict=True)
        axes.plot(*points, "D", color=_CONFIRMED, markerfacecolor="none", label="confirmed", zorder=3)
    axes.set_xlabel(PARAMETERS)
    axes.set_ylabel("score kept, %")
    axes.set_title(record.name, parse_math=False)
    axes.legend(fontsize=8)
    save(figure, file)


def _draw_course(record: Record, file: Path) -> None:
    """Hypervolume over the work that was spent."""
    points = [(step.work, step.volume) for step in course_of(record) if step.work is not None]
    figure, axes = new_axes(height=3.6)
    axes.step(*zip(*points, strict=True), "o-", where="post", color=_FRONT, markersize=3)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("work, fine-tunings of the unchanged model")
    axes.set_ylabel("hypervolume")
    axes.set_title(record.name, parse_math=False)
    save(figure, file)


@dataclass(frozen=True)
class Shown:
    """A record, drawn against the cost at one place of its objectives."""

    record: Record
    place: int = 0

    @property
    def cost(self) -> str:
        """The cost's name."""
        return self.record.purpose.costs[self.place]

    def share(self, row: Row) -> float:
        """In percent of the unchanged model, or in the cost's own unit where that is not done."""
        baseline, value = self.record.baseline, row.sizes[self.place]
        if self.cost == "parameters":
            return value / self.record.parameters * 100
        return value / COSTS[self.cost].scale if baseline is None else value / baseline.sizes[self.place] * 100


def _draw_against(axes: Axes, shown: Shown) -> list[Annotation]:
    """Score over one cost; the names that it writes."""
    record = shown.record
    _draw_baseline(axes, shown)
    _draw_trials(axes, shown)
    _draw_confirmation(axes, shown)
    known = shown.cost == "parameters" or record.baseline is not None
    title = "parameters" if shown.cost == "parameters" else COSTS[shown.cost].title.rpartition(" ")[0] or shown.cost
    axes.set_xlabel(f"{title}, % of the unchanged model" if known else COSTS[shown.cost].title)
    axes.set_ylabel(record.purpose.metric)
    axes.set_title(record.name, parse_math=False)
    axes.grid(alpha=0.25)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best", fontsize=8, framealpha=1)
    _make_room_on_the_left(axes, record)
    return [_name(axes, row, shown) for row in record.front]


def _draw_baseline(axes: Axes, shown: Shown) -> None:
    """A line and its interval, and one for an answer that reads nothing; a point only where the front has none."""
    record, baseline = shown.record, shown.record.baseline
    if constant := constant_in(record.rows):
        axes.axhline(constant, color="0.5", linestyle=":", linewidth=1.2, label="best constant answer")
    if baseline is None or baseline.score is None:
        return
    axes.axhline(baseline.score, color=_UNCHANGED, linestyle="--", linewidth=1)
    if baseline.interval is not None:
        axes.axhspan(*baseline.interval, color=_UNCHANGED, alpha=0.1, linewidth=0)
    axes.plot(
        *_points([baseline], shown),
        color=_UNCHANGED,
        linestyle="--",
        linewidth=1,
        marker="" if baseline in record.front else "s",
        label=f"unchanged model ({baseline.pattern}), 95 % interval",
        zorder=3,
    )


def _draw_trials(axes: Axes, shown: Shown) -> None:
    """The front as stairs: at a given size, the best of what is no larger; with two costs it is none in either."""
    record = shown.record
    front = sorted(record.front, key=shown.share)
    named = record.shown()
    others = [row for row in record.rows if row.done and row not in named]
    if others:
        axes.scatter(*_points(others, shown), s=18, color="0.65", label=f"other trials ({len(others)})", zorder=2)
    if not front:
        return
    if len(record.purpose.costs) == 1:
        axes.step(*_points(front, shown), where="post", color=_FRONT, linewidth=1, alpha=0.6, zorder=2)
    axes.errorbar(
        *_points(front, shown),
        yerr=_whiskers(front),
        fmt="o",
        color=_FRONT,
        elinewidth=0.8,
        capsize=3,
        label="front on the search split, 95 % intervals",
        zorder=3,
    )


def _draw_confirmation(axes: Axes, shown: Shown) -> None:
    record = shown.record
    sizes = {row.pattern: shown.share(row) for row in record.rows if row.done}
    found = [confirmed for pattern, confirmed in record.confirmed.items() if pattern in sizes]
    if found:
        axes.errorbar(
            [sizes[confirmed.pattern] for confirmed in found],
            [confirmed.mean for confirmed in found],
            yerr=None if all(c.spread is None for c in found) else [confirmed.spread or 0.0 for confirmed in found],
            fmt="D",
            color=_CONFIRMED,
            markersize=5,
            markerfacecolor="none",
            capsize=3,
            label=f"confirmed on the validation set, {_over_seeds(found)}",
            zorder=4,
        )


def _over_seeds(found: list[Confirmed]) -> str:
    most = max(len(confirmed.seeds) for confirmed in found)
    return "one fresh seed" if most == 1 else f"mean ± sd over {count(most, 'fresh seed')}"


def _points(rows: list[Row], shown: Shown) -> tuple[list[float], list[float]]:
    return [shown.share(row) for row in rows], [row.score or 0.0 for row in rows]


def _whiskers(rows: list[Row]) -> list[list[float]]:
    """Distances from the score down and up to its interval."""
    lows = [max(0.0, (r.score or 0.0) - r.interval[0]) if r.interval else 0.0 for r in rows]
    highs = [max(0.0, r.interval[1] - (r.score or 0.0)) if r.interval else 0.0 for r in rows]
    return [lows, highs]


def _name(axes: Axes, row: Row, shown: Shown) -> Annotation:
    """The pattern, left of its whisker's better end: no trial can lie there, or this one would not be on the front."""
    below, above = (end[0] for end in _whiskers([row]))
    more = shown.record.purpose.direction == "maximize"
    return axes.annotate(
        row.pattern,
        (shown.share(row), (row.score or 0.0) + (above if more else -below)),
        textcoords="offset points",
        xytext=(-5, 3 if more else -3),
        horizontalalignment="right",
        verticalalignment="baseline" if more else "top",
        fontsize=7,
        bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.5},
        zorder=5,
    )


def _make_room_on_the_left(axes: Axes, record: Record) -> None:
    """Room for the name of the smallest front member, which stands left of its point."""
    letters = len(record.front[-1].pattern) if record.front else 0
    low, high = axes.get_xlim()
    wide = max(0.0, LEAST_WIDE - (high - low)) / 2
    low, high = low - wide, high + wide
    axes.set_xlim(low - (high - low) * LETTER * letters, high)


def _hide_overlapping(names: list[Annotation]) -> None:
    """Of names that lie over each other the first stays; the table has them all."""
    shown: list[Annotation] = []
    for name in names:
        box = name.get_window_extent()
        name.set_visible(not any(box.overlaps(other.get_window_extent()) for other in shown))
        if name.get_visible():
            shown.append(name)

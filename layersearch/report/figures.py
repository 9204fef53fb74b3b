"""Figures for people's eyes and papers.

Knows: matplotlib and the record of a study. Does not know: SQL, terminals, models.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from layersearch.errors import LayersearchError
from layersearch.search.record import Record
from layersearch.search.trials import Confirmed, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation

FORMATS = (".png", ".pdf", ".svg")
_FRONT = "#1f5fa8"
_CONFIRMED = "#c2571a"
_UNCHANGED = "0.35"
LETTER = 0.009  # width of a letter of a name, as a share of the axes


def draw_front(record: Record, file: Path) -> None:
    """Every complete trial and the front: score over the share of parameters, intervals, baseline, confirmation.

    Makes the folders above `file`. Raises LayersearchError if `file` has none of `FORMATS` or cannot be written.
    """
    if file.suffix.lower() not in FORMATS:
        allowed = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise LayersearchError(f"no figure can be drawn as {str(file)!r}: end its name in {allowed}")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), dpi=150, layout="constrained")
    _draw_baseline(axes, record)
    _draw_trials(axes, record)
    _draw_confirmation(axes, record)
    axes.set_xlabel("parameters, % of the unchanged model")
    axes.set_ylabel(record.purpose.metric)
    axes.set_title(record.name)
    axes.grid(alpha=0.25)
    axes.legend(loc="best", fontsize=8)
    _make_room_on_the_left(axes, record)
    names = [_name(axes, row, record) for row in record.front]
    figure.draw_without_rendering()
    _hide_overlapping(names)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file)
    except OSError as error:
        raise LayersearchError(
            f"the figure cannot be written to {file}: {error.strerror or error}; name another place"
        ) from error
    finally:
        pyplot.close(figure)


def _draw_baseline(axes: Axes, record: Record) -> None:
    """A line and its interval; a point of its own only where the front has none for it."""
    baseline = record.baseline
    if baseline is None or baseline.score is None:
        return
    axes.axhline(baseline.score, color=_UNCHANGED, linestyle="--", linewidth=1)
    if baseline.interval is not None:
        axes.axhspan(*baseline.interval, color=_UNCHANGED, alpha=0.1, linewidth=0)
    axes.plot(
        *_points([baseline], record),
        color=_UNCHANGED,
        linestyle="--",
        linewidth=1,
        marker="" if baseline in record.front else "s",
        label=f"unchanged model ({baseline.pattern}), 95 % interval",
        zorder=3,
    )


def _draw_trials(axes: Axes, record: Record) -> None:
    """The front as stairs: at a given size, the best of what is no larger."""
    front = record.front[::-1]
    named = record.shown()
    others = [row for row in record.rows if row.done and row not in named]
    axes.scatter(*_points(others, record), s=18, color="0.65", label=f"other trials ({len(others)})", zorder=2)
    axes.step(*_points(front, record), where="post", color=_FRONT, linewidth=1, alpha=0.6, zorder=2)
    axes.errorbar(
        *_points(front, record),
        yerr=_whiskers(front),
        fmt="o",
        color=_FRONT,
        elinewidth=0.8,
        capsize=3,
        label="front on the search split, 95 % intervals",
        zorder=3,
    )


def _draw_confirmation(axes: Axes, record: Record) -> None:
    sizes = {row.pattern: _share(row, record) for row in record.rows if row.done}
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
    return "one fresh seed" if most == 1 else f"mean ± sd over {most} fresh seeds"


def _share(row: Row, record: Record) -> float:
    """In percent."""
    return (row.parameters or 0) / record.parameters * 100


def _points(rows: list[Row], record: Record) -> tuple[list[float], list[float]]:
    return [_share(row, record) for row in rows], [row.score or 0.0 for row in rows]


def _whiskers(rows: list[Row]) -> list[list[float]]:
    """Distances from the score down and up to its interval."""
    lows = [max(0.0, (r.score or 0.0) - r.interval[0]) if r.interval else 0.0 for r in rows]
    highs = [max(0.0, r.interval[1] - (r.score or 0.0)) if r.interval else 0.0 for r in rows]
    return [lows, highs]


def _name(axes: Axes, row: Row, record: Record) -> Annotation:
    """The pattern, above and left of its whisker: no trial can lie there, or this one would not be on the front."""
    return axes.annotate(
        row.pattern,
        (_share(row, record), (row.score or 0.0) + _whiskers([row])[1][0]),
        textcoords="offset points",
        xytext=(-5, 3),
        horizontalalignment="right",
        fontsize=7,
        bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.5},
        zorder=5,
    )


def _make_room_on_the_left(axes: Axes, record: Record) -> None:
    """Room for the name of the smallest front member, which stands left of its point."""
    letters = len(record.front[-1].pattern) if record.front else 0
    low, high = axes.get_xlim()
    axes.set_xlim(low - (high - low) * LETTER * letters, high)


def _hide_overlapping(names: list[Annotation]) -> None:
    """Of names that lie over each other the first stays; the table has them all."""
    shown: list[Annotation] = []
    for name in names:
        box = name.get_window_extent()
        name.set_visible(not any(box.overlaps(other.get_window_extent()) for other in shown))
        if name.get_visible():
            shown.append(name)
